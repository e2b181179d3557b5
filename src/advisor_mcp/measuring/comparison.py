"""Runs compared: what is kept of each, how each differs from the baseline, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from advisor_mcp.errors import UsageError
from advisor_mcp.measuring import statistics
from advisor_mcp.measuring.samples import Samples, SampleUnit
from advisor_mcp.measuring.statistics import ALPHA, FEWEST, Array, Order, Ratio, Trend

Verdict: TypeAlias = Literal["faster", "slower", "no_difference_shown", "borderline", "too_few_samples"]

MOST_RUNS = 20
LEAST_DRIFT = math.log(1.02)  # a choice of ours: less over a whole run is told in its row and a warning alone
MOST_APART = (
    100.0  # a choice of ours: as far apart, numbers without a unit are more often in two units than of two speeds
)
TRUSTED_CORRELATION_TIMES = 50  # dfm/emcee@0f077fc src/emcee/autocorr.py integrated_time(tol=50)

UNIT_WORDS: Mapping[SampleUnit, str] = {
    "ms": "times",
    "tokens_per_s": "tokens/s over all GPUs",
    "tokens_per_s_per_gpu": "tokens/s per GPU",
    "samples_per_s": "samples/s over all GPUs",
    "samples_per_s_per_gpu": "samples/s per GPU",
    "requests_per_s": "requests/s",
    "steps_per_s": "steps/s",
    "times": "numbers without a unit",
    "scores": "numbers without a unit (higher is better)",
}


@dataclass(frozen=True)
class Run:
    """One run: its samples, and the places of the values that are left after warm-up."""

    name: str
    samples: Samples
    kept: tuple[int, ...]
    rule: str

    @cached_property
    def values(self) -> Array:
        """The values after warm-up."""
        return np.asarray(self.samples.values, dtype=np.float64)[list(self.kept)]

    @property
    def removed(self) -> int:
        """How many values were left out as warm-up."""
        return len(self.samples.values) - len(self.kept)

    @cached_property
    def median(self) -> float:
        """The median of what is left, in the samples' unit."""
        return float(np.median(self.values))

    @cached_property
    def order(self) -> Order:
        """Serial correlation; repetitions are taken as independent."""
        return Order(None, float(len(self.values))) if self.samples.repetitions else statistics.order(self.values)

    @property
    def short_for_its_correlation(self) -> bool:
        """Whether neighbours are alike and the run too short to tell how far: fewer than 50 correlation times (emcee's rule)."""
        count = len(self.values)
        alike = self.order.neighbours is not None and self.order.neighbours > 2 / count**0.5
        return alike and self.order.worth < TRUSTED_CORRELATION_TIMES

    @cached_property
    def outliers(self) -> list[int]:
        """The places, in the samples, of values far from the median."""
        return [self.kept[at] for at in statistics.outliers(self.values)]

    @cached_property
    def trend(self) -> Trend | None:
        """Where the run drifts, the line that it follows; repetitions have no order."""
        return None if self.samples.repetitions else statistics.trend(self.values)

    @property
    def drift(self) -> Trend | None:
        """The trend where it is so large that it is the first thing to say of the run."""
        return self.trend if self.trend and abs(math.log(self.trend.ratio)) >= LEAST_DRIFT else None

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and the highest level of the run: the ends of its trend, or its median."""
        levels = (self.drift.first, self.drift.last) if self.drift else (self.median, self.median)
        return min(levels), max(levels)


@dataclass(frozen=True)
class Comparison:
    """A run against the baseline. `ratio` is of medians (means where a file kept no samples), other over baseline."""

    baseline: Run
    other: Run
    ratio: Ratio
    p: float | None
    smallest_visible: float | None
    times_longer: float | None
    block: int = 1
    p_corrected: float | None = None

    @property
    def speed(self) -> float:
        """How fast the other run is, the baseline being 1."""
        return self.ratio.ratio if self.baseline.samples.higher_is_better else 1 / self.ratio.ratio

    @property
    def speed_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of `speed`."""
        if self.ratio.interval is None or self.baseline.samples.higher_is_better:
            return self.ratio.interval
        return 1 / self.ratio.interval[1], 1 / self.ratio.interval[0]

    @property
    def drifting(self) -> bool:
        """Whether a run drifts so far that which of the two is ahead depends on where in the run one looks."""
        (low, high), (other_low, other_high) = self.baseline.span, self.other.span
        drifts = self.baseline.drift is not None or self.other.drift is not None
        return drifts and low <= other_high and other_low <= high

    @property
    def units_may_differ(self) -> bool:
        """Whether numbers of which no unit is known lie so far apart that one run may be in s and the other in ms."""
        unknown = self.baseline.samples.unit in ("times", "scores")
        return unknown and abs(math.log(self.ratio.ratio)) >= math.log(MOST_APART)

    @property
    def verdict(self) -> Verdict:
        """A difference is shown where test and interval both say so; where only one does, or a run drifts past the other, it
        is borderline.
        """
        p = self.p if self.p_corrected is None else self.p_corrected
        if p is None or self.speed_interval is None:
            return "too_few_samples"
        tested, outside = p < ALPHA, not self.speed_interval[0] <= 1 <= self.speed_interval[1]
        if tested and outside and not self.drifting:
            return "faster" if self.speed > 1 else "slower"
        return "borderline" if tested or outside else "no_difference_shown"


