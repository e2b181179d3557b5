"""The answer of `compare_runs`: a sentence for each comparison, the figures behind it, and what they rest on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import islice

from pydantic import Field

from advisor_mcp.measuring.comparison import Comparison, Run, Verdict
from advisor_mcp.measuring.numbers import FEW
from advisor_mcp.measuring.samples import SampleUnit
from advisor_mcp.measuring.statistics import FEWEST, FEWEST_FOR_ORDER, NORMAL_MAD, RESAMPLES, SEED, Trend
from advisor_mcp.results import Answer, Derivation, Detail, Interval, Row, number

BRIEF_OUTLIERS, FULL_OUTLIERS = 3, 40
BRIEF_SENTENCES = 3
MOST_TIMES_LONGER = 100  # beyond, no number of samples is worth naming
SOURCES = (
    "arxiv:1304.5939",
    "doc:scipy-permutation-test",
    "doc:mser",
    "repo:dfm/emcee@0f077fc:src/emcee/autocorr.py",
    "doc:modified-z-score",
)
HOLM = "doc:holm"
TREND = "repo:mmhs013/pymannkendall@1.4.3:pymannkendall/pymannkendall.py"


class MeasuredRun(Row):
    """One run after warm-up, in the answer's unit."""

    name: str
    form: str = Field(description="What it was read as")
    n: int = Field(description="Values used")
    median: float
    spread_percent: float = Field(description="Standard deviation by the median absolute deviation, of the median")
    removed: int = Field(description="Values left out at the start as warm-up")
    warm_up: str = Field(description="By which rule")
    outliers: int = Field(description="Values with a modified z-score above 3.5; kept")
    outliers_at: list[str] | None = Field(default=None, description="The furthest, by step where the log states steps")
    neighbours_correlation: float | None = Field(default=None, description="Of values that follow each other")
    independent_values: int | None = Field(default=None, description="What the run is worth with that correlation")
    drift_percent: float | None = Field(
        default=None, description="Change of speed along the trend, first value to last"
    )


class ComparisonRow(Row):
    """One run against the baseline; percentages are of speed, above 0 faster."""

    run: str
    verdict: Verdict
    speed_change_percent: float
    speed_change_percent_range: Interval | None = Field(default=None, description="95 % bootstrap interval")
    median_ratio: float = Field(description="Of the values as measured, over the baseline's")
    p: float | None = Field(default=None, description="Permutation test, two-sided")
    p_corrected: float | None = Field(default=None, description="Holm's, with several comparisons")
    smallest_visible_percent: float | None = Field(default=None, description="Found in about 80 % of such comparisons")
    more_values_needed: int | None = Field(default=None, description="Of each run, to show a difference of this size")


class RunComparison(Answer):
    """Whether runs differ, by how much, and how sure that is."""

    unit: str
    baseline: str
    comparisons: list[ComparisonRow]
    runs: list[MeasuredRun]


def report(found: Sequence[Comparison], detail: Detail) -> RunComparison:
    """The answer to one or more comparisons with the same baseline."""
    runs = [found[0].baseline, *(each.other for each in found)]
    several = len(found) > 1
    return RunComparison(
        summary=_summary(runs, found),
        unit=_unit(runs[0].samples.unit),
        baseline=runs[0].name,
        comparisons=[_row(each, several) for each in found],
        runs=[_run(run, FULL_OUTLIERS if detail == "full" else BRIEF_OUTLIERS) for run in runs],
        assumptions=list(_assumptions(runs, found)),
        warnings=list(_warnings(runs, found)),
        sources=[*SOURCES, *([HOLM] if several else []), *([TREND] if any(run.trend for run in runs) else [])],
        next_measurement=_next(runs, found),
        derivation=_derivation() if detail == "full" else None,
    )


def _unit(unit: SampleUnit) -> str:
    return {"times": "as given (lower is better)", "scores": "as given (higher is better)"}.get(unit, unit)


# ---- sentences ----


