"""Findings on a record of device memory."""
