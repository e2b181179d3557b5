"""One file per finding: each registers a check, whose docstring is its page."""
