"""The trust gate `startup-in-window`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import LONG_CALL_NS, MS, Case
from advisor_mcp.tracing.families import GATES
from advisor_mcp.tracing.timeline import Host

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
    - allocation-calls

    ## References
    - facebookresearch/HolisticTraceAnalysis@f4d0062: tests/data/critical_path/alexnet (a window that is nearly all start-up)
    - torch 2.13: torch/profiler/profiler.py (schedule)
    """
    if case.percent(case.startup) < SHARE:
        return
    calls = np.flatnonzero((case.host.kind == Host.API) & (case.host.end - case.host.start >= LONG_CALL_NS))
    names = case.timeline.named(np.unique(case.host.name[np.setdiff1d(calls, case.hosts.blocking)]))[:3]
    yield Observation(
        message=f"{case.startup / MS:,.1f} ms ({case.percent(case.startup):.1f} % of the span) look like start-up"
        f"{' in ' + ', '.join(names) if names else ''}, so the shares say little about a steady step.",
        measured=case.percent(case.startup),
        unit="percent of the span",
    )
