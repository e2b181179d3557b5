"""The trust gate `unlinked-gpu-events`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import Case
from advisor_mcp.tracing.families import GATES
from advisor_mcp.tracing.timeline import UNKNOWN, Host

SHARE = 1.0


@GATES.kind("unlinked-gpu-events")
def unlinked_gpu_events(case: Case) -> Iterator[Observation]:
    """Device events without a launch record were launched before the window, or their launch was lost.

    They are counted in the four parts; tools that leave them out get another span and other shares.

    ## Formula
    device events without a host call of their correlation / device events

    ## Threshold
    1 % (chosen here)

    ## Could also be
    - work that another process launched

    ## Change
    Synchronise before the profiler starts, and let it end after the last step.

    ## Next measurement
    The same window with torch.cuda.synchronize() before it.

    ## Lowers
    - launch-bound
    - host-sync
    - stream-wait

    ## References
    - AMD-AGI/TraceLens@171dd74: TraceLens/TreePerf/tree_perf.py (include_unlinked_kernels, off by default)
    """
    if case.device is None or not np.any(case.host.kind == Host.API):
        return
    lost = int((case.launch == UNKNOWN).sum())
    share = 100 * lost / len(case.events)
    if share >= SHARE:
        yield Observation(
            message=f"{lost:,} of {len(case.events):,} GPU events have no launch record; they are counted, their causes are not known.",
            measured=share,
            unit="percent of GPU events",
        )
