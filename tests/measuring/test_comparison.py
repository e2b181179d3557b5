"""Runs compared: what is kept, in which unit, and what may be said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from advisor_mcp.errors import UsageError
from advisor_mcp.measuring.comparison import Comparison, Verdict, as_repetitions, compare, in_one_unit, prepare
from advisor_mcp.measuring.samples import Samples, Spread
from advisor_mcp.measuring.statistics import Ratio

STEADY = (1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0, 1.01, 0.99, 1.0)


def times(*values: float, repetitions: bool = True) -> Samples:
    return Samples("numbers", "times", values, repetitions=repetitions)


def _following(noise: np.ndarray) -> np.ndarray:
    """Values of which each is half of the one before it and half new."""
    for at in range(1, len(noise)):
        noise[at] = 0.5 * noise[at - 1] + 0.5 * noise[at]
    return noise


def steps(values: tuple[float, ...], **more: object) -> Samples:
    return replace(Samples("torchtitan", "ms", values), **more)  # type: ignore[arg-type]


def test_repetitions_keep_their_first_values_and_steps_lose_slow_ones() -> None:
    slow = (9.0, *STEADY)
    assert prepare("A", times(*slow)).removed == 0
    found = prepare("A", times(*slow, repetitions=False))
    assert (found.removed, found.kept, found.rule) == (
        1,
        tuple(range(1, 13)),
        "first step of a start, slow outliers, MSER-5",
    )
    assert prepare("A", times(*STEADY, repetitions=False)).rule == "none found by MSER-5"


def test_the_first_step_of_a_run_and_of_each_restart_is_left_out() -> None:
    assert prepare("A", steps((1.0, 1.0, 1.0), first_step_slow=True)).kept == (1, 2)
    assert prepare("A", steps((1.0, 1.0, 1.0, 1.0, 1.0), starts=(0, 3))).kept == (0, 1, 2, 4)
    assert prepare("A", steps((1.0,), first_step_slow=True)).kept == (0,)


def test_a_given_warm_up_counts_for_each_start_and_for_repetitions_too() -> None:
    assert prepare("A", steps(STEADY, starts=(0, 6)), warm_up=2).kept == (2, 3, 4, 5, 8, 9, 10, 11)
    assert prepare("A", times(1, 2, 3), warm_up=1).kept == (1, 2)
    assert prepare("A", steps(STEADY, first_step_slow=True), warm_up=0).removed == 0
    with pytest.raises(UsageError, match="A has 3 values; warm_up 3 leaves none"):
        prepare("A", times(1, 2, 3), warm_up=3)


def test_outliers_are_named_by_their_place_before_warm_up_was_removed() -> None:
    run = prepare("A", steps((9.0, *STEADY, 5.0), first_step_slow=True))
    assert (run.removed, run.outliers) == (1, [13])


@pytest.mark.parametrize(("ratio", "p", "corrected", "verdict"), [
    (Ratio(0.9, (0.85, 0.95), 0.02), 0.01, None, "faster"),
    (Ratio(1.1, (1.05, 1.15), 0.02), 0.01, 0.02, "slower"),
    (Ratio(1.1, (1.05, 1.15), 0.02), 0.03, 0.06, "borderline"),
    (Ratio(1.1, (0.99, 1.15), 0.02), 0.01, None, "borderline"),
    (Ratio(1.1, (0.99, 1.15), 0.02), 0.2, None, "no_difference_shown"),
    (Ratio(1.1), None, None, "too_few_samples"),
])  # fmt: skip
def test_a_difference_is_shown_where_interval_and_corrected_test_agree(
    ratio: Ratio, p: float | None, corrected: float | None, verdict: Verdict
) -> None:
    run = prepare("A", times(1, 2, 3, 4))
    assert Comparison(run, run, ratio, p, None, None, p_corrected=corrected).verdict == verdict


def test_speed_is_the_inverse_of_a_time_s_ratio_and_a_throughput_s_own() -> None:
    ratio = Ratio(0.8, (0.5, 1.0), 0.1)
    slow = prepare("A", times(1, 2))
    fast = prepare("A", Samples("numbers", "tokens_per_s", (1, 2), repetitions=True))
    of_times, of_speeds = (Comparison(run, run, ratio, 0.5, None, None) for run in (slow, fast))
    assert (of_times.speed, of_times.speed_interval) == (1.25, (1.0, 2.0))
    assert (of_speeds.speed, of_speeds.speed_interval) == (0.8, (0.5, 1.0))


def test_every_other_run_is_held_against_the_first_or_the_one_named_and_p_is_corrected() -> None:
    runs = {"A": times(1, 2, 3, 4, 5), "B": times(11, 12, 13, 14, 15), "C": times(1, 2, 3, 4, 5)}
    found = compare(runs)
    assert [(each.baseline.name, each.other.name, each.verdict) for each in found] == [
        ("A", "B", "slower"), ("A", "C", "no_difference_shown"),
    ]  # fmt: skip
    # 2 of the C(10, 5) = 252 ways, doubled by Holm; the larger p is as it was
    assert [each.p for each in found] == pytest.approx([2 / 252, 1])
    assert [each.p_corrected for each in found] == pytest.approx([4 / 252, 1])
    assert [each.other.name for each in compare(runs, baseline="B")] == ["A", "C"]


def test_three_values_are_too_few_and_are_no_comparison_to_correct_for() -> None:
    found = compare({"A": times(1, 2, 3, 4, 5), "B": times(1, 2, 3), "C": times(6, 7, 8, 9, 10)})
    assert [(each.verdict, each.p_corrected) for each in found] == [
        ("too_few_samples", None), ("slower", pytest.approx(2 / 252)),
    ]  # fmt: skip


def test_steps_that_follow_each_other_are_permuted_in_blocks_and_short_runs_of_them_are_told() -> None:
    noise = np.random.default_rng(5).standard_normal((2, 100))
    runs = {
        name: times(*np.exp(0.05 * _following(row)), repetitions=False) for name, row in zip("AB", noise, strict=True)
    }
    found = compare(runs)[0]
    assert found.block > 1
    assert found.baseline.short_for_its_correlation
    assert not prepare("A", times(*STEADY * 5)).short_for_its_correlation


def _geometric(first: float, last: float) -> Samples:
    return times(*(first * (last / first) ** (at / 99) for at in range(100)), repetitions=False)


def test_a_run_that_drifts_past_the_other_shows_no_difference_and_one_that_stays_clear_of_it_does() -> None:
    steady = times(*np.exp(0.01 * np.random.default_rng(5).standard_normal(100)), repetitions=False)
    past, clear = compare({"A": steady, "B": _geometric(0.95, 1.2), "C": _geometric(1.5, 1.8)})
    assert (past.drifting, clear.drifting) == (True, False)
    run = clear.other
    assert run.drift is not None
    assert run.span == pytest.approx((1.5, 1.8))
    shown = Ratio(0.9, (0.85, 0.95), 0.02)
    assert replace(past, ratio=shown, p=0.01, p_corrected=None).verdict == "borderline"
    assert replace(clear, ratio=shown, p=0.01, p_corrected=None).verdict == "faster"


def test_a_trend_of_less_than_two_percent_is_no_drift() -> None:
    run = prepare("A", _geometric(1.0, 1.015))
    assert run.trend is not None
    assert (run.drift, run.span) == (None, (run.median, run.median))


@pytest.mark.parametrize(("unit", "times_apart", "doubtful"), [
    ("times", 1000, True), ("times", 99, False), ("scores", 1 / 1000, True), ("ms", 1000, False),
])  # fmt: skip
def test_numbers_without_a_unit_that_lie_a_hundred_times_apart_may_be_in_different_units(
    unit: Any, times_apart: float, doubtful: bool
) -> None:
    runs = [Samples("numbers", unit, (1.0 * by, 1.01 * by, 0.99 * by, by), repetitions=True) for by in (1, times_apart)]
    assert compare(dict(zip("AB", runs, strict=True)))[0].units_may_differ == doubtful


def test_means_with_a_deviation_are_compared_without_samples() -> None:
    def mean(value: float) -> Samples:
        return Samples("llama-bench tg128", "tokens_per_s", (value,), True, spread=Spread(1.0, 5))

    assert compare({"A": mean(100), "B": mean(120)})[0].verdict == "faster"
    assert compare({"A": mean(100), "B": mean(100.5)})[0].verdict == "no_difference_shown"
    assert compare({"A": mean(100), "B": replace(mean(100.5), spread=None)})[0].verdict == "too_few_samples"


def test_different_units_are_refused_naming_a_run_of_each() -> None:
    runs = {"a": steps(STEADY), "b": steps(STEADY), "c": Samples("torchtitan", "tokens_per_s_per_gpu", STEADY)}
    with pytest.raises(UsageError) as caught:
        in_one_unit(runs)
    assert (
        caught.value.message
        == "the runs do not compare: a has times and c has tokens/s per GPU; give all of them in one unit"
    )


def test_step_times_of_different_batches_are_compared_by_samples_per_second() -> None:
    found = in_one_unit({"A": steps((500.0,), work=(64, "samples")), "B": steps((1000.0,), work=(256, "samples"))})
    assert {name: (samples.unit, samples.values) for name, samples in found.items()} == {
        "A": ("samples_per_s", (128.0,)), "B": ("samples_per_s", (256.0,)),
    }  # fmt: skip
    assert found["A"].notes == (
        "steps hold 64 samples here and another number elsewhere: samples per second are compared",
    )


def test_step_times_of_the_same_or_an_unknown_batch_stay_times() -> None:
    for work in ((64, "samples"), None):
        runs = {"A": steps((500.0,), work=(64, "samples")), "B": steps((1000.0,), work=work)}
        assert in_one_unit(runs) == runs


@pytest.mark.parametrize(("runs", "baseline", "sentence"), [
    ({"A": times(1)}, None, "a comparison needs 2 to 20 runs, not 1"),
    ({"A": times(1), "B": times(2)}, "C", "baseline names no run; the runs are A, B"),
])  # fmt: skip
def test_what_cannot_be_compared_is_refused(runs: dict[str, Samples], baseline: str | None, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        compare(runs, baseline)
    assert caught.value.message == sentence


def test_several_logs_of_one_run_are_repetitions_by_their_medians_after_warm_up() -> None:
    logs = [steps((50.0, *(value * scale for value in STEADY)), first_step_slow=True) for scale in (1.0, 2.0)]
    assert as_repetitions("A", logs) == Samples(
        "torchtitan", "ms", (1.0, 2.0), repetitions=True,
        notes=("2 logs, each counted as one repetition by its median after warm-up",),
    )  # fmt: skip
    with pytest.raises(UsageError, match="the measurements of A are in different units"):
        as_repetitions("A", [times(1, 2), logs[0]])
