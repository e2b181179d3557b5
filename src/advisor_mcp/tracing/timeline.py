"""What every profiler's trace is read into: device and host events as columns, with the facts beside them.

Times are whole nanoseconds on the trace's own clock. Names are indices into `Timeline.names`. Columns of device events are sorted
by start, so are those of host events.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from advisor_mcp.tracing.intervals import Column

Ints = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
UNKNOWN = -1
LONGEST_NAME, LONGEST_LABEL = 8_192, 80
MOST_CHARACTERS = 1 << 23
"""Bounds on the names that a file can make us hold and look through; real traces have thousands, of up to about 5,000 characters."""

_EACH = 64
"""Characters that a name counts for beside its own."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


class Work(IntEnum):
    """What a device event does."""

    COMPUTE = 0
    COMMUNICATION = 1
    COPY = 2
    SET = 3


class Host(IntEnum):
    """What a host event is: a call of the CUDA or HIP API, an operator, a user's range, or a Python function."""

    API = 0
    OPERATOR = 1
    RANGE = 2
    PYTHON = 3


class Names:
    """Strings, each held once and known by its index. Very long ones are cut; once there is no room left, further ones share an index."""

    def __init__(self) -> None:
        self.known = _Numbered()

    def __call__(self, name: str) -> int:
        return self.known[name]

    def listed(self) -> list[str]:
        """The strings in the order of their indices, as they may be printed."""
        return [printable(name) for name in self.known]


class _Numbered(dict[str, int]):
    """Numbers strings when they are first looked up."""

    room = MOST_CHARACTERS

    def __missing__(self, name: str) -> int:
        if len(name) > LONGEST_NAME:
            return self[name[:LONGEST_NAME]]
        self.room -= len(name) + _EACH
        return self.setdefault(name if self.room >= 0 else "(further names)", len(self))


def printable(text: str, longest: int = LONGEST_NAME) -> str:
    """The text, cut, without what no terminal and no encoding should be given: control characters and halves of characters."""
    text = text[:longest]
    return text if text.isascii() and text.isprintable() else _UNPRINTABLE.sub("�", text)


@dataclass(frozen=True)
class DeviceEvents:
    """Kernels, copies and sets. `blocks` is the grid's product; `bytes` what a copy or a set moves; -1 where not known."""

    start: Column
    end: Column
    device: Ints
    stream: Ints
    name: Ints
    work: Ints
    correlation: Column
    bytes: Column
    blocks: Column

    def __len__(self) -> int:
        return len(self.start)

    def taken(self, mask: Mask | npt.NDArray[np.int64]) -> DeviceEvents:
        """The rows of a mask or of an index."""
        return DeviceEvents(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))

    @cached_property
    def duration(self) -> Column:
        """Nanoseconds of every event."""
        return self.end - self.start


@dataclass(frozen=True)
class HostEvents:
    """Events of the host's threads. `shape` is an index into `Timeline.shapes`, -1 where none was recorded."""

    start: Column
    end: Column
    thread: Ints
    name: Ints
    kind: Ints
    correlation: Column
    shape: Ints

    def __len__(self) -> int:
        return len(self.start)

    def taken(self, mask: Mask | npt.NDArray[np.int64]) -> HostEvents:
        """The rows of a mask or of an index."""
        return HostEvents(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))


@dataclass(frozen=True, slots=True)
class Span:
    """A named piece of time, such as a step."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Collective:
    """What the profiler recorded of one collective: `event` is the row of its kernel, sizes are of one rank."""

    event: int
    name: str
    bytes_in: int
    bytes_out: int
    group_size: int
    group: str = ""
    sequence: int = UNKNOWN


@dataclass(frozen=True, slots=True)
class Device:
    """A device as the trace describes it."""

    name: str = ""
    multiprocessors: int | None = None
    capability: tuple[int, int] | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Timeline:
    """One process' trace (of one rank, or of a whole node for Nsight Systems)."""

    source: str
    device_events: DeviceEvents
    host_events: HostEvents
    names: list[str]
    shapes: list[str] = field(default_factory=list)
    steps: tuple[Span, ...] = ()
    collectives: tuple[Collective, ...] = ()
    devices: dict[int, Device] = field(default_factory=dict)
    rank: int | None = None
    world_size: int | None = None
    base_ns: int = 0
    window: tuple[int, int] | None = None
    memory_peaks: dict[int, tuple[int, int]] = field(default_factory=dict)
    recorded: frozenset[str] = frozenset()
    events: int = 0
    bytes: int = 0
    truncated: str | None = None
    skipped: int = 0
    notes: tuple[str, ...] = ()

    def named(self, indices: Iterable[int]) -> list[str]:
        """The strings of some name indices."""
        return [self.names[index] for index in indices]

    def names_matching(self, test: Any) -> Ints:
        """The indices of the names that a compiled expression finds."""
        return np.array([index for index, name in enumerate(self.names) if test.search(name)], np.int32)

    @cached_property
    def device_indices(self) -> list[int]:
        """The devices that have events, in order."""
        return [int(index) for index in np.unique(self.device_events.device)]

    @cached_property
    def launch(self) -> npt.NDArray[np.int64]:
        """The row of the host's API call that launched each device event, -1 where there is none."""
        calls = np.flatnonzero((self.host_events.kind == Host.API) & (self.host_events.correlation != UNKNOWN))
        if not len(calls) or not len(self.device_events):
            return np.full(len(self.device_events), UNKNOWN, np.int64)
        order = calls[np.argsort(self.host_events.correlation[calls], kind="stable")]
        ids = self.host_events.correlation[order]
        place = np.minimum(np.searchsorted(ids, self.device_events.correlation), len(ids) - 1)
        linked = (ids[place] == self.device_events.correlation) & (self.device_events.correlation != UNKNOWN)
        return np.where(linked, order[place], UNKNOWN)


def device_events(
    start: Column,
    end: Column,
    device: Any,
    stream: Any,
    name: Any,
    work: Any,
    correlation: Any,
    bytes: Any,
    blocks: Any,
) -> DeviceEvents:
    """Columns in any order as sorted device events. The columns are taken over: they are sorted in place."""
    order = np.lexsort((end, start))
    start, end, correlation, bytes, blocks = (
        _ordered(column, order, np.int64) for column in (start, end, correlation, bytes, blocks)
    )
    device, stream, name, work = (_ordered(column, order, np.int32) for column in (device, stream, name, work))
    return DeviceEvents(start, end, device, stream, name, work, correlation, bytes, blocks)


def host_events(
    start: Column, end: Column, thread: Any, name: Any, kind: Any, correlation: Any, shape: Any
) -> HostEvents:
    """Columns in any order as sorted host events; of those with one start the longest, which encloses the others, is first.

    The columns are taken over: they are sorted in place.
    """
    order = np.lexsort((-end, start))
    start, end, correlation = (_ordered(column, order, np.int64) for column in (start, end, correlation))
    thread, name, kind, shape = (_ordered(column, order, np.int32) for column in (thread, name, kind, shape))
    return HostEvents(start, end, thread, name, kind, correlation, shape)


def _ordered(given: Any, order: npt.NDArray[np.int64], dtype: Any) -> Any:
    """The column in another order, in its own place where it can be: a large trace is held once, not twice."""
    held = np.asarray(given, dtype)
    if not held.flags.writeable:
        return held[order]
    held[:] = held[order]
    return held


def column(of: array[int]) -> Any:
    """An array of machine integers as a numpy column, without a copy."""
    return np.frombuffer(of, dtype=of.typecode) if len(of) else np.empty(0, of.typecode)
