"""Small fleets as evidence, made by hand: one host `n0`, one step a minute, an hour unless said otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from advisor_mcp.gpus.fleet.checks import NEEDS
from advisor_mcp.gpus.fleet.evidence import Fleet, Track
from advisor_mcp.gpus.fleet.identity import Unit

EVERYTHING = frozenset(key for groups in NEEDS.values() for group in groups for key in group)
STEPS = 60


def gpu(index: int, share: float = 1, host: str = "n0") -> Unit:
    """A GPU."""
    return Unit(f"GPU-{host}-{index}", host, str(index), "NVIDIA H100 80GB HBM3", share)


def track(
    index: int,
    sm: float,
    job: str | None = "job 1",
    steps: Iterable[int] = range(STEPS),
    util: float | None = None,
    clock_events: Mapping[int, int] | None = None,
    host: str = "n0",
    share: float = 1,
    **means: float,
) -> Track:
    """A GPU in the hands of a job at a steady SM activity; a kernel runs a little more often unless said otherwise."""
    chosen = list(steps)
    shapes = {
        "sm_active": dict.fromkeys(chosen, sm),
        "kernel_running": dict.fromkeys(chosen, min(1.0, 1.1 * sm) if util is None else util),
    }
    usual = {"tensor_active": 0.4, "dram_active": 0.3, "clock": 1755.0, "memory_used": 40_960.0}
    return Track(gpu(index, share, host), job, shapes, {**usual, **means}, clock_events or {}, f"{host}:9400")


def fleet(*tracks: Track, steps: int = STEPS, **more: Any) -> Fleet:
    """A fleet of minutes."""
    return Fleet(**{"step_s": 60, "steps": steps, "tracks": tracks, "present": EVERYTHING, **more})
