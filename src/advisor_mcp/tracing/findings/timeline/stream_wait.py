"""The finding `stream-wait`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE
from advisor_mcp.tracing.kernels import short
from advisor_mcp.tracing.split import STREAM_WAIT

SHARE = 15.0


@TIMELINE.kind("stream-wait")
def stream_wait(case: Case) -> Iterator[Observation]:
    """Work was launched in time and still did not start: it waited for an event of another stream, another rank or a copy.

    ## Formula
    idle gaps of at least 30 microseconds whose next kernel had been launched before the gap began / span (HTA's "other": its default
    of 30 is called nanoseconds, but held against microseconds)

    ## Threshold
    15 % of the span (TraceLens and nsys-ai flag all idle time together above it)

    ## Could also be
    - a collective or copy of another rank that this one waits for
    - kernels that the profiler did not record (see the gates)

    ## Change
    Look at what the named kernels wait for: cudaStreamWaitEvent before them, or the side stream that must finish first; start that work
    earlier.

    ## Next measurement
    The same step with Nsight Systems and --cuda-event-trace=true, which ties waits to their events (and may itself tie streams together).

    ## References
    - facebookresearch/HolisticTraceAnalysis@f4d0062: hta/analyzers/breakdown_analysis.py, hta/trace_analysis.py (get_idle_time_breakdown)
    - https://docs.nvidia.com/nsight-systems/UserGuide/index.html
    """
    gaps = case.gaps
    rows = gaps.of(STREAM_WAIT)
    lost = int(gaps.duration[rows].sum())
    if case.percent(lost) < SHARE:
        return
    waiting = Counter[str]()
    for row in rows:
        waiting[case.timeline.names[int(case.timeline.device_events.name[gaps.next[row]])]] += int(gaps.duration[row])
    longest = float(np.max(gaps.duration[rows])) / MS
    yield Observation(
        message=f"The device idles {lost / MS:,.1f} ms ({case.percent(lost):.1f} % of the span) before work that was already "
        f"launched, up to {longest:,.1f} ms at once, most of it before {short(waiting.most_common(1)[0][0], 60)}.",
        measured=case.percent(lost),
        unit="percent of the span",
        saves_at_most_ms=lost / MS,
        saves_at_most_percent=case.percent(lost),
        rows=tuple(f"{time / MS:,.1f} ms before {short(name)}" for name, time in waiting.most_common(5)),
    )
