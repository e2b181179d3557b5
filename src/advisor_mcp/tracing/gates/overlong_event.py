"""The trust gate `overlong-event`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import GATES

OVERRUN_NS = 10_000
"""Overruns below it are the clock's resolution, and the ends of kernels whose successor was launched early."""

SHARE = 1.0


@GATES.kind("overlong-event")
def overlong_event(case: Case) -> Iterator[Observation]:
    """Work of one stream runs in order: an event that ends long after the next one started has a wrong duration.

    ## Formula
    sum of max(0, end of an event - start of the next on its stream), overruns above 10 microseconds / span

    ## Threshold
    1 % of the span (chosen here)

    ## Could also be
    - several hardware queues that were recorded under one stream
    - programmatic dependent launch (compute capability 9.0 on): a kernel that starts early waits inside for the one before it

    ## Change
    Profile again with a newer CUPTI or ROCm; look at the named event in the trace and leave it out.

    ## Next measurement
    The same step once more: a wrong duration does not come back at the same place.

    ## Lowers
    - all

    ## References
    - AMD-AGI/TraceLens#972
    - AMD-AGI/TraceLens#669
    - https://docs.nvidia.com/cuda/cuda-programming-guide/04-special-topics/programmatic-dependent-launch.html
    """
    if len(case.events) < 2:
        return
    order = np.lexsort((case.events.start, case.events.stream))
    stream, start, end = (column[order] for column in (case.events.stream, case.events.start, case.events.end))
    over = np.where(stream[1:] == stream[:-1], end[:-1] - start[1:], 0)
    over = np.where(over > OVERRUN_NS, over, 0)
    total = int(over.sum())
    if case.percent(total) < SHARE:
        return
    worst = int(order[int(np.argmax(over))])
    yield Observation(
        message=f"{int((over > 0).sum()):,} events end after the next one on their stream started; the worst lasts "
        f"{case.events.duration[worst] / MS:,.3f} ms of the {case.span / MS:,.1f} ms span, so busy time may be overstated.",
        measured=case.percent(total),
        unit="percent of the span",
        rows=(case.timeline.names[int(case.events.name[worst])][:120],),
    )
