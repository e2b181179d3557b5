"""Measuring what a device reaches: matrix products, copies, launches and all-reduce; the device behind a small interface."""
