"""A fleet of GPUs as an existing Prometheus recorded it: what jobs did with them, and what they suffer from."""
