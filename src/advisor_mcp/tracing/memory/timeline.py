"""The profiler's memory timelines: what `torch.profiler` writes with `export_memory_timeline` as JSON.

Two shapes, by torch 2.13 torch/profiler/_memory_profiler.py: the raw export is a list of
``[time_ns, action, bytes, category]``, bytes signed, and -1 as the time of what existed before; the other is
``[times_us, sizes]`` with a row of bytes for each time, one column for each category after a leading zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import BinaryIO

from advisor_mcp.errors import UsageError
from advisor_mcp.tracing.doubts import Doubt
from advisor_mcp.tracing.memory.history import DeviceMemory, Holding, MemoryHistory, Peak
from advisor_mcp.tracing.pieces import Pieces

CATEGORIES = (
    "Parameter",
    "Optimizer state",
    "Input",
    "Temporary",
    "Activation",
    "Gradient",
    "Autograd",
    "Unknown",
)
"""In the order of their numbers (`_CATEGORY_TO_INDEX`); the last is for what the profiler could not name."""

CHUNK_BYTES = 1 << 20
MOST_BYTES = 1 << 30
LONGEST_ROW = 32 << 20
PREEXISTING = 1
ACTIONS = range(1, 5)  # preexisting, create, increment_version, destroy
_WHAT = "a memory timeline as torch.profiler's export_memory_timeline writes it"
_ROW = re.compile(rb"\[([^\[\]]*)\]")
_BETWEEN = re.compile(rb"[\s,\[\]]*")
_END = re.compile(rb"\s*\]+\s*")


def read_timeline(
    file: BinaryIO, most_bytes: int = MOST_BYTES, check: Callable[[], None] = lambda: None
) -> MemoryHistory:
    """What a memory timeline says, read as a stream from an opened (and already gunzipped) file.

    `check` is called between reads and may raise to stop the work. Raises `UsageError` with one sentence when the file is
    something else, damaged before its first row, or longer than `most_bytes`.
    """
    rows = _Rows(file, most_bytes, check)
    listed = iter(rows)
    first = next(listed, None)
    if first is None:
        raise UsageError(f"there are no rows to read: give {_WHAT}")
    raw = len(first) == 4 and first[1] in ACTIONS and first[3] in range(len(CATEGORIES))
    device = _summed(chain([first], listed), rows) if raw else _coalesced(first, listed, rows)
    return MemoryHistory(source="memory timeline", devices=(device,))


class _Rows:
    """The innermost lists of whole numbers in a JSON text, as they come."""

    def __init__(self, file: BinaryIO, most: int, check: Callable[[], None]) -> None:
        self.file, self.most, self.check = Pieces(file), most, check
        self.read = 0
        self.cut_off = False

    def __iter__(self) -> Iterator[list[int]]:
        text = b""
        while part := self._next():
            text += part
            at = 0
            while row := _ROW.search(text, at):
                self._expect_nothing(text[at : row.start()])
                yield self._numbers(row[1])
                at = row.end()
            text = text[at:]
            if len(text) > LONGEST_ROW:
                raise UsageError(f"a row is longer than {LONGEST_ROW:,} bytes: give {_WHAT}")
        self.cut_off = not _END.fullmatch(text)

    def _next(self) -> bytes:
        self.check()
        part = self.file.read(CHUNK_BYTES)
        self.read += len(part)
        if self.read > self.most:
            raise UsageError(f"the memory timeline unpacks to more than {self.most:,} bytes: record fewer steps")
        return part

    def _expect_nothing(self, between: bytes) -> None:
        if not _BETWEEN.fullmatch(between):
            raise UsageError(f"this JSON holds more than lists of numbers: give {_WHAT}")

    def _numbers(self, row: bytes) -> list[int]:
        try:
            return [int(number) for number in row.split(b",")] if row.strip() else []
        except ValueError:
            raise UsageError(f"this JSON holds other things than whole numbers: give {_WHAT}") from None

    def doubts(self) -> Iterator[Doubt]:
        """Whether the file ended early."""
        if self.cut_off:
            yield Doubt(
                "truncated-file", "the file ends in the middle of a row: what came later is not in these figures"
            )


@dataclass
class _Raw:
    """Prefix sums over raw rows, in total and by category."""

    totals: list[int] = field(default_factory=lambda: [0] * len(CATEGORIES))
    at_peak: list[int] = field(default_factory=lambda: [0] * len(CATEGORIES))
    now: int = 0
    before: int = 0
    peak: int = 0
    peak_ns: int = -1
    peak_row: int = 0
    rows: int = 0
    first_ns: int = -1
    last_ns: int = -1
    largest: int = 0

    def add(self, row: list[int]) -> None:
        """Take in ``[time_ns, action, bytes, category]``; raises `UsageError` for another shape."""
        if len(row) != 4 or not 0 <= row[3] < len(CATEGORIES):
            raise UsageError(f"row {self.rows + 1} is not [time, action, bytes, category]: give {_WHAT}")
        time, action, size, category = row
        self.rows += 1
        self.totals[category] += size
        self.now += size
        self.before += size if action == PREEXISTING else 0
        self.largest = max(self.largest, size)
        if time >= 0:
            self.last_ns = time
            self.first_ns = time if self.first_ns < 0 else self.first_ns
        if self.now > self.peak:
            self.peak, self.peak_ns, self.peak_row = self.now, time, self.rows
            self.at_peak = self.totals.copy()

    def device(self, doubts: tuple[Doubt, ...]) -> DeviceMemory:
        """The record of the device that the timeline was exported for."""
        after = None if self.peak_ns < 0 else (self.peak_ns - self.first_ns) / 1e6
        peak = Peak(
            self.peak, self.peak - self.before, self.before, None, after, self.peak_row, (), _categories(self.at_peak)
        )
        span = (self.last_ns - self.first_ns) / 1e6 if self.last_ns >= 0 else None
        return DeviceMemory(0, self.rows, span, peak, None, None, self.largest, 0, doubts=doubts)


def _summed(rows: Iterable[list[int]], source: _Rows) -> DeviceMemory:
    summing = _Raw()
    for row in rows:
        summing.add(row)
    return summing.device(tuple(source.doubts()))


def _categories(sizes: list[int]) -> tuple[Holding, ...]:
    named = [Holding(name, size) for name, size in zip(CATEGORIES, sizes, strict=True) if size]
    return tuple(sorted(named, key=lambda holding: -holding.size))


def _coalesced(times: list[int], rows: Iterator[list[int]], source: _Rows) -> DeviceMemory:
    peak, at, sizes, count = 0, 0, [0] * len(CATEGORIES), 0
    first: int | None = None
    for count, row in enumerate(rows, 1):
        if len(row) != len(CATEGORIES) + 1:
            raise UsageError(f"row {count} has not one size for each of the {len(CATEGORIES)} categories: give {_WHAT}")
        first = sum(row) if first is None else first
        if sum(row) > peak:
            peak, at, sizes = sum(row), count, row[1:]
    if not count or count > len(times):
        raise UsageError(f"times and sizes do not belong together: give {_WHAT}")
    doubts = tuple(source.doubts())
    after = (times[at - 1] - times[0]) / 1e3 if at else 0.0
    top = Peak(peak, peak - (first or 0), first or 0, None, after, at, (), _categories(sizes))
    return DeviceMemory(0, count, (times[count - 1] - times[0]) / 1e3, top, None, None, 0, 0, doubts=doubts)
