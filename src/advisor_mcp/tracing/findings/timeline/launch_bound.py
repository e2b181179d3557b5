"""The finding `launch-bound`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE
from advisor_mcp.tracing.split import HOST
from advisor_mcp.tracing.timeline import Work

SHARE = 15.0


@TIMELINE.kind("launch-bound")
def launch_bound(case: Case) -> Iterator[Observation]:
    """The device runs dry because the host prepares and launches work more slowly than the device does it.

    ## Formula
    idle gaps whose next kernel was launched only after the gap began, and that neither a data loader, a synchronisation nor
    another API call explains / span (HTA's host wait, by gap of the whole device)

    ## Threshold
    15 % of the span (TraceLens and nsys-ai flag all idle time together above it)

    ## Could also be
    - the profiler's own cost with stacks, shapes and memory: compare the step's wall time without it
    - a slow or throttled CPU, another process on its cores, or the Python GIL held by a second thread
    - a gap that a user range explains, such as logging or metrics: see rows

    ## Change
    Launch less and earlier: torch.compile(mode="reduce-overhead") or CUDA graphs, fused optimizers (fused=True), larger batches, and
    no Python loop over small tensors.

    ## Next measurement
    The same step with a batch twice as large: a launch-bound step takes hardly longer.

    ## References
    - facebookresearch/HolisticTraceAnalysis@f4d0062: hta/analyzers/breakdown_analysis.py (_analyze_idle_time_for_stream)
    - AMD-AGI/TraceLens@171dd74: TraceLens/Agent/Analysis/category_analyses/cpu_idle_analysis.py
    - GindaChen/nsys-ai@ab196ea: src/nsys_ai/skills/builtins/gpu_idle_gaps.py
    - https://docs.pytorch.org/docs/stable/user_guide/torch_compiler/torch.compiler_cudagraph_trees.html
    """
    gaps = case.gaps
    lost = gaps.total(HOST)
    if case.percent(lost) < SHARE:
        return
    kernels = np.isin(case.events.work, (Work.COMPUTE, Work.COMMUNICATION))
    durations = case.events.duration[kernels]
    yield Observation(
        message=f"The device waits {lost / MS:,.1f} ms ({case.percent(lost):.1f} % of the span) for the host to launch: "
        f"{len(durations):,} kernels with a median of {float(np.median(durations)) / 1e3:,.1f} µs.",
        measured=case.percent(lost),
        unit="percent of the span",
        saves_at_most_ms=lost / MS,
        saves_at_most_percent=case.percent(lost),
        rows=tuple(_doing(case)),
    )


def _doing(case: Case) -> Iterator[str]:
    """What the host did in the longest gaps."""
    gaps = case.gaps
    rows = gaps.of(HOST)
    for row in rows[np.argsort(-gaps.duration[rows], kind="stable")[:5]]:
        start, end = int(gaps.start[row]), int(gaps.end[row])
        doing = case.hosts.doing(start, end) or "nothing recorded"
        yield f"{gaps.duration[row] / MS:,.3f} ms at {(start - case.start) / MS:,.3f} ms: {doing[:80]}"