def _summary(runs: Sequence[Run], found: Sequence[Comparison]) -> str:
    drifts = [_drift(run, run.drift) for run in runs if run.drift][:BRIEF_SENTENCES]
    said = [_sentence(each) for each in found[:BRIEF_SENTENCES]]
    rest = len(found) - len(said)
    said = [*drifts, *said]
    said = [said[0], *(text[0].lower() + text[1:] if text.startswith(_OURS) else text for text in said[1:])]
    return "; ".join(said) + (f"; and {rest} more" if rest else "") + "."


_OURS = ("No difference", "Borderline", "Too few", "How ")


def _drift(run: Run, trend: Trend) -> str:
    """ "A gets slower over the run: its times grow by 20.4 % (240 to 289 ms)"."""
    unit, grows = run.samples.unit, trend.ratio > 1
    way = ("higher" if grows else "lower") if unit == "scores" else _pace(grows == run.samples.higher_is_better)
    what = {"ms": "times", "times": "times", "scores": "values"}.get(unit, "speeds")
    change = f"{what} {'grow' if grows else 'fall'} by {_percent(abs(trend.ratio - 1))}"
    levels = f"{number(_figure(trend.first))} to {number(_figure(trend.last))}"
    return f"{run.name} gets {way} over the run: its {change} ({levels}{'' if unit in ('times', 'scores') else f' {unit}'})"


def _pace(faster: bool) -> str:
    return "faster" if faster else "slower"


def _sentence(each: Comparison) -> str:
    name, base = each.other.name, each.baseline.name
    if each.drifting:
        return (
            f"How {name} compares with {base} depends on where in the run one looks; "
            f"the medians differ by {_percent(abs(each.speed - 1))}"
        )
    if each.verdict == "too_few_samples":
        return (
            f"Too few samples to compare {name} with {base}: {_worth(each.other)} and {_worth(each.baseline)}, and "
            f"{FEWEST} independent ones of each are the fewest; the medians differ by {_percent(abs(each.speed - 1))}"
        )
    if each.verdict in ("faster", "slower"):
        doubt = ", if both are in one unit" if each.units_may_differ else ""
        return f"{name} is {_change(each.speed, each)} than {base} ({_interval(each)}){doubt}"
    if each.verdict == "borderline":
        return f"Borderline: {name} seems {_change(each.speed, each)} than {base} ({_interval(each)}), but {_disagreement(each)}"
    seen = (
        f"; {_percent((each.smallest_visible or 1) - 1)} or more would probably have been seen"
        if each.smallest_visible
        else ""
    )
    return f"No difference shown between {name} and {base}: {name} measured {_change(each.speed, each)} ({_interval(each)}){seen}"


def _worth(run: Run) -> str:
    count, worth = len(run.values), run.order.worth
    plain = f"{number(count)} value{'s' if count > 1 else ''}"
    return plain if worth > count - 1 else f"{plain} worth {worth:.1f} independent ones"


def _change(speed: float, each: Comparison) -> str:
    """ "3.2 % faster"; figures without a unit of which higher is better are higher or lower."""
    more, less = ("higher", "lower") if each.baseline.samples.unit == "scores" else ("faster", "slower")
    return f"{_percent(abs(speed - 1))} {more if speed >= 1 else less}"


def _interval(each: Comparison) -> str:
    if each.speed_interval is None:
        return "no interval"
    low, high = each.speed_interval
    if (low - 1) * (high - 1) > 0:
        near, far = sorted((abs(low - 1), abs(high - 1)))
        return f"95 % interval {_percent(near).removesuffix(' %')} to {_percent(far)}"
    return f"95 % interval {_change(low, each)} to {_change(high, each)}"


def _percent(share: float) -> str:
    """A share in percent, to a decimal, or to two digits below 1 %."""
    return f"{100 * share:,.1f} %" if share >= 0.01 else f"{100 * share:.2g} %"


def _disagreement(each: Comparison) -> str:
    p = each.p if each.p_corrected is None else each.p_corrected
    inside = each.speed_interval is not None and each.speed_interval[0] <= 1 <= each.speed_interval[1]
    return f"the interval holds 0 while p is {p:.2g}" if inside else f"the permutation test gives p {p:.2g}"


# ---- rows ----


