"""One device of one trace, with everything that findings ask of it, each worked out when it is first asked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from advisor_mcp.tracing import intervals
from advisor_mcp.tracing.host import Hosts, Rows
from advisor_mcp.tracing.kernels import Class, kernel_class, short
from advisor_mcp.tracing.split import API, HOST, Busy, Gaps, Split, busy, gaps, split, splits, step_windows
from advisor_mcp.tracing.timeline import UNKNOWN, Device, DeviceEvents, Host, HostEvents, Span, Timeline, Work
from advisor_mcp.tracing.work import Worked

WORTH = 0.01
"""Less of the span is not called a cost, whatever its share of the kernels (nsys-ai #278 does so below 2 % of it)."""

LONG_CALL_NS = 1_000_000
"""A call that neither waits nor copies takes microseconds; one of a millisecond loads, compiles or allocates."""

MS = 1e6
"""Nanoseconds in a millisecond."""


@dataclass(frozen=True)
class Kernel:
    """All runs of one kernel on a device; `duration` is their sum in nanoseconds."""

    name: str
    kind: Class
    count: int
    duration: int

    @property
    def short(self) -> str:
        """The name as people know it."""
        return short(self.name)


class Case:
    """One device of a trace. `device` is None, and everything about it empty, where the trace has no device events."""

    def __init__(self, timeline: Timeline, device: int | None, hosts: Hosts | None = None) -> None:
        self.timeline = timeline
        self.told_apart_by_file = False
        self.device = device
        self.hosts = hosts or Hosts(timeline)

    @property
    def label(self) -> str:
        """As answers name it: its rank or, where that is no name, its file; and its device."""
        rank = None if self.timeline.rank is None else f"rank {self.timeline.rank}"
        device = None if self.device is None else f"device {self.device}"
        parts = (self.timeline.source if self.told_apart_by_file else rank, device)
        return ", ".join(part for part in parts if part) or "the host"

    @property
    def host(self) -> HostEvents:
        """The host's events."""
        return self.timeline.host_events

    @cached_property
    def rows(self) -> Rows:
        """The device's rows in the timeline's device events."""
        every = self.timeline.device_events.device
        return np.flatnonzero(every == self.device) if self.device is not None else np.empty(0, np.int64)

    @cached_property
    def events(self) -> DeviceEvents:
        """The device's events."""
        every = self.timeline.device_events
        return every if len(self.rows) == len(every) else every.taken(self.rows)

    @cached_property
    def launch(self) -> Rows:
        """The host row that launched each of the device's events, -1 where there is none."""
        return self.timeline.launch[self.rows]

    @cached_property
    def busy(self) -> Busy:
        """When the device computed, communicated and copied."""
        return busy(self.events)

    @cached_property
    def start(self) -> int:
        """The first start of a device event, else of a step or host event."""
        if len(self.events):
            return int(self.events.start[0])
        return min((step.start for step in self.timeline.steps), default=int(self.host.start.min(initial=0)))

    @cached_property
    def end(self) -> int:
        """The last end of a device event, else of a step or host event."""
        if len(self.events):
            return int(self.events.end.max())
        return max((step.end for step in self.timeline.steps), default=int(self.host.end.max(initial=0)))

    @property
    def span(self) -> int:
        """Nanoseconds that the figures are shares of."""
        return max(self.end - self.start, 1)

    @cached_property
    def split(self) -> Split:
        """The four parts of the whole span."""
        return split(self.device or 0, self.busy, self.start, self.start + self.span)

    @cached_property
    def gaps(self) -> Gaps:
        """The device's idle gaps with their causes."""
        return gaps(self.timeline, self.rows, self.busy, self.hosts)

    @cached_property
    def steps(self) -> list[Span]:
        """The profiler's steps, each until the next one begins."""
        return step_windows(self.timeline.steps, self.end)

    @cached_property
    def outside(self) -> intervals.Set:
        """What of the steps passes before the device's first event and after its last one."""
        steps = self.timeline.steps
        starts, ends = (np.array([getattr(step, name) for step in steps], np.int64) for name in ("start", "end"))
        return intervals.difference(
            intervals.union(starts, ends), (np.array([self.start], np.int64), np.array([self.end], np.int64))
        )

    @cached_property
    def step_splits(self) -> list[tuple[Span, Split]]:
        """Every step with its four parts."""
        parts = splits(self.device or 0, self.busy, [(step.start, step.end) for step in self.steps])
        return list(zip(self.steps, parts, strict=True))

    @cached_property
    def facts(self) -> Device:
        """The device as the trace describes it."""
        return self.timeline.devices.get(self.device or 0, Device())

    @cached_property
    def kernels(self) -> list[Kernel]:
        """Every kernel by name, the longest sum first; copies and sets are none."""
        rows = np.isin(self.events.work, (Work.COMPUTE, Work.COMMUNICATION))
        names, durations = self.events.name[rows], self.events.duration[rows]
        if not len(names):
            return []
        found, places, counts = np.unique(names, return_inverse=True, return_counts=True)
        sums = np.zeros(len(found), np.int64)
        np.add.at(sums, places, durations)
        spelled = self.timeline.named(found)
        made = [
            Kernel(name, kernel_class(name), int(count), int(total))
            for name, count, total in zip(spelled, counts, sums, strict=True)
        ]
        return sorted(made, key=lambda one: -one.duration)

    @cached_property
    def kernel_time(self) -> int:
        """Nanoseconds of all kernels, overlapping ones counted each."""
        return sum(one.duration for one in self.kernels)

    @cached_property
    def worked(self) -> Worked:
        """The operators behind the kernels, with what they cost at least."""
        return Worked(self)

    @cached_property
    def startup(self) -> int:
        """Nanoseconds of idle time that look like start-up: inside long calls that do not wait for the device, and in a single
        pause of the host that is longer than half of the span."""
        if self.device is None:
            return 0
        calls = np.flatnonzero(self.host.kind == Host.API)
        calls = np.setdiff1d(calls[self.host.end[calls] - self.host.start[calls] >= LONG_CALL_NS], self.hosts.blocking)
        pauses = self.gaps.of(HOST, API)
        pauses = pauses[self.gaps.duration[pauses] > self.span / 2]
        starts = np.concatenate((self.host.start[calls], self.gaps.start[pauses]))
        ends = np.concatenate((self.host.end[calls], self.gaps.end[pauses]))
        return intervals.length(intervals.intersection(self.idle, intervals.union(starts, ends)))

    @cached_property
    def idle(self) -> intervals.Set:
        """When the device did nothing."""
        return intervals.complement(self.busy.all, self.start, self.end)

    def matters(self, nanoseconds: float) -> bool:
        """Whether a part is worth a finding: 1 % of the span without what looks like start-up."""
        return nanoseconds >= WORTH * (self.span - self.startup)

    def percent(self, nanoseconds: float) -> float:
        """Of the span."""
        return 100 * nanoseconds / self.span

    def of_kernels(self, chosen: Iterable[Kernel]) -> float:
        """Percent of all kernel time that some kernels take."""
        return 100 * sum(one.duration for one in chosen) / self.kernel_time if self.kernel_time else 0.0

    def exposed(self, chosen: Iterable[Kernel]) -> int:
        """Nanoseconds in which some kernels run and nothing else computes: the most that removing them can save."""
        wanted = {one.name for one in chosen}
        indices = [index for index, name in enumerate(self.timeline.names) if name in wanted]
        mine = np.isin(self.events.name, indices)
        others = ~mine & np.isin(self.events.work, (Work.COMPUTE, Work.COMMUNICATION))
        return intervals.length(intervals.difference(self.times(mine), self.times(others)))

    def times(self, rows: np.ndarray) -> intervals.Set:
        """When any of some rows of the device's events was under way."""
        return intervals.union(self.events.start[rows], self.events.end[rows])

    def named(self, expression: str) -> np.ndarray:
        """A mask of the device's events whose names an expression finds."""
        return np.isin(self.events.name, self.timeline.names_matching(re.compile(expression)))

    def operator_of(self, event: int) -> tuple[str, str] | None:
        """The innermost operator around a device event's launch, with its shapes as recorded; `event` is a row of `events`."""
        call = self.launch[event]
        return None if call == UNKNOWN else self.operator_at(int(self.host.start[call]), int(self.host.thread[call]))

    def operator_at(self, time: int, thread: int) -> tuple[str, str] | None:
        """The innermost operator of a thread at a time, with its shapes as recorded."""
        found = self.operator_row(time, thread)
        return found[1:] if found else None

    def operator_row(self, time: int, thread: int, window: int = 512) -> tuple[int, str, str] | None:
        """The row, name and shapes of the innermost operator of a thread at a time, looked for among the events before it."""
        last = int(np.searchsorted(self.host.start, time, side="right"))
        first = max(0, last - window)
        part = slice(first, last)
        around = (
            (self.host.thread[part] == thread) & (self.host.kind[part] == Host.OPERATOR) & (self.host.end[part] >= time)
        )
        places = np.flatnonzero(around)
        if not len(places):
            return None
        row = first + int(places[-1])
        shape = int(self.host.shape[row])
        return (
            row,
            self.timeline.names[int(self.host.name[row])],
            self.timeline.shapes[shape] if shape != UNKNOWN else "",
        )

    def operators(self, events: np.ndarray, most: int = 3) -> list[str]:
        """The operators behind some rows of `events`, those with the most time first, from a sample of the longest."""
        longest = events[np.argsort(-self.events.duration[events], kind="stable")[:64]]
        found: dict[str, int] = {}
        for event in longest:
            operator = self.operator_of(int(event))
            if operator:
                found[operator[0]] = found.get(operator[0], 0) + int(self.events.duration[event])
        return sorted(found, key=lambda name: -found[name])[:most]


def cases(timeline: Timeline) -> list[Case]:
    """A case for every device of a trace; one without a device where none has events."""
    hosts = Hosts(timeline)
    devices: list[int | None] = [*timeline.device_indices]
    return [Case(timeline, device, hosts) for device in devices or [None]]
