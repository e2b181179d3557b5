"""Findings on one device's timeline."""