def _row(each: Comparison, several: bool) -> ComparisonRow:
    interval = each.speed_interval
    return ComparisonRow(
        run=each.other.name,
        verdict=each.verdict,
        speed_change_percent=_figure(100 * (each.speed - 1)),
        speed_change_percent_range=(_figure(100 * (interval[0] - 1)), _figure(100 * (interval[1] - 1)))
        if interval
        else None,
        median_ratio=_figure(each.ratio.ratio, 5),
        p=None if each.p is None else _figure(each.p, 2),
        p_corrected=None if each.p_corrected is None or not several else _figure(each.p_corrected, 2),
        smallest_visible_percent=None
        if each.smallest_visible is None
        else _figure(100 * (each.smallest_visible - 1), 2),
        more_values_needed=_more(each),
    )


def _more(each: Comparison) -> int | None:
    """How many more values of each run would show the observed difference; None where it is shown or out of reach."""
    if each.verdict not in ("no_difference_shown", "borderline") or each.times_longer is None:
        return None
    if not 1 < each.times_longer <= MOST_TIMES_LONGER:
        return None
    count = max(
        len(run.values) * (run.samples.spread.count if run.samples.spread else 1) for run in (each.baseline, each.other)
    )
    return math.ceil(count * (each.times_longer - 1))


def _run(run: Run, most_outliers: int) -> MeasuredRun:
    count, order = len(run.values), run.order
    at = list(islice(_outliers(run), most_outliers))
    drift = None if run.trend is None else (run.trend.ratio if run.samples.higher_is_better else 1 / run.trend.ratio)
    return MeasuredRun(
        name=run.name,
        form=run.samples.form,
        n=run.samples.spread.count if run.samples.spread else count,
        median=_figure(run.median, 5),
        spread_percent=_figure(100 * _spread(run) / run.median, 2),
        removed=run.removed,
        warm_up=run.rule,
        outliers=len(run.outliers),
        outliers_at=at or None,
        neighbours_correlation=None if order.neighbours is None else round(order.neighbours, 2) + 0.0,  # no -0.0
        independent_values=None if order.neighbours is None else math.floor(order.worth),
        drift_percent=None if drift is None else _figure(100 * (drift - 1), 2),
    )


def _spread(run: Run) -> float:
    if run.samples.spread:
        return run.samples.spread.deviation
    import numpy as np

    return float(np.median(np.abs(run.values - run.median))) / NORMAL_MAD


def _outliers(run: Run) -> Iterable[str]:
    """The outliers, the furthest first: ``step 250 (after a checkpoint): 3.1 x the median``."""
    values, steps = run.samples.values, run.samples.steps
    for at in sorted(run.outliers, key=lambda place: -abs(math.log(values[place] / run.median))):
        place = f"step {steps[at]}" if steps else f"value {at + 1}"
        event = run.samples.events.get(at)
        after = f" (after {_after(event)})" if event else ""
        yield f"{place}{after}: {values[at] / run.median:.3g} x the median"


def _after(event: str) -> str:
    return "an evaluation" if event == "evaluation" else "a checkpoint"


def _figure(value: float, digits: int = 3) -> float:
    return float(f"{value:.{digits}g}") if abs(value) < 10**digits else round(value, 1)


# ---- what it rests on ----


def _assumptions(runs: Sequence[Run], found: Sequence[Comparison]) -> Iterable[str]:
    if any(run.samples.unit == "times" for run in runs):
        yield "numbers are times, lower is better"
    if any(run.samples.form == "numbers" and run.samples.repetitions for run in runs):
        yield f"fewer than {FEW} plain numbers are repetitions, measured warm and independent of each other"
    if any(not run.samples.repetitions and run.order.neighbours is None and len(run.values) > 1 for run in runs):
        yield f"steps of runs below {FEWEST_FOR_ORDER} values are taken as independent of each other"
    if any(run.samples.spread for run in runs):
        yield "means compared by Welch's t test, as the files keep no samples"
    else:
        yield f"bootstrap and permutations: {RESAMPLES:,} resamples at most, seed {SEED}"
    blocks = sorted({each.block for each in found if each.block > 1})
    if blocks:
        yield f"serial correlation is allowed for: wider intervals, {', '.join(map(str, blocks))} neighbours permuted together"
    if len(found) > 1:
        yield f"{len(found)} comparisons: p corrected by Holm; each interval is 95 % by itself"


