"""What was read of a fleet over a window, and the sums over it that findings and answer share.

Time is counted in whole steps of the range queries: a series that has a value at a step held its GPU for that step.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from advisor_mcp.findings import Family
from advisor_mcp.gpus.fleet.identity import Unit
from advisor_mcp.gpus.fleet.metrics import ACTIVITY

IDLE = 0.01
"""Activity of a step below which nothing ran in it: percentages are exported as whole numbers, so less than 1 % is 0."""

EFFECTIVE = 0.8
INEFFECTIVE = 0.5
"""SM activity that is necessary for effective use, and below which use is likely ineffective (NVIDIA DCGM user guide,
feature overview, profiling metrics)."""

SETTLING_S = 600
"""A GPU may be idle for so long without a word: jobs load data, weights and checkpoints."""

HOUR = 3600.0


@dataclass(frozen=True)
class Track:
    """One GPU in the hands of one job, or of none that is named.

    `shapes` holds a measure's mean over each step that has samples, by the number of the step; `means` one figure for
    the whole time; `clock_events` the bit mask at each step. Units are those of `metrics`.
    """

    unit: Unit
    job: str | None
    shapes: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    means: Mapping[str, float] = field(default_factory=dict)
    clock_events: Mapping[int, int] = field(default_factory=dict)
    exporter: str | None = None

    @cached_property
    def steps(self) -> frozenset[int]:
        """The steps at which the GPU was seen in these hands."""
        return frozenset(step for key in ACTIVITY for step in self.shapes.get(key, ()))

    @cached_property
    def idle_steps(self) -> frozenset[int]:
        """The steps at which no measure of activity saw anything: one small kernel is enough to make a GPU busy."""
        shapes = [shape for key in ACTIVITY if (shape := self.shapes.get(key))]
        return frozenset(step for step in self.steps if all(shape.get(step, 0) < IDLE for shape in shapes))

    def mean(self, key: str) -> float | None:
        """A measure's mean over the time that it was seen; None where it was not."""
        if key in self.means:
            return self.means[key]
        shape = self.shapes.get(key)
        return sum(shape.values()) / len(shape) if shape else None

    @cached_property
    def activity(self) -> float | None:
        """The mean of the most telling measure of activity there is."""
        return next((found for key in ACTIVITY if (found := self.mean(key)) is not None), None)


@dataclass(frozen=True, slots=True)
class Event:
    """An Xid of a GPU; `fresh` where it came within the window and did not stand since before it."""

    unit: Unit
    code: int
    fresh: bool
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exporter:
    """A target; `silent_s` is how long before the window's end its last sample was, `coverage` its share of steps."""

    name: str
    hosts: tuple[str, ...]
    gpus: int
    silent_s: float
    coverage: float
    up: bool | None = None


@dataclass(frozen=True)
class Use:
    """What a job did with its GPUs; hours are GPU-hours, means are weighted by them."""

    job: str | None
    tracks: tuple[Track, ...]
    hours: float
    idle_hours: float
    activity: float | None

    @property
    def gpus(self) -> int:
        """GPUs (or partitions) that the job held at some time."""
        return len({track.unit.id for track in self.tracks})

    @property
    def name(self) -> str:
        """The job, in words."""
        return self.job or "no job"

    def mean(self, key: str) -> float | None:
        """A measure's mean over the job's GPUs, by the time each was held; None where none of them has it."""
        found = [(value, len(track.steps)) for track in self.tracks if (value := track.mean(key)) is not None]
        steps = sum(count for _, count in found)
        return sum(value * count for value, count in found) / steps if steps else None


