"""Reading what a run left behind: profiler traces, allocator snapshots."""
