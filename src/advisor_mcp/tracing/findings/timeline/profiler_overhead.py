"""The finding `profiler-overhead`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing import intervals
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE
from advisor_mcp.tracing.timeline import Host

SHARE = 5.0
_OVERHEAD = re.compile(
    r"^(?:Activity )?Buffer (?:Request|Flush)$|^Instrumentation$|^Resource$|CUPTI|Lazy Function Loading|^Overhead"
)


@TIMELINE.kind("profiler-overhead")
def profiler_overhead(case: Case) -> Iterator[Observation]:
    """The profiler's own work, buffers above all, lies in the window and stretches it.

    ## Formula
    union of the profiler's overhead events / span

    ## Threshold
    5 % of the span (chosen here)

    ## Could also be
    - a first step, in which CUPTI instruments modules

    ## Change
    Record less: with_stack=False, profile_memory=False, record_shapes=False, fewer active steps.

    ## Next measurement
    The step's wall time without the profiler.

    ## References
    - https://docs.nvidia.com/cupti/api/structCUpti__ActivityOverhead3.html
    - pytorch/kineto@114171d: libkineto/src/cupti_strings.cpp (overheadKindString)
    """
    rows = case.hosts.matching(Host.RANGE, _OVERHEAD)
    lost = intervals.length(intervals.clipped(case.hosts.times(rows), case.start, case.end))
    if case.percent(lost) >= SHARE:
        yield Observation(
            message=f"The profiler itself takes {lost / MS:,.1f} ms ({case.percent(lost):.1f} % of the span).",
            measured=case.percent(lost),
            unit="percent of the span",
            saves_at_most_ms=lost / MS,
            saves_at_most_percent=case.percent(lost),
        )
