"""The trust gate `startup-in-window`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing import intervals
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import GATES
from advisor_mcp.tracing.split import API, HOST
from advisor_mcp.tracing.timeline import Host

LONG_CALL_NS = 1_000_000
"""A call that neither waits nor copies takes microseconds; one of a millisecond loads, compiles or allocates."""

SHARE = 10.0


@GATES.kind("startup-in-window")
def startup_in_window(case: Case) -> Iterator[Observation]:
    """Loading of modules, first allocations and library handles happen once; a window that holds them says little of the run.

    ## Formula
    (idle time inside calls of at least 1 ms that do not wait for the device, and inside a single pause of the host that is longer
    than half of the span) / span

    ## Threshold
    10 % of the span (chosen here: start-up calls are milliseconds, launches are microseconds)

    ## Could also be
    - memory that is allocated and freed in every step: then the same calls come again in later steps

    ## Change
    Warm up first: torch.profiler.schedule(wait=1, warmup=3, active=3), or start the profiler after some steps.

    ## Next measurement
    Three steps after a warm-up of at least three.

    ## Lowers
    - launch-bound
    - host-sync
    - copy-bound
    - idle

    ## Withholds
    - host-sync

    ## References
    - facebookresearch/HolisticTraceAnalysis: tests/data/critical_path/alexnet
    """
    if case.device is None:
        return
    calls = np.flatnonzero(case.host.kind == Host.API)
    calls = calls[case.host.end[calls] - case.host.start[calls] >= LONG_CALL_NS]
    once = np.setdiff1d(calls, case.hosts.blocking)
    gaps = case.gaps
    pauses = gaps.of(HOST, API)
    pauses = pauses[gaps.duration[pauses] > case.span / 2]
    idle = intervals.complement(case.busy.all, case.start, case.end)
    held = intervals.union(
        np.concatenate((case.host.start[once], gaps.start[pauses])),
        np.concatenate((case.host.end[once], gaps.end[pauses])),
    )
    lost = intervals.length(intervals.intersection(idle, held))
    if case.percent(lost) >= SHARE:
        names = sorted({case.timeline.names[int(name)] for name in case.host.name[once]})[:3]
        yield Observation(
            message=f"{lost / MS:,.1f} ms ({case.percent(lost):.1f} % of the span) look like start-up"
            f"{' in ' + ', '.join(names) if names else ''}, so the shares say little about a steady step.",
            measured=case.percent(lost),
            unit="percent of the span",
        )
