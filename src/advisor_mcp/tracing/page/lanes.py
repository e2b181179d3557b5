"""What each stream and thread did in a window, as boxes of a picture whose number is bounded whatever the trace holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from advisor_mcp.tracing import intervals
from advisor_mcp.tracing.case import Case
from advisor_mcp.tracing.host import Rows, without_folders
from advisor_mcp.tracing.intervals import Column
from advisor_mcp.tracing.kernels import kernel_class, short
from advisor_mcp.tracing.split import CAUSES
from advisor_mcp.tracing.timeline import UNKNOWN, Host, Ints, Mask, Span, Work

MOST_BOXES = 3000
MOST_STREAMS = 8
MOST_THREADS = 3
FINEST = 2048
"""Parts that the window is divided into at most: what is shorter than one is drawn together with its neighbours."""

LONGEST_NAME = 90
MAIN, OTHER, COMMUNICATION, COPY, LAUNCH, OPERATOR, RANGE = (
    "main", "other", "communication", "copy", "launch", "operator", "range",
)  # fmt: skip
KINDS = (MAIN, OTHER, COMMUNICATION, COPY, LAUNCH, OPERATOR, RANGE, *CAUSES)
"""What a box may stand for; a host's calls and waits have the names of the idle time that they cause."""

_MAIN_CLASSES = frozenset({"gemm", "convolution", "attention"})
_LAUNCHING = re.compile("Launch")
_STEP = re.compile("^ProfilerStep")
_NUMBER = {kind: place for place, kind in enumerate(KINDS)}


@dataclass(frozen=True, slots=True)
class Box:
    """One event, or `count` short ones after each other, in nanoseconds from the window's start; `name` is the longest's."""

    start: int
    end: int
    kind: str
    name: str
    count: int
    busy: int

    @property
    def busy_share(self) -> float:
        """How much of the box the events in it fill, from 0 to 1."""
        return self.busy / (self.end - self.start) if self.end > self.start else 1.0


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of the picture. `busy` is the share of the window that its events cover; `side` is "gpu", "idle" or "host"."""

    title: str
    side: str
    busy: float
    boxes: list[Box]


@dataclass(frozen=True, slots=True)
class Picture:
    """The lanes of one device in a window, which is a step or the whole span."""

    name: str | None
    start: int
    end: int
    lanes: list[Lane]

    @property
    def span(self) -> int:
        """Nanoseconds of the window."""
        return max(self.end - self.start, 1)

    @property
    def longest(self) -> list[tuple[Lane, Box]]:
        """The longest single pieces of the device's lanes; of the host's where the trace has no device."""
        sides = {lane.side for lane in self.lanes} & {"gpu", "idle"} or {"host"}
        found = [(lane, box) for lane in self.lanes if lane.side in sides for box in lane.boxes if box.count == 1]
        return sorted(found, key=lambda pair: pair[1].start - pair[1].end)[:15]


NOTHING = Picture(None, 0, 1, [])
"""The picture of evidence that has no timeline."""


@dataclass(frozen=True)
class _Track:
    """The events of a lane, sorted by start and cut to the window; `name` are indices into the timeline's names."""

    title: str
    side: str
    start: Column
    end: Column
    kind: Ints
    name: Ints

    @cached_property
    def duration(self) -> Column:
        return self.end - self.start

    @cached_property
    def covered(self) -> int:
        return intervals.length(intervals.union(self.start, self.end))


def worst_step(case: Case) -> Span | None:
    """The longest of the steps, of equal ones one that begins while the device is recorded; None where there is none."""
    return max(case.steps, key=lambda step: (step.end - step.start, step.start >= case.start), default=None)


