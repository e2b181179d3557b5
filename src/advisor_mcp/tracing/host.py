"""What the host's threads did while a device had nothing to do."""

from __future__ import annotations

import re
from functools import cached_property

import numpy as np
import numpy.typing as npt

from advisor_mcp.tracing import intervals
from advisor_mcp.tracing.intervals import Column, Set
from advisor_mcp.tracing.timeline import UNKNOWN, Host, Timeline

Rows = npt.NDArray[np.int64]

CAUSES = ("host", "dataloader", "synchronisation", "api_calls")
"""What may hold the host up; the first where none of the others does."""

# what follows "DataLoader" is looked for from its first place on only: a hostile name may hold it a thousand times
_DATALOADER = re.compile(
    r"^(?>.*?DataLoader).*__next__|^enumerate\(DataLoader\)|dataloader_next|get_batch|^(?>.*?\bdataloader\b).*next",
    re.IGNORECASE | re.DOTALL,
)
# every copy but an asynchronous one returns when it is done; hipMemcpyWithStream is rocm's for pageable memory
_BLOCKING = re.compile(r"(?:Stream|Device|Event|Ctx|Context)Synchronize|^(?:cuda|hip|cu)Memcpy(?!\w*(?:Async|Peer))")
_LAUNCH = re.compile(r"Launch")
_GRAPH_LAUNCH = re.compile(r"GraphLaunch")
NEARLY = 0.8
"""Share of the longest cover from which on an inner function says more than the one around it."""

_STEP = re.compile(r"^ProfilerStep")
NEAR_NS = 5_000
"""How long before a gap a synchronisation may have returned and still have drained the queue: a call's own overhead."""


_FUNCTION = re.compile(r".*[/\\](?=[^/\\]*\(\d+\): )")


def without_folders(name: str) -> str:
    """The name of a Python function as the profiler gives it, ``/home/me/train.py(7): step``, without the file's folders."""
    found = _FUNCTION.match(name)
    return name[found.end() :] if found else name


class Hosts:
    """The host's calls and ranges of one timeline, by what they mean for an idle device."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.events = timeline.host_events

    def matching(self, kind: Host, test: re.Pattern[str]) -> Rows:
        """The rows of one kind of event whose names an expression finds, in order of their start."""
        named = np.isin(self.events.name, self.timeline.names_matching(test))
        return np.flatnonzero(named & (self.events.kind == kind))

    @cached_property
    def dataloader(self) -> Rows:
        """Waits for the next batch."""
        rows = np.concatenate([self.matching(kind, _DATALOADER) for kind in (Host.RANGE, Host.OPERATOR, Host.PYTHON)])
        return np.sort(rows)

    @cached_property
    def blocking(self) -> Rows:
        """Calls in which the host waits for the device."""
        rows = self.matching(Host.API, _BLOCKING)
        waiting_copies = self._waiting_copies()
        return np.unique(np.concatenate((rows, waiting_copies)))

    @cached_property
    def graph_launches(self) -> Rows:
        """Replays of CUDA or HIP graphs."""
        return self.matching(Host.API, _GRAPH_LAUNCH)

    def _waiting_copies(self) -> Rows:
        """Asynchronous copy calls that still waited: those that lasted until their own copy had ended (pageable memory)."""
        events, launch = self.timeline.device_events, self.timeline.launch
        calls = self.matching(Host.API, re.compile(r"MemcpyAsync"))
        copies = np.flatnonzero(np.isin(launch, calls))
        waited = self.events.end[launch[copies]] >= events.end[copies]
        return np.unique(launch[copies][waited])

    @cached_property
    def other_calls(self) -> Rows:
        """API calls that neither launch nor wait: allocation, registration, module loading."""
        calls = np.flatnonzero(self.events.kind == Host.API)
        launches = self.matching(Host.API, _LAUNCH)
        return np.setdiff1d(calls, np.concatenate((launches, self.blocking)))

    def times(self, rows: Rows) -> Set:
        """When any of the rows was under way."""
        return intervals.union(self.events.start[rows], self.events.end[rows])

    def causes(self, start: Column, end: Column) -> npt.NDArray[np.int8]:
        """For every stretch in which the host kept a device waiting, what it did: a place in `CAUSES`.

        A stretch in which it waited for data for more than half of the time is the data loader's; one that began within a
        blocking call, or just after it, the synchronisation's, because that call had drained the queue; one that is mostly
        filled with other API calls theirs; every other is the host's own.
        """
        half = (end - start) / 2
        waiting_for_data = intervals.covered(start, end, self.times(self.dataloader)) > half
        in_calls = intervals.covered(start, end, self.times(self.other_calls)) > half
        drained = self.blocked_at(start) != UNKNOWN
        return np.select([waiting_for_data, drained, in_calls], [1, 2, 3], 0).astype(np.int8)

    def blocked_at(self, times: Column) -> Rows:
        """The blocking call that was under way at each time, or had returned just before it; -1 where there is none."""
        rows = self.blocking
        if not len(rows):
            return np.full(len(times), UNKNOWN, np.int64)
        order = rows[np.argsort(self.events.end[rows], kind="stable")]
        # the first call to return after the time, give or take: the host waited in it while the queue ran empty
        place = np.minimum(np.searchsorted(self.events.end[order], times - NEAR_NS, side="left"), len(order) - 1)
        call = order[place]
        blocked = (self.events.end[call] >= times - NEAR_NS) & (self.events.start[call] <= times)
        return np.where(blocked, call, UNKNOWN)

    def doing(self, start: int, end: int, thread: int | None = None) -> str | None:
        """The operator, range or function that covered most of the time between; of those that cover nearly as much the innermost.

        A function is named by its file without the folders, which may name a user. The profiler's steps name nothing.
        """
        events = self.events
        steps = self.timeline.names_matching(_STEP)
        rows = np.flatnonzero((events.start < end) & (events.end > start) & (events.kind != Host.API))
        rows = rows[~np.isin(events.name[rows], steps)]
        if thread is not None:
            rows = rows[events.thread[rows] == thread]
        if not len(rows):
            return None
        cover = np.minimum(events.end[rows], end) - np.maximum(events.start[rows], start)
        length = events.end[rows] - events.start[rows]
        best = np.flatnonzero(cover >= NEARLY * cover.max())
        best = best[np.argmin(length[best])]
        return without_folders(self.timeline.names[int(events.name[rows[best]])])
