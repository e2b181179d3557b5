"""What was measured: logs and result files read into samples, and the statistics that compare them."""
