"""The finding `copy-bound`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE
from advisor_mcp.tracing.timeline import Work

SHARE = 5.0
WITHIN = "Most of it is copied within the device: look for clone(), contiguous() and cat(), use views or write into place (out=)."


@TIMELINE.kind("copy-bound")
def copy_bound(case: Case) -> Iterator[Observation]:
    """Copies between host and device, or within it, run while nothing computes.

    ## Formula
    |(M without C) without N| / span, with M the union of copies (TraceLens' exposed memcpy)

    ## Threshold
    5 % of the span (chosen here, as torch-tb-profiler does for the data loader)

    ## Could also be
    - offloading of parameters or optimizer state: then it is what the setting costs
    - a first transfer of weights inside the window

    ## Change
    Copy ahead on a side stream from pinned memory (pin_memory=True, non_blocking=True), copy less often, or keep on the device what fits;
    with offloading, use a larger batch per transfer.

    ## Next measurement
    Bytes a second of these copies against the link's: advisor-mcp benchmark-device measures it.

    ## References
    - AMD-AGI/TraceLens@171dd74: TraceLens/TreePerf/gpu_event_analyser.py (compute_metrics_dict)
    - https://docs.pytorch.org/tutorials/intermediate/pinmem_nonblock.html
    """
    share = case.percent(case.split.exposed_copy)
    if share < SHARE:
        return
    copies = case.events.work == Work.COPY
    names, places = np.unique(case.events.name[copies], return_inverse=True)
    durations, sizes = case.events.duration[copies], np.maximum(case.events.bytes[copies], 0)
    rows: list[tuple[int, str]] = []
    for index, name in enumerate(case.timeline.named(names)):
        time, moved = int(durations[places == index].sum()), int(sizes[places == index].sum())
        rate = f" at {moved / time:,.1f} GB/s" if moved and time else ""
        rows.append((time, f"{time / MS:,.1f} ms {name[:60]}: {moved:,} bytes{rate}"))
    yield Observation(
        message=f"{case.split.exposed_copy / MS:,.1f} ms of copies ({share:.1f} % of the span) are exposed: "
        f"{int(copies.sum()):,} copies of {int(sizes.sum()) / 1e9:,.2f} GB.",
        measured=share,
        unit="percent of the span",
        saves_at_most_ms=case.split.exposed_copy / MS,
        saves_at_most_percent=share,
        change=WITHIN if "DtoD" in max(rows)[1] else None,
        rows=tuple(text for _, text in sorted(rows, reverse=True)[:5]),
    )