def picture(case: Case, step: Span | None) -> Picture:
    """What the device and the threads that drove it did in a step, or in the whole span where `step` is None.

    At most `MOST_BOXES` boxes: events shorter than a part of the window are drawn together, in ever larger parts until
    they fit, and never fewer than that rule asks for.
    """
    start, end = (step.start, step.end) if step else (case.start, case.start + case.span)
    tracks = [track for track in _tracks(case, start, end) if len(track.start)]
    parts = FINEST
    while True:
        unit = max((end - start) // parts, 1)
        merged = [_merged(track, unit) for track in tracks]
        if sum(len(rows[0]) for rows in merged) <= MOST_BOXES or parts == 1:
            break
        parts //= 2
    lanes = [
        Lane(track.title, track.side, track.covered / max(end - start, 1), _boxes(case, track, rows, start))
        for track, rows in zip(tracks, merged, strict=True)
    ]
    return Picture(said(step.name) if step else None, start, end, lanes)


def said(name: str) -> str:
    """A name from the host as the page shows it: on one line, cut, and of a Python file's path the file alone."""
    text = without_folders(" ".join(name.split()))
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def _tracks(case: Case, start: int, end: int) -> Iterator[_Track]:
    if case.device is not None:
        yield from _streams(case, start, end)
        yield _idle(case, start, end)
    yield from _threads(case, start, end)


def _track(
    title: str, side: str, start: Column, end: Column, kind: Ints, name: Ints, window: tuple[int, int]
) -> _Track:
    kept = (start < window[1]) & (end > window[0])
    return _Track(
        title, side, np.maximum(start[kept], window[0]), np.minimum(end[kept], window[1]), kind[kept], name[kept]
    )


# ---- the device ----


def _streams(case: Case, start: int, end: int) -> Iterator[_Track]:
    """A track for every stream, the busiest first; the last of too many holds all that are left."""
    events = case.events
    inside = (events.start < end) & (events.end > start)
    streams, places = np.unique(events.stream[inside], return_inverse=True)
    time = np.bincount(places, weights=events.duration[inside], minlength=len(streams))
    order = streams[np.argsort(-time, kind="stable")]
    single = order if len(order) <= MOST_STREAMS else order[: MOST_STREAMS - 1]
    groups = [(f"GPU stream {place}", events.stream == stream) for place, stream in enumerate(single, start=1)]
    if len(single) < len(order):
        groups.append((f"{len(order) - len(single)} further GPU streams", ~np.isin(events.stream, single)))
    kind = _device_kinds(case)
    for title, mask in groups:
        yield _track(
            title, "gpu", events.start[mask], events.end[mask], kind[mask], events.name[mask], window=(start, end)
        )


def _device_kinds(case: Case) -> Ints:
    work, name = case.events.work, case.events.name
    used = np.unique(name)
    main = [index for index in used if kernel_class(case.timeline.names[index]) in _MAIN_CLASSES]
    found = np.where(np.isin(name, main), _NUMBER[MAIN], _NUMBER[OTHER])
    found[work == Work.COMMUNICATION] = _NUMBER[COMMUNICATION]
    found[(work == Work.COPY) | (work == Work.SET)] = _NUMBER[COPY]
    return found.astype(np.int32)


def _idle(case: Case, start: int, end: int) -> _Track:
    """When the device had nothing to do, by cause; named by the event that ended each gap."""
    gaps = case.gaps
    kind = np.array([_NUMBER[cause] for cause in gaps.cause], np.int32)
    name = case.timeline.device_events.name[gaps.next]
    return _track("Why the GPU was idle", "idle", gaps.start, gaps.end, kind, name, window=(start, end))


# ---- the host ----


def _threads(case: Case, start: int, end: int) -> Iterator[_Track]:
    """Up to three tracks for each thread that drove the device: its ranges, its operators, its calls."""
    steps = case.timeline.names_matching(_STEP)
    inside = (case.host.start < end) & (case.host.end > start) & ~np.isin(case.host.name, steps)
    loading = np.zeros(len(case.host), bool)
    loading[case.hosts.dataloader] = True
    kind = _host_kinds(case, loading)
    for place, thread in enumerate(_driving(case, inside, loading), start=1):
        mine = inside & (case.host.thread == thread)
        operators = mine & (case.host.kind == Host.OPERATOR)
        ranges = mine & ((case.host.kind == Host.RANGE) | loading) & ~operators
        groups = (
            ("named ranges", _outermost(case, ranges, loading)),
            ("operators", _outermost(case, operators, loading)),
            ("calls to the GPU", mine & (case.host.kind == Host.API)),
        )
        for what, mask in groups:
            host = case.host.taken(mask)
            yield _track(
                f"Host thread {place}: {what}", "host", host.start, host.end, kind[mask], host.name, (start, end)
            )


def _driving(case: Case, inside: Mask, loading: Mask) -> list[int]:
    """The threads that launched most of the device's work, then those that waited for data; of a trace without launches those
    that did most."""
    calls = case.launch[case.launch != UNKNOWN]
    launching = np.zeros(len(case.host), bool)
    launching[calls] = True
    found: list[int] = []
    for mask in (launching, loading, *([] if launching.any() else [case.host.kind != Host.API])):
        threads, counts = np.unique(case.host.thread[mask & inside], return_counts=True)
        found += [int(thread) for thread in threads[np.argsort(-counts, kind="stable")] if thread not in found]
    return found[:MOST_THREADS]


def _host_kinds(case: Case, loading: Mask) -> Ints:
    kind = np.full(len(case.host), _NUMBER["api_calls"], np.int32)
    kind[case.hosts.matching(Host.API, _LAUNCHING)] = _NUMBER[LAUNCH]
    kind[case.hosts.blocking] = _NUMBER["synchronisation"]
    kind[case.host.kind == Host.OPERATOR] = _NUMBER[OPERATOR]
    kind[case.host.kind == Host.RANGE] = _NUMBER[RANGE]
    kind[loading] = _NUMBER["dataloader"]
    return kind


def _outermost(case: Case, mask: Mask, loading: Mask) -> Mask:
    """Of nested events those that no other encloses; a wait for data stands out of whatever it lies in."""
    outer = np.zeros(len(mask), bool)
    for chosen in (mask, mask & loading):
        rows: Rows = np.flatnonzero(chosen)
        reach = np.maximum.accumulate(case.host.end[rows])
        kept = np.concatenate(([True], case.host.start[rows][1:] >= reach[:-1]))
        outer[rows[kept[: len(rows)]]] = True
    return outer


# ---- boxes ----

_Merged = tuple[Column, Column, Ints, Ints, Column, Column]


def _merged(track: _Track, unit: int) -> _Merged:
    """Start, end, kind, name, count and busy time of what is drawn: neighbours that are shorter than `unit` and begin in the
    same part of the window become one, with the name of the longest and the kind that takes most of the time."""
    duration = track.duration
    key = np.where(duration >= unit, -1 - np.arange(len(duration)), track.start // unit)
    first = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
    count = np.diff(np.concatenate((first, [len(key)])))
    start = track.start[first]
    end = np.maximum.reduceat(track.end, first)
    busy = np.minimum(np.add.reduceat(duration, first), end - start)
    run = np.repeat(np.arange(len(first)), count)
    longest = np.lexsort((duration, run))[np.cumsum(count) - 1]
    kinds = np.unique(track.kind)
    # a nanosecond each, so that events without a duration have a kind as well
    times = np.stack([np.add.reduceat(np.where(track.kind == kind, duration + 1, 0), first) for kind in kinds])
    return start, end, kinds[times.argmax(axis=0)], track.name[longest], count, busy


def _boxes(case: Case, track: _Track, rows: _Merged, origin: int) -> list[Box]:
    spell = said if track.side == "host" else short
    names = case.timeline.names
    prefix = "before " if track.side == "idle" else ""
    return [
        Box(begun - origin, ended - origin, KINDS[kind], prefix + spell(names[name]).strip(), count, busy)
        for begun, ended, kind, name, count, busy in zip(*(column.tolist() for column in rows), strict=True)
    ]
