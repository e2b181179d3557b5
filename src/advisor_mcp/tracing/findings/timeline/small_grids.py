"""The finding `small-grids`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE
from advisor_mcp.tracing.kernels import short
from advisor_mcp.tracing.timeline import Work

SHARE = 20.0
LONGEST_SHORT_NS = 10_000
"""Kernels below 10 microseconds cost their launch, whatever their grid (see launch-bound)."""


@TIMELINE.kind("small-grids")
def small_grids(case: Case) -> Iterator[Observation]:
    """Kernels have fewer blocks than the device has multiprocessors, which then stand still.

    ## Formula
    sum of duration x (1 - blocks / multiprocessors), of kernels with fewer blocks than multiprocessors and at least 10 microseconds, / span
    (torch-tb-profiler's estimated SM efficiency, from its other side)

    ## Threshold
    20 % of the span (chosen here)

    ## Could also be
    - several such kernels side by side on other streams, which fill the device together

    ## Change
    Give each launch more work: a larger batch, products grouped or batched, split-K for small outputs and other tile sizes
    (torch.compile(mode="max-autotune") tries them).

    ## Next measurement
    advisor-mcp roofline for the product, which says how many tiles it has.

    ## References
    - pytorch/kineto@041e7ce: tb_plugin/docs/gpu_utilization.md
    """
    processors = case.facts.multiprocessors
    if not processors:
        return
    events = case.events
    chosen = (events.work == Work.COMPUTE) & (events.blocks > 0) & (events.blocks < processors)
    chosen &= events.duration >= LONGEST_SHORT_NS
    unused = events.duration[chosen] * (1 - events.blocks[chosen] / processors)
    lost = min(float(unused.sum()), float(case.split.compute))
    if case.percent(lost) < SHARE:
        return
    names = case.timeline.named(events.name[chosen])
    sums: dict[tuple[str, int], float] = {}
    for name, blocks, time in zip(names, events.blocks[chosen], unused, strict=True):
        sums[short(name, 70), int(blocks)] = sums.get((short(name, 70), int(blocks)), 0.0) + float(time)
    yield Observation(
        message=f"Kernels with fewer blocks than the device's {processors} multiprocessors leave {case.percent(lost):.1f} % of the span's "
        f"multiprocessor time unused ({int(np.sum(chosen)):,} runs).",
        measured=case.percent(lost),
        unit="percent of the span",
        saves_at_most_ms=lost / MS,
        saves_at_most_percent=case.percent(lost),
        rows=tuple(
            f"{time / MS:,.1f} ms unused: {name} on {blocks} blocks"
            for (name, blocks), time in sorted(sums.items(), key=lambda item: -item[1])[:5]
        ),
    )
