"""The finding `exposed-communication`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE
from advisor_mcp.tracing.timeline import Work

SHARE = 2.0


@TIMELINE.kind("exposed-communication")
def exposed_communication(case: Case) -> Iterator[Observation]:
    """Collectives run while nothing computes, so their time is added to the step.

    ## Formula
    |N without C| / span, with N the union of communication kernels and C that of computing ones (TraceLens)

    ## Threshold
    2 % of the span (nsys-ai reports no less)

    ## Could also be
    - waiting for a slow rank, which looks like a long collective on all others (give all ranks' traces)
    - a collective that the next operation needs at once, as in tensor parallelism: then only a faster link or less of it helps

    ## Change
    Overlap it: DDP reduces each bucket while backward goes on, so let several buckets fill (bucket_cap_mb); FSDP2 with prefetching
    (set_modules_to_forward_prefetch, two modules or more), Megatron's --overlap-grad-reduce, --overlap-param-gather and
    --tp-comm-overlap; keep tensor parallelism inside one NVLink domain.

    ## Next measurement
    The traces of all ranks of the same steps: they tell waiting from transfer.

    ## References
    - AMD-AGI/TraceLens@171dd74: TraceLens/TreePerf/gpu_event_analyser.py (compute_metrics_dict)
    - GindaChen/nsys-ai#278
    - NVIDIA/Megatron-LM@d98e8a6: docs/user-guide/parallelism-guide.md
    """
    split = case.split
    share = case.percent(split.exposed_communication)
    if share < SHARE:
        return
    compute = set(case.events.stream[case.events.work == Work.COMPUTE].tolist())
    mine = case.events.work == Work.COMMUNICATION
    shared = np.isin(case.events.stream[mine], list(compute)).all() if mine.any() else False
    overlap = split.overlap or 0.0
    yield Observation(
        message=f"{split.exposed_communication / MS:,.1f} ms of communication ({share:.1f} % of the span) are exposed; "
        f"{100 * overlap:.1f} % of communication time overlaps with compute"
        f"{', and it runs on a stream that computes' if shared else ''}.",
        measured=share,
        unit="percent of the span",
        saves_at_most_ms=split.exposed_communication / MS,
        saves_at_most_percent=share,
        rows=tuple(
            f"{one.duration / MS:,.1f} ms in {one.count} x {one.short}"
            for one in case.kernels
            if one.kind == "communication"
        )[:5],
    )
