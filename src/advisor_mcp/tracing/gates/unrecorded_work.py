"""The trust gate `unrecorded-work`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing import intervals
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import GATES

SHARE = 5.0
SHORTEST_NS = 100_000
"""A blocking call returns within tens of microseconds of the device being done."""


@GATES.kind("unrecorded-work")
def unrecorded_work(case: Case) -> Iterator[Observation]:
    """While the host waits for the device in a call, the device has something to do: an idle one there was not recorded whole.

    ## Formula
    idle stretches of at least 0.1 ms that lie inside blocking calls / span

    ## Threshold
    5 % of the span (chosen here)

    ## Could also be
    - a device that waits itself: for another rank, another process or a copy that the profiler did not see

    ## Change
    Profile the same step without CUDA or HIP graphs, or with Nsight Systems or rocprof; begin the window after a synchronisation.

    ## Next measurement
    The step's wall time with and without the profiler, beside the device's own utilisation.

    ## Lowers
    - idle
    - launch-bound
    - host-sync
    - stream-wait

    ## References
    - AMD-AGI/TraceLens#728
    - AMD-AGI/Hyperloom#1047
    """
    if case.device is None:
        return
    waiting = case.hosts.times(case.hosts.blocking)
    starts, ends = intervals.intersection(case.idle, waiting)
    long = ends - starts >= SHORTEST_NS
    lost = int((ends - starts)[long].sum())
    if case.percent(lost) >= SHARE:
        longest = float(np.max((ends - starts)[long])) / MS
        yield Observation(
            message=f"For {lost / MS:,.1f} ms ({case.percent(lost):.1f} % of the span, up to {longest:,.1f} ms at once) the host waits "
            "for the device while the trace shows it idle.",
            measured=case.percent(lost),
            unit="percent of the span",
        )
