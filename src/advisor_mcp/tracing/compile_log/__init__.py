"""Reading torch.compile's structured logs: the files that torch writes under TORCH_TRACE."""

from advisor_mcp.tracing.compile_log.log import (
    CacheLookup,
    Changed,
    Compilation,
    CompileLog,
    Failure,
    GraphBreak,
    Reason,
    Specialised,
)
from advisor_mcp.tracing.compile_log.reading import read_compile_log

__all__ = [
    "CacheLookup",
    "Changed",
    "Compilation",
    "CompileLog",
    "Failure",
    "GraphBreak",
    "Reason",
    "Specialised",
    "read_compile_log",
]
