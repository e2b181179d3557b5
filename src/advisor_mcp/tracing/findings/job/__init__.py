"""Findings on several ranks of one job."""
