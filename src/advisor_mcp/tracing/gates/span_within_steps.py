"""The trust gate `span-within-steps`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing import intervals
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import GATES

SHARE = 25.0


@GATES.kind("span-within-steps")
def span_within_steps(case: Case) -> Iterator[Observation]:
    """The shares are of the device's span; where the steps are much longer, they are no shares of a step.

    ## Formula
    time of the profiler's steps outside the span from the device's first to its last event / time of the steps

    ## Threshold
    25 % of the steps (chosen here; from 10 % on host-only-time says what it is)

    ## Could also be
    - a window of one step, whose first part prepares the input

    ## Change
    Record several steps after a warm-up; detail="full" gives every step's own parts.

    ## Next measurement
    A window of at least three steps.

    ## Lowers
    - idle

    ## References
    - https://docs.pytorch.org/docs/stable/profiler.html
    """
    steps = sum(step.end - step.start for step in case.timeline.steps)
    lost = intervals.length(case.outside) if case.device is not None and steps else 0
    if lost and 100 * lost / steps >= SHARE:
        yield Observation(
            message=f"The device's span of {case.span / MS:,.1f} ms leaves out {lost / MS:,.1f} ms of the steps' {steps / MS:,.1f} ms; "
            "shares are of the span, not of a step.",
            measured=100 * lost / steps,
            unit="percent of the steps",
        )
