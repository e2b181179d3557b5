"""One reader per tool: `read(release) -> Snapshot`."""
