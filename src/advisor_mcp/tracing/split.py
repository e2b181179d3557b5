"""Where a device's time went: four parts that sum to the span, exactly, and the idle part by cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from advisor_mcp.tracing import intervals
from advisor_mcp.tracing.host import Hosts
from advisor_mcp.tracing.intervals import Column, Set
from advisor_mcp.tracing.timeline import UNKNOWN, DeviceEvents, Ints, Span, Timeline, Work

SHORT_GAP_NS = 30_000
"""HTA's `consecutive_kernel_delay`: a gap below it between kernels that were launched in time is the device's own."""

HOST, DATALOADER, SYNCHRONISATION, API, STREAM_WAIT, SHORT, UNLINKED = (
    "host", "dataloader", "synchronisation", "api_calls", "stream_wait", "short_gaps", "unlinked",
)  # fmt: skip
CAUSES = (HOST, DATALOADER, SYNCHRONISATION, API, STREAM_WAIT, SHORT, UNLINKED)


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
    lengths = [
        intervals.length(intervals.clipped(one, start, end))
        for one in (sets.compute, sets.exposed_communication, sets.exposed_copy, sets.communication, sets.copy)
    ]
    compute, communication, copy = lengths[:3]
    idle = end - start - compute - communication - copy
    return Split(device, start, end, compute, communication, copy, idle, *lengths[3:])


@dataclass(frozen=True)
class Gaps:
    """The idle gaps of one device: the row of the event after each, what held it up, and until when the host did."""

    start: Column
    end: Column
    next: Ints
    cause: list[str]
    launched: Column
    """When the next event was launched; the gap's start where that came earlier or is not known."""

    @cached_property
    def duration(self) -> Column:
        """Nanoseconds of every gap."""
        return self.end - self.start

    def total(self, cause: str) -> int:
        """Nanoseconds of the gaps with that cause."""
        return int(self.duration[self.of(cause)].sum())

    def of(self, *causes: str) -> Ints:
        """The rows of gaps with one of the causes."""
        return np.array([row for row, cause in enumerate(self.cause) if cause in causes], np.int32)


def gaps(timeline: Timeline, rows: Column, sets: Busy, hosts: Hosts) -> Gaps:
    """Every gap between a device's first and last event. `rows` are the device's events in `timeline.device_events`.

    A gap before an event that was launched after the gap began is the host's (HTA's host wait); else below 30 microseconds the
    device's own, and above a wait for another stream or event. The host's gaps are then told apart by what it did in them.
    """
    whole = sets.all
    start, end = whole[1][:-1], whole[0][1:]
    events = timeline.device_events
    after = rows[np.searchsorted(events.start[rows], end, side="left")]
    launch = timeline.launch[after]
    begun = timeline.host_events.start[np.maximum(launch, 0)] if len(timeline.host_events) else np.zeros_like(start)
    late = (launch != UNKNOWN) & (begun > start)
    launched = np.where(late, np.minimum(begun, end), start)
    host_cause = hosts.causes(start, launched, launch)
    cause = [
        host_cause[gap]
        if late[gap]
        else UNLINKED
        if launch[gap] == UNKNOWN
        else SHORT
        if end[gap] - start[gap] < SHORT_GAP_NS
        else STREAM_WAIT
        for gap in range(len(start))
    ]
    return Gaps(start, end, after.astype(np.int32), cause, launched)


def step_windows(steps: Sequence[Span], start: int, end: int) -> list[Span]:
    """The steps' windows on the device's clock: from a step's start to the next one's, cut to what the device did."""
    ends = [step.start for step in steps[1:]] + [max(step.end, end) for step in steps[-1:]]
    clipped = [
        Span(step.name, max(step.start, start), min(until, end)) for step, until in zip(steps, ends, strict=True)
    ]
    return [step for step in clipped if step.end > step.start]