def prepare(name: str, samples: Samples, warm_up: int | None = None) -> Run:
    """A run without its warm-up: `warm_up` values of each start, or as many as the rule finds.

    Raises `UsageError` where `warm_up` leaves nothing.
    """
    kept: list[int] = []
    removed_first = False
    for first, end in samples.segments():
        cut = _cut(samples, first, end) if warm_up is None else min(warm_up, end - first)
        removed_first = removed_first or (warm_up is None and cut > 0)
        kept.extend(range(first + cut, end))
    if not kept:
        raise UsageError(f"{name} has {len(samples.values)} values; warm_up {warm_up} leaves none")
    return Run(name, samples, tuple(kept), _rule(samples, warm_up, removed_first))


def _cut(samples: Samples, first: int, end: int) -> int:
    if samples.repetitions:
        return 0
    found = statistics.warm_up(np.asarray(samples.values[first:end]), samples.higher_is_better)
    # a run's very first step, or the first after a restart, compiles, allocates and fills caches
    starts = (samples.first_step_slow and first == 0) or first > 0
    return max(found, 1 if starts and end - first > 1 else 0)


def _rule(samples: Samples, warm_up: int | None, removed: bool) -> str:
    if warm_up is not None:
        return f"warm_up {warm_up}"
    if samples.repetitions:
        return "repetitions: no warm-up is removed"
    return "first step of a start, slow outliers, MSER-5" if removed else "none found by MSER-5"


def compare(runs: Mapping[str, Samples], baseline: str | None = None, warm_up: int | None = None) -> list[Comparison]:
    """Every other run against the baseline (the first run, or the one named), in the order given.

    Raises `UsageError` for fewer than two or too many runs, an unknown baseline, and runs measured in different units.
    """
    if not 2 <= len(runs) <= MOST_RUNS:
        raise UsageError(f"a comparison needs 2 to {MOST_RUNS} runs, not {len(runs)}")
    if baseline is not None and baseline not in runs:
        raise UsageError(f"baseline names no run; the runs are {', '.join(runs)}")
    prepared = {name: prepare(name, samples, warm_up) for name, samples in in_one_unit(runs).items()}
    base = prepared.pop(baseline or next(iter(prepared)))
    found = [_against(base, other) for other in prepared.values()]
    tested = [each.p for each in found if each.p is not None]
    corrected = iter(statistics.holm(tested))
    return [each if each.p is None else replace(each, p_corrected=next(corrected)) for each in found]


def _against(base: Run, other: Run) -> Comparison:
    if base.samples.spread and other.samples.spread:
        return _from_summaries(base, other)
    worth = base.order.worth, other.order.worth
    ratio = statistics.ratio_of_medians(base.values, other.values, *worth)
    if ratio.interval is None:
        return Comparison(base, other, ratio, None, None, None)
    lengths = statistics.block_length(len(base.values), worth[0]), statistics.block_length(len(other.values), worth[1])
    block = min(max(lengths), len(base.values) // FEWEST, len(other.values) // FEWEST)
    p = statistics.permutation_p(base.values, other.values, block)
    visible, longer = statistics.smallest_visible(ratio, *worth), statistics.times_longer(ratio, *worth)
    return Comparison(base, other, ratio, p, visible, longer, block)


def _from_summaries(base: Run, other: Run) -> Comparison:
    summaries = [
        (run.median, run.samples.spread.deviation, run.samples.spread.count)
        for run in (base, other)
        if run.samples.spread
    ]
    ratio, p = statistics.ratio_from_summaries(*summaries)
    counts = [float(count) for _, _, count in summaries]
    visible, longer = statistics.smallest_visible(ratio, *counts), statistics.times_longer(ratio, *counts)
    return Comparison(base, other, ratio, p, visible, longer)


def in_one_unit(runs: Mapping[str, Samples]) -> Mapping[str, Samples]:
    """The runs in one unit: step times of different amounts of work become speeds; raises `UsageError` for mixed units."""
    units = {samples.unit for samples in runs.values()}
    if len(units) > 1:
        named = " and ".join(f"{name} has {UNIT_WORDS[samples.unit]}" for name, samples in _one_of_each_unit(runs))
        raise UsageError(f"the runs do not compare: {named}; give all of them in one unit")
    work = {samples.work for samples in runs.values()}
    if units != {"ms"} or None in work or len(work) == 1 or len({kind for _, kind in filter(None, work)}) > 1:
        return runs
    return {name: _as_speed(samples) for name, samples in runs.items()}


def _one_of_each_unit(runs: Mapping[str, Samples]) -> Sequence[tuple[str, Samples]]:
    return list({samples.unit: (name, samples) for name, samples in reversed(list(runs.items()))}.values())[::-1]


def _as_speed(samples: Samples) -> Samples:
    if samples.work is None:
        return samples
    amount, kind = samples.work
    unit: SampleUnit = "samples_per_s" if kind == "samples" else "tokens_per_s"
    note = f"steps hold {amount:,.0f} {kind} here and another number elsewhere: {kind} per second are compared"
    values = tuple(1e3 * amount / value for value in samples.values)
    return replace(samples, unit=unit, values=values, notes=(*samples.notes, note))


def as_repetitions(name: str, parts: Sequence[Samples], warm_up: int | None = None) -> Samples:
    """Several measurements of one run as its repetitions: a log of steps counts as its median after warm-up.

    Raises `UsageError` where they are in different units.
    """
    if len({part.unit for part in parts}) > 1:
        raise UsageError(f"the measurements of {name} are in different units; give all of them in one")
    logs = [prepare(name, part, warm_up).median for part in parts if not part.repetitions]
    values = [value for part in parts if part.repetitions for value in part.values]
    notes = (f"{len(logs)} logs, each counted as one repetition by its median after warm-up",) if logs else ()
    own = dict.fromkeys(note for part in parts for note in part.notes)
    return Samples(parts[0].form, parts[0].unit, (*values, *logs), repetitions=True, notes=(*own, *notes))