@dataclass(frozen=True)
class Fleet:
    """A fleet over a window of `steps` steps of `step_s` seconds.

    `growth` says by how much a counter grew on a GPU, `highest` the largest value of a gauge, both by key and GPU;
    `restarted` are the GPUs whose counters fell back; `present` the keys of `metrics` that were served at all, and `sources`
    where those are described.
    """

    step_s: float
    steps: int
    tracks: tuple[Track, ...]
    growth: Mapping[str, Mapping[Unit, float]] = field(default_factory=dict)
    highest: Mapping[str, Mapping[Unit, float]] = field(default_factory=dict)
    restarted: frozenset[Unit] = frozenset()
    events: tuple[Event, ...] = ()
    exporters: tuple[Exporter, ...] = ()
    present: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    scrape_s: float | None = None

    @property
    def window_s(self) -> float:
        """The time that was looked at, in seconds."""
        return self.step_s * self.steps

    @cached_property
    def units(self) -> frozenset[Unit]:
        """Every GPU or partition that was seen."""
        return frozenset(track.unit for track in self.tracks)

    @cached_property
    def hosts(self) -> frozenset[str]:
        """Every host that was seen."""
        return frozenset(unit.host for unit in self.units)

    @cached_property
    def labelled(self) -> bool:
        """Whether any series names a job: without that, nobody can say which GPUs are allocated."""
        return any(track.job for track in self.tracks)

    @cached_property
    def _holders(self) -> Mapping[tuple[str, int], int]:
        """In how many tracks a GPU stands at a step; a GPU that jobs share is counted once, in equal parts."""
        return Counter((track.unit.id, step) for track in self.tracks for step in track.steps)

    def hours(self, track: Track, steps: Iterable[int] | None = None) -> float:
        """GPU-hours of a track, or of some of its steps: sum of share of the GPU x step / jobs that share it."""
        chosen = track.steps if steps is None else steps
        parts = sum(1 / self._holders[track.unit.id, step] for step in chosen)
        return track.unit.share * parts * self.step_s / HOUR

    @cached_property
    def total_hours(self) -> float:
        """GPU-hours that were seen."""
        return sum(map(self.hours, self.tracks))

    @cached_property
    def uses(self) -> Mapping[str | None, Use]:
        """What each job did, and under None what GPUs without a job did."""
        grouped = defaultdict[str | None, list[Track]](list)
        for track in self.tracks:
            grouped[track.job].append(track)
        return {job: self._use(job, tuple(tracks)) for job, tracks in grouped.items()}

    @property
    def jobs(self) -> list[Use]:
        """The uses that have a job; the whole fleet as one where no series names any."""
        return [use for job, use in self.uses.items() if job is not None or not self.labelled]

    @cached_property
    def worked(self) -> list[Use]:
        """The jobs that were seen for long enough to judge them, without their GPUs that stood idle throughout."""
        parts = [(use.job, tuple(t for t in use.tracks if not self.idle_throughout(t))) for use in self.jobs]
        return [self._use(job, tracks) for job, tracks in parts if tracks and self._settled(tracks)]

    def _use(self, job: str | None, tracks: tuple[Track, ...]) -> Use:
        hours = [self.hours(track) for track in tracks]
        idle = sum(self.hours(track, track.idle_steps) for track in tracks)
        seen = [
            (track.activity, spent) for track, spent in zip(tracks, hours, strict=True) if track.activity is not None
        ]
        weight = sum(spent for _, spent in seen)
        activity = sum(value * spent for value, spent in seen) / weight if weight else None
        return Use(job, tracks, sum(hours), idle, activity)

    def percent(self, hours: float) -> float:
        """GPU-hours as a share of all that were seen, in percent."""
        return 100 * hours / self.total_hours if self.total_hours else 0.0

    def idle_throughout(self, track: Track) -> bool:
        """Whether a GPU did nothing for nine tenths of the time in these hands, and for longer than jobs need to start."""
        idle_s = len(track.idle_steps) * self.step_s
        return idle_s >= min(SETTLING_S, 0.9 * self.window_s) and len(track.idle_steps) >= 0.9 * len(track.steps)

    def _settled(self, tracks: Sequence[Track]) -> bool:
        seen = max(len(track.steps) for track in tracks) * self.step_s
        return seen >= min(SETTLING_S, 0.9 * self.window_s)


FLEET: Family[Fleet] = Family("advisor_mcp.gpus.fleet.findings")


def worst(rows: Iterable[tuple[float, str]], count: int = 20) -> tuple[str, ...]:
    """The texts of the heaviest rows."""
    return tuple(text for _, text in sorted(rows, key=lambda row: (-row[0], row[1]))[:count])


def shown_units(units: Sequence[Unit], count: int = 3) -> str:
    """A few GPUs by name, and how many there are beyond them."""
    named = ", ".join(str(unit) for unit in units[:count])
    return named + (f" and {len(units) - count} more" if len(units) > count else "")


def plural(count: int, one: str) -> str:
    """A count with its noun."""
    return f"{count:,} {one}" + ("" if count == 1 else "s")
