"""The families of findings over records beside timelines: device memory and compilation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from advisor_mcp.findings import Family, Finding
from advisor_mcp.tracing.compile_log import CompileLog
from advisor_mcp.tracing.memory import DeviceMemory, MemoryHistory

MEMORY = Family[MemoryHistory]("advisor_mcp.tracing.findings.memory")
"""What a record of device memory shows."""

COMPILING = Family[CompileLog]("advisor_mcp.tracing.findings.compiling")
"""What the structured logs of torch.compile show."""

_KIB = 1024


def memory_findings(history: MemoryHistory) -> list[Finding[MemoryHistory]]:
    """What a memory record shows; each finding is lowered by the doubts about the record."""
    names = tuple(dict.fromkeys(doubt.name for device in history.devices for doubt in device.doubts))
    return [replace(found, lowered_by=names) for found in MEMORY.find(history)]


def compile_findings(log: CompileLog) -> list[Finding[CompileLog]]:
    """What compile logs show; each finding is lowered by the doubts about the logs."""
    names = tuple(dict.fromkeys(doubt.name for doubt in log.doubts))
    return [replace(found, lowered_by=names) for found in COMPILING.find(log)]


def counted(count: int, what: str) -> str:
    """``1 graph break``, ``2 graph breaks``."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def amount(count: int) -> str:
    """Bytes as people read them: ``1.93 GiB``, ``20 MiB``, ``512 bytes``."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if abs(count) >= _KIB**power:
            return f"{round(count / _KIB**power, 2):,g} {unit}"
    return f"{count} bytes"


def worst(
    history: MemoryHistory, measure: Callable[[DeviceMemory], float | None]
) -> tuple[DeviceMemory, str | None] | None:
    """The device with the largest measure (None: not concerned), and where that is to be said when there are several."""
    measured = [(device, value) for device in history.devices if (value := measure(device)) is not None]
    if not measured:
        return None
    device = max(measured, key=lambda pair: pair[1])[0]
    of = len(history.devices)
    where = f"on {len(measured)} of {of} GPUs; figures of GPU {device.device}, the worst" if of > 1 else None
    return device, where


def most_first(lines: Sequence[str], most: int = 5) -> tuple[str, ...]:
    """The first lines, and how many more there are."""
    rest = len(lines) - most
    return tuple(lines[:most]) + ((f"and {rest} more",) if rest > 0 else ())
