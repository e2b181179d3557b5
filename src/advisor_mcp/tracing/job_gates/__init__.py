"""Trust gates over several traces, one file each."""
