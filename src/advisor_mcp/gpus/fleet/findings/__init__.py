"""One file per kind of finding over a fleet; each registers itself with `evidence.FLEET`."""
