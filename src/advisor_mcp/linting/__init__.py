"""Configurations of training and serving tools, read with positions and held against rules, without running anything."""
