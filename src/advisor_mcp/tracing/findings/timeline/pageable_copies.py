"""The finding `pageable-copies`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing import intervals
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE

SHARE = 1.0
FEWEST_BYTES = 1 << 20


@TIMELINE.kind("pageable-copies")
def pageable_copies(case: Case) -> Iterator[Observation]:
    """Copies from or to memory that is not pinned go through a staging buffer: slower, and the host waits for them.

    ## Formula
    exposed time of copies whose name says "Pageable" / span, where they move at least 1 MiB

    ## Threshold
    1 % of the span (chosen here)

    ## Could also be
    - a few large copies at start-up, which need no mending

    ## Change
    DataLoader(pin_memory=True) and batch.to(device, non_blocking=True); pin buffers of your own once and use them again: pinning
    anew before each copy can cost more than it gains.

    ## Next measurement
    The same copies after pinning: their name then says "Pinned".

    ## References
    - https://docs.pytorch.org/tutorials/intermediate/pinmem_nonblock.html
    """
    rows = np.flatnonzero(case.named("Pageable"))
    moved = int(np.maximum(case.events.bytes[rows], 0).sum())
    lost = intervals.length(intervals.intersection(case.times(rows), case.busy.exposed_copy))
    if moved < FEWEST_BYTES or case.percent(lost) < SHARE:
        return
    time = int(case.events.duration[rows].sum())
    yield Observation(
        message=f"{len(rows):,} copies of pageable memory move {moved / 1e6:,.1f} MB at {moved / max(time, 1):,.1f} GB/s and are "
        f"exposed for {lost / MS:,.1f} ms ({case.percent(lost):.1f} % of the span).",
        measured=case.percent(lost),
        unit="percent of the span",
        saves_at_most_ms=lost / MS,
        saves_at_most_percent=case.percent(lost),
    )
