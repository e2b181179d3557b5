"""Reading device memory: the CUDA caching allocator's snapshots and the profiler's memory timelines."""

from advisor_mcp.tracing.memory.history import Churn, DeviceMemory, Held, Holding, MemoryHistory, OutOfMemory, Peak
from advisor_mcp.tracing.memory.snapshot import read_snapshot
from advisor_mcp.tracing.memory.timeline import read_timeline

__all__ = [
    "Churn",
    "DeviceMemory",
    "Held",
    "Holding",
    "MemoryHistory",
    "OutOfMemory",
    "Peak",
    "read_snapshot",
    "read_timeline",
]