def _warnings(runs: Sequence[Run], found: Sequence[Comparison]) -> Iterable[str]:
    for each in found:
        if each.units_may_differ:
            times = number(float(f"{max(each.ratio.ratio, 1 / each.ratio.ratio):.3g}"))
            yield (
                f"{each.other.name} and {each.baseline.name} are {times} times apart: are both in one unit (s, ms)? "
                "Give numbers of one unit, and say which with unit"
            )
    for run in runs:
        yield from (f"{run.name}: {note}" for note in run.samples.notes)
        if 3 * run.removed >= len(run.samples.values) >= FEWEST_FOR_ORDER:
            yield f"{run.name}: a third of it or more is warm-up, so its rest may not be steady either; run longer"
        if run.short_for_its_correlation:
            yield f"{run.name}: short against how strongly its values follow each other; the interval may be too narrow"
        if run.trend is not None:
            yield f"{run.name}: the run drifts, so its median depends on its length"
    if not all(run.samples.repetitions for run in runs):
        yield "one start of each run: what differs from start to start (node, clocks, placement) is in no interval"
    if len({run.samples.form.split(" ")[0] for run in runs} - {"numbers"}) > 1:
        yield "the runs were read from different kinds of files, which may measure different things"


def _next(runs: Sequence[Run], found: Sequence[Comparison]) -> str:
    if drifting := [run.name for run in runs if run.drift]:
        return (
            f"find what changes over {' and '.join(drifting[:BRIEF_SENTENCES])}: clocks and heat (inspect_gpus), or a trace of "
            "a late step with an early one as its baseline (diagnose_trace); then compare the same steps of each run"
        )
    if any(each.verdict == "too_few_samples" for each in found):
        if any(run.samples.spread for each in found for run in (each.baseline, each.other)):
            return "run llama-bench with -o json, which keeps every repetition"
        return "measure at least 10 values of each run; 20 or more steps let warm-up and serial correlation be told"
    open_ = [each for each in found if each.verdict in ("no_difference_shown", "borderline")]
    needed = [more for each in open_ if (more := _more(each)) is not None]
    if needed:
        return f"{number(max(needed))} more values of each run would show a difference of the size seen, if it is real"
    if open_:
        return "stop, unless a difference below the smallest visible one matters"
    return "repeat both in turn (A B A B) from fresh starts, to see that the difference outlives a restart"


def _derivation() -> list[Derivation]:
    return [
        Derivation(
            figure="comparisons.speed_change_percent_range",
            formula="2.5 and 97.5 percentiles of the ratio of medians of resamples, each of as many values as the run is worth",
            inputs={"resamples": RESAMPLES, "seed": SEED},
        ),
        Derivation(
            figure="comparisons.p",
            formula="share of relabelled blocks with a studentised difference of log medians as large; McKean-Schrader errors",
            source="arxiv:1304.5939",
        ),
        Derivation(
            figure="comparisons.smallest_visible_percent",
            formula="100 x (exp(1.15 x (t(0.975) + t(0.80)) x standard error of the log ratio) - 1)",
        ),
        Derivation(
            figure="runs.independent_values",
            formula="n / integrated autocorrelation time of the values' sides of the median (Sokal's window 5, or AR(1) if larger)",
            source="repo:dfm/emcee@0f077fc:src/emcee/autocorr.py",
        ),
        Derivation(
            figure="runs.drift_percent",
            formula="Theil-Sen line through log values, where Mann-Kendall's p < 0.01 with Yue and Wang's correction",
            source=TREND,
        ),
        Derivation(
            figure="runs.removed",
            formula="leading slow outliers, then argmin over d of the variance of what follows / its number, in batches of 5 (1 below 50)",
            source="doc:mser",
        ),
        Derivation(
            figure="runs.outliers", formula="0.6745 x |value - median| / MAD > 3.5", source="doc:modified-z-score"
        ),
    ]
