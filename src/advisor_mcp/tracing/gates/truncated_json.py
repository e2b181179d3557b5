"""The trust gate `truncated-json`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import Case
from advisor_mcp.tracing.families import GATES


@GATES.kind("truncated-json")
def truncated_json(case: Case) -> Iterator[Observation]:
    """A file that breaks off, or holds events that are no JSON, shows only a part of the window.

    ## Formula
    events that could not be read, or a list of events without an end

    ## Threshold
    any

    ## Could also be
    - a profiler that was still writing

    ## Change
    Let the profiler finish (leave its context before the process ends), copy the file whole, and check the disk's space.

    ## Next measurement
    The file's size on both machines.

    ## Lowers
    - all

    ## References
    - pytorch/kineto#105
    - pytorch/pytorch#98432
    - pytorch/pytorch#130622
    """
    timeline = case.timeline
    if timeline.truncated or timeline.skipped:
        what = [f"the file is cut short: {timeline.truncated}"] if timeline.truncated else []
        if timeline.skipped:
            what.append(f"{timeline.skipped:,} events could not be read and were left out")
        yield Observation(
            message=f"{timeline.events:,} events were read ({timeline.bytes:,} bytes); {'; '.join(what)}.",
            measured=timeline.skipped,
            unit="events left out",
        )
