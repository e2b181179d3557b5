"""The finding `host-sync`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing import intervals
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE
from advisor_mcp.tracing.split import SHORT, UNLINKED
from advisor_mcp.tracing.timeline import UNKNOWN

SHARE = 2.0
SHORTEST_NS = 1_000_000


@TIMELINE.kind("host-sync")
def host_sync(case: Case) -> Iterator[Observation]:
    """The host waits for the device, so that nothing is queued when the device is done: it idles until the host comes back.

    ## Formula
    idle gaps that began while the host was inside a blocking call (cudaStreamSynchronize, cudaMemcpy, a copy from pageable memory)
    or within 5 microseconds after it / span. What the host does in a gap could only hide behind what the device did since the gap
    before it, so that removing the wait saves at most the shorter of the two

    ## Threshold
    2 % of the span and 1 ms (nsys-ai's two bounds, there on the time in the calls over kernel time)

    ## Could also be
    - the wait at the end of a step that a benchmark adds on purpose
    - a loader or other host work that follows: removing the wait hides that work behind the device, and saves no more than that

    ## Change
    Take .item(), .cpu(), .tolist(), bool(tensor), nonzero() and printing of losses out of the step, or do them every n-th step; copy with
    non_blocking=True from pinned memory. torch.cuda.set_sync_debug_mode("warn") names most of the lines.

    ## Next measurement
    The same steps under torch.cuda.set_sync_debug_mode("warn").

    ## References
    - https://docs.pytorch.org/docs/stable/generated/torch.cuda.set_sync_debug_mode.html
    - GindaChen/nsys-ai@ab196ea: src/nsys_ai/skills/builtins/root_cause_matcher.py (_check_sync_apis)
    """
    gaps = case.gaps
    calls = case.hosts.blocked_at(gaps.start)
    drained = (calls != UNKNOWN) & ~np.isin(np.arange(len(calls)), gaps.of(SHORT, UNLINKED))
    lost = int(gaps.duration[drained].sum())
    if case.percent(lost) < SHARE or lost < SHORTEST_NS:
        return
    saved = _hideable(case, drained)
    after = _afterwards(case, calls, drained)
    blocking = case.hosts.blocking
    spent = case.host.end[blocking] - case.host.start[blocking]
    names = Counter(case.timeline.named(case.host.name[blocking]))
    yield Observation(
        message=f"{lost / MS:,.1f} ms of idle time ({case.percent(lost):.1f} % of the span) begin while the host waits for the "
        f"device: {len(blocking):,} blocking calls take {int(spent.sum()) / MS:,.1f} ms of its time "
        f"({', '.join(f'{count} {name}' for name, count in names.most_common(2))}){f'; it then is in {after[:60]}' if after else ''}.",
        measured=case.percent(lost),
        unit="percent of the span",
        saves_at_most_ms=saved / MS,
        saves_at_most_percent=case.percent(saved),
        rows=tuple(_callers(case, np.unique(calls[drained]))),
    )


def _hideable(case: Case, drained: np.ndarray) -> int:
    """Nanoseconds of the gaps that work of the device could cover: of each at most its busy time since the gap before."""
    starts, ends = case.gaps.start[drained], case.gaps.end[drained]
    since = np.concatenate(([case.start], ends[:-1]))
    return int(np.minimum(ends - starts, intervals.covered(since, starts, case.busy.all)).sum())


def _afterwards(case: Case, calls: np.ndarray, drained: np.ndarray) -> str | None:
    """What the host does after the call returned, in the longest gap, where that takes more than half of it."""
    row = np.flatnonzero(drained)[np.argmax(case.gaps.duration[drained])]
    returned, end = int(case.host.end[calls[row]]), int(case.gaps.end[row])
    if end - returned < int(case.gaps.duration[row]) / 2:
        return None
    return case.hosts.doing(returned, end)


def _callers(case: Case, calls: np.ndarray) -> Iterator[str]:
    """The longest of the calls, and what called them."""
    length = case.host.end[calls] - case.host.start[calls]
    for call in calls[np.argsort(-length, kind="stable")[:5]]:
        start, end, thread = (int(column[call]) for column in (case.host.start, case.host.end, case.host.thread))
        caller = case.hosts.doing(start, end, thread) or "unknown"
        yield f"{(end - start) / MS:,.3f} ms {case.timeline.names[int(case.host.name[call])]} in {caller[:80]}"
