"""The finding `host-only-time`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing import intervals
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE

SHARE = 10.0


@TIMELINE.kind("host-only-time")
def host_only_time(case: Case) -> Iterator[Observation]:
    """Part of the steps passes before the device's first event or after its last: the host works and nothing is queued yet.

    The span of the device's own figures does not hold that time.

    ## Formula
    time of the profiler's steps outside the span from the device's first to its last event / time of the steps

    ## Threshold
    10 % of the steps (chosen here)

    ## Could also be
    - a window of few steps, whose first one holds the profiler's own start
    - work for the next step that a longer window would show behind the device

    ## Change
    Prepare the input ahead, in workers or a second thread, so that it runs while the device works; move it onto the device.

    ## Next measurement
    Three or more steps in one window: what comes again in each step is then inside the span.

    ## References
    - https://docs.pytorch.org/docs/stable/profiler.html
    """
    if case.device is None:
        return
    lost = intervals.length(case.outside)
    steps = sum(step.end - step.start for step in case.timeline.steps)
    if not steps or 100 * lost / steps < SHARE:
        return
    share = 100 * lost / steps
    start, end = max(zip(*(part.tolist() for part in case.outside), strict=True), key=lambda pair: pair[1] - pair[0])
    doing = case.hosts.doing(start, end)
    yield Observation(
        message=f"{lost / MS:,.1f} ms of the steps ({share:.1f} %) pass outside the device's span of {case.span / MS:,.1f} ms"
        f"{f', most of it in {doing[:80]}' if doing else ''}.",
        measured=share,
        unit="percent of the steps",
        saves_at_most_ms=lost / MS,
        saves_at_most_percent=share,
    )
