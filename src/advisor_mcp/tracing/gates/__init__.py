"""Trust gates: what makes a trace's figures less sure, one file each."""
