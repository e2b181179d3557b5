"""Where a device's time went: four parts that sum to the span, exactly, and the idle part by cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from advisor_mcp.tracing import host, intervals
from advisor_mcp.tracing.host import Hosts
from advisor_mcp.tracing.intervals import Column, Set
from advisor_mcp.tracing.timeline import UNKNOWN, DeviceEvents, Span, Timeline, Work

SHORT_GAP_NS = 30_000
"""HTA's `consecutive_kernel_delay` (30; its docstring says nanoseconds, it is held against microseconds): a gap below it between
kernels that were launched in time is the device's own."""

HOST, DATALOADER, SYNCHRONISATION, API = host.CAUSES
STREAM_WAIT, SHORT, UNLINKED = "stream_wait", "short_gaps", "unlinked"
CAUSES = (*host.CAUSES, STREAM_WAIT, SHORT, UNLINKED)
_PLACE = {cause: place for place, cause in enumerate(CAUSES)}


@dataclass(frozen=True)
class Split:
    """The four parts of one device's span in nanoseconds, whose sum is the span.

    With C the union of computing kernels and sets, N of communication kernels and M of copies: compute is |C|, exposed
    communication |N without C|, exposed copy |M without C and N|, idle the rest (TraceLens' definition, unrounded).
    """

    device: int
    start: int
    end: int
    compute: int
    exposed_communication: int
    exposed_copy: int
    idle: int
    communication: int
    copy: int

    @property
    def span(self) -> int:
        """Nanoseconds from the first start to the last end."""
        return self.end - self.start

    @property
    def overlap(self) -> float | None:
        """The share of communication time that computing covers; None without communication."""
        return 1 - self.exposed_communication / self.communication if self.communication else None


@dataclass(frozen=True)
class Busy:
    """A device's busy sets: computing, exposed communication, exposed copies; and all of them joined."""

    compute: Set
    communication: Set
    copy: Set

    @cached_property
    def exposed_communication(self) -> Set:
        """Communication while nothing computes."""
        return intervals.difference(self.communication, self.compute)

    @cached_property
    def exposed_copy(self) -> Set:
        """Copies while nothing computes or communicates."""
        return intervals.difference(self.copy, intervals.joined(self.compute, self.communication))

    @cached_property
    def all(self) -> Set:
        """Whenever the device does anything."""
        return intervals.joined(intervals.joined(self.compute, self.communication), self.copy)


def busy(events: DeviceEvents) -> Busy:
    """The busy sets of one device's events."""

    def of(*kinds: Work) -> Set:
        rows = np.isin(events.work, kinds)
        return intervals.union(events.start[rows], events.end[rows])

    return Busy(of(Work.COMPUTE, Work.SET), of(Work.COMMUNICATION), of(Work.COPY))


def split(device: int, sets: Busy, start: int, end: int) -> Split:
    """The parts of the window [start, end)."""
    return splits(device, sets, [(start, end)])[0]


def splits(device: int, sets: Busy, windows: Sequence[tuple[int, int]]) -> list[Split]:
    """The parts of each of some windows [start, end)."""
    starts, ends = np.array(windows, np.int64).reshape(-1, 2).T
    covered = [
        intervals.covered(starts, ends, one).tolist()
        for one in (sets.compute, sets.exposed_communication, sets.exposed_copy, sets.communication, sets.copy)
    ]
    return [
        Split(device, start, end, compute, apart, copied, end - start - compute - apart - copied, communication, copy)
        for (start, end), compute, apart, copied, communication, copy in zip(windows, *covered, strict=True)
    ]


@dataclass(frozen=True)
class Gaps:
    """The idle gaps of one device, cut where their cause changes: the row of the event after each, and what held it up as a
    place in `CAUSES`."""

    start: Column
    end: Column
    next: Column
    place: npt.NDArray[np.int8]

    @property
    def cause(self) -> list[str]:
        """What held up the event after each gap."""
        return [CAUSES[place] for place in self.place]

    @cached_property
    def duration(self) -> Column:
        """Nanoseconds of every gap."""
        return self.end - self.start

    def total(self, *causes: str) -> int:
        """Nanoseconds of the gaps with one of the causes."""
        return int(self.duration[self.of(*causes)].sum())

    def of(self, *causes: str) -> Column:
        """The rows of gaps with one of the causes."""
        return np.flatnonzero(np.isin(self.place, [_PLACE[cause] for cause in causes]))


def gaps(timeline: Timeline, rows: Column, sets: Busy, hosts: Hosts) -> Gaps:
    """Every gap between a device's first and last event. `rows` are the device's events in `timeline.device_events`.

    A gap before an event that was launched after the gap began is the host's (HTA's host wait) until its call returned; what is
    left of it, if 30 microseconds or more, was spent waiting on the device. A gap before an event that was launched in time is
    the device's own below 30 microseconds, and a wait for another stream or event above. The host's gaps are told apart by
    what it did in them.
    """
    start, end = sets.all[1][:-1], sets.all[0][1:]
    after = rows[np.searchsorted(timeline.device_events.start[rows], end, side="left")]
    call = timeline.launch[after]
    known = call != UNKNOWN
    late = np.zeros(len(start), np.bool_)
    late[known] = timeline.host_events.start[call[known]] > start[known]
    until = end.copy()
    until[late] = np.clip(timeline.host_events.end[call[late]], start[late], end[late])
    until[end - until < SHORT_GAP_NS] = end[end - until < SHORT_GAP_NS]
    first = np.where(end - start < SHORT_GAP_NS, _PLACE[SHORT], _PLACE[STREAM_WAIT]).astype(np.int8)
    first[~known] = _PLACE[UNLINKED]
    first[late] = hosts.causes(start[late], until[late])
    cut = np.flatnonzero(late & (until < end))
    order = np.argsort(np.concatenate((start, until[cut])), kind="stable")
    return Gaps(
        np.concatenate((start, until[cut]))[order],
        np.concatenate((until, end[cut]))[order],
        np.concatenate((after, after[cut]))[order],
        np.concatenate((first, np.full(len(cut), _PLACE[STREAM_WAIT], np.int8)))[order],
    )


def step_windows(steps: Sequence[Span], end: int) -> list[Span]:
    """The steps' windows: from a step's start to the next one's; the last one's until the host and the device were done."""
    ends = [step.start for step in steps[1:]] + [max(step.end, end) for step in steps[-1:]]
    windows = [Span(step.name, step.start, until) for step, until in zip(steps, ends, strict=True)]
    return [step for step in windows if step.end > step.start]
