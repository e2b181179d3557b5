"""Pictures in a page's own terms: every place and size in percent, so that they fit any width and zoom without a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from advisor_mcp.tracing.figures import StepRow
from advisor_mcp.tracing.page.lanes import Box, Picture
from advisor_mcp.tracing.page.words import KINDS, PARTS

MOST_NAMES = 400
"""Names of boxes that the page holds, those with the most time first."""

NARROWEST = 0.03
"""Percent of the width below which a box would vanish."""

LABELLED = 3.0
"""Percent of the width from which on a box has its name written into it."""


class Boxes:
    """The boxes of a picture in the page's terms: places in percent, and each name once."""

    def __init__(self, drawn: Picture) -> None:
        self.span, self.lanes = drawn.span, drawn.lanes
        time: dict[str, int] = {}
        for lane in drawn.lanes:
            for box in lane.boxes:
                time[box.name] = time.get(box.name, 0) + box.busy
        self.names = sorted(time, key=lambda name: -time[name])[:MOST_NAMES]
        self._place = {name: place for place, name in enumerate(self.names)}

    def at(self, nanoseconds: int) -> str:
        """A time as a place in the picture."""
        return place(100 * nanoseconds / self.span)

    def width(self, box: Box) -> str:
        """How wide a box is; never so narrow that it vanishes."""
        return place(max(100 * (box.end - box.start) / self.span, NARROWEST))

    def is_wide(self, box: Box) -> bool:
        """Whether a name is written into the box."""
        return box.count == 1 and box.end - box.start >= self.span * LABELLED / 100

    def told(self, box: Box) -> str:
        """Name, start, length, events and percent busy, for the script."""
        name = self._place.get(box.name, -1)
        return f"{name},{box.start},{box.end - box.start},{box.count},{100 * box.busy_share:.0f}"

    @property
    def kinds(self) -> dict[str, str]:
        """What the kinds that occur are called."""
        found = {box.kind for lane in self.lanes for box in lane.boxes}
        return {kind: word.title for kind, word in KINDS.items() if kind in found}

    @property
    def ticks(self) -> list[tuple[int, bool]]:
        """Round times along the window, and whether each is a main one: about six, with four between any two."""
        step = next(size for size in _round_times() if self.span / size <= 6)
        fifth = max(step // 5, 1)
        return [(at, at % step == 0) for at in range(0, self.span, fifth)] if step >= 5 else [(0, True)]


@dataclass(frozen=True, slots=True)
class Bar:
    """One part of one step's bar, and what it says when it is pointed at."""

    kind: str
    x: str
    width: str
    y: str
    height: str
    told: str


@dataclass(frozen=True, slots=True)
class Line:
    """A time on the vertical axis, in nanoseconds, and its place from the top."""

    y: str
    time: int


class Chart:
    """Steps as bars, each stacked from its four parts; of a host alone they have no parts."""

    FLOOR, LEFT, HEADROOM, NAMED = 90.0, 7.0, 1.15, 12

    def __init__(self, rows: Sequence[StepRow], parted: bool) -> None:
        self.rows, self.parted = rows, parted
        self.top = max((row.duration_ms for row in rows), default=0.0) * 1e6 * self.HEADROOM or 1.0
        self.wide = (100 - self.LEFT) / max(len(rows), 1)

    @property
    def floor(self) -> str:
        """Where the bars stand."""
        return place(self.FLOOR)

    @property
    def lines(self) -> list[Line]:
        """Up to four round times."""
        step = next(size for size in _round_times() if self.top / size <= 4)
        return [Line(place(self.FLOOR * (1 - at / self.top)), at) for at in range(step, int(self.top * 0.95), step)]

    @property
    def bars(self) -> Iterator[Bar]:
        """The parts of every step, from the bottom up."""
        for number, row in enumerate(self.rows):
            x, below = self.LEFT + (number + 0.1) * self.wide, 0.0
            for kind, percent, told in self._parts(row):
                tall = self.FLOOR * percent / 100 * row.duration_ms * 1e6 / self.top
                below += tall
                yield Bar(kind, place(x), place(0.8 * self.wide), place(self.FLOOR - below), place(tall), told)

    def _parts(self, row: StepRow) -> list[tuple[str, float, str]]:
        if not self.parted:
            return [("range", 100.0, f"{row.step}: {row.duration_ms} ms")]
        percents = {part: getattr(row, f"{part}_percent") for part in PARTS}
        return [
            (part, percent, f"{row.step}: {PARTS[part].title.lower()} {percent} % of {row.duration_ms} ms")
            for part, percent in percents.items()
            if percent > 0
        ]

    @property
    def names(self) -> list[tuple[str, str]]:
        """Places and names of as many steps as there is room for."""
        every = -(-len(self.rows) // self.NAMED)
        return [
            (place(self.LEFT + (number + 0.5) * self.wide), row.step.removeprefix("ProfilerStep#"))
            for number, row in enumerate(self.rows)
            if number % every == 0
        ]

    @property
    def table(self) -> list[dict[str, object]]:
        """The same as rows."""
        return [row.model_dump(include=None if self.parted else {"step", "duration_ms"}) for row in self.rows]


def place(percent: float) -> str:
    """A percentage with three decimals, as short as it can be written."""
    return f"{percent:.3f}".rstrip("0").rstrip(".")


def _round_times() -> Sequence[int]:
    return [digit * 10**power for power in range(19) for digit in (1, 2, 5)]
