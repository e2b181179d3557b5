"""The finding `allocation-calls`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing import intervals
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE
from advisor_mcp.tracing.timeline import Host

SHARE = 2.0
FEWEST = 3
_ALLOCATION = re.compile(
    r"(?:cuda|hip|cu)(?:Malloc|Free|HostAlloc|HostRegister|HostUnregister|MemAlloc|MemFree|MemCreate|MemMap|MemUnmap|MemRelease)"
)


@TIMELINE.kind("allocation-calls")
def allocation_calls(case: Case) -> Iterator[Observation]:
    """Memory is taken from and given back to the driver inside the steps, and those calls wait for the device.

    ## Formula
    idle time during cudaMalloc, cudaFree and their like / span, for at least three such calls in the second half of the window

    ## Threshold
    2 % of the span (chosen here, as for host-sync)

    ## Could also be
    - the first steps, in which the caching allocator still grows

    ## Change
    Keep the caching allocator from giving memory back: no torch.cuda.empty_cache() in the loop, stable tensor sizes,
    PYTORCH_ALLOC_CONF=expandable_segments:True, memory left free by other processes.

    ## Next measurement
    torch.cuda.memory_stats()["num_alloc_retries"] before and after the step.

    ## References
    - https://docs.pytorch.org/docs/stable/notes/cuda.html (memory management)
    - torch 2.13: torch/cuda/memory.py (num_alloc_retries: failed cudaMalloc calls that flush the cache)
    """
    rows = case.hosts.matching(Host.API, _ALLOCATION)
    late = rows[case.host.start[rows] > (case.start + case.end) // 2]
    if case.device is None or len(late) < FEWEST:
        return
    lost = intervals.length(intervals.intersection(case.idle, case.hosts.times(rows)))
    if case.percent(lost) >= SHARE:
        names = np.unique(case.host.name[rows])
        yield Observation(
            message=f"The device idles {lost / MS:,.1f} ms ({case.percent(lost):.1f} % of the span) during {len(rows):,} calls of "
            f"{', '.join(case.timeline.named(names)[:3])}.",
            measured=case.percent(lost),
            unit="percent of the span",
            saves_at_most_ms=lost / MS,
            saves_at_most_percent=case.percent(lost),
        )
