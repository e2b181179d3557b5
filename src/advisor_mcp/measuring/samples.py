"""What a run was measured to do: its values in one unit, with what the log says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

SampleUnit: TypeAlias = Literal[
    "ms",
    "tokens_per_s",
    "tokens_per_s_per_gpu",
    "samples_per_s",
    "samples_per_s_per_gpu",
    "requests_per_s",
    "steps_per_s",
    "times",
    "scores",
]
"""`times` are numbers of which only the direction is known (lower is better), `scores` those of which higher is better."""

Event: TypeAlias = Literal["evaluation", "checkpoint"]


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean's standard deviation over `count` repetitions, where a file keeps no samples."""

    deviation: float
    count: int


@dataclass(frozen=True, slots=True)
class Samples:
    """The values of one run in the order in which they were measured.

    `repetitions` are whole measurements, warmed up by whoever took them; otherwise values are steps of one run. `starts` are
    the places where the run began anew, `work` what one step holds (512 samples), `events` what happened before a value.
    """

    form: str
    unit: SampleUnit
    values: tuple[float, ...]
    repetitions: bool = False
    steps: tuple[int, ...] | None = None
    starts: tuple[int, ...] = (0,)
    events: Mapping[int, Event] = field(default_factory=dict)
    work: tuple[float, Literal["samples", "tokens"]] | None = None
    spread: Spread | None = None
    first_step_slow: bool = False
    notes: tuple[str, ...] = ()

    @property
    def higher_is_better(self) -> bool:
        """Whether the values are speeds and not times."""
        return self.unit not in ("ms", "times")

    def segments(self) -> Iterator[tuple[int, int]]:
        """The first and the last place (exclusive) of each stretch between restarts."""
        yield from zip(self.starts, (*self.starts[1:], len(self.values)), strict=True)
