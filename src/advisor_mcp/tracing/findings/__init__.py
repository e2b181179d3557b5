"""Findings on traces, one file each; which evidence they are made on is their folder."""
