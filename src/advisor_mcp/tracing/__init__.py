"""Reading what a run left behind: training logs, profiler traces, allocator snapshots."""
