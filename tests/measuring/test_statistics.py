"""The statistics of repeated timings, against what can be derived by hand or from their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from advisor_mcp.measuring import statistics
from advisor_mcp.measuring.statistics import Array, Order, Ratio, Trend


def values(*given: float) -> Array:
    return np.array(given, dtype=np.float64)


def noise(count: int, spread: float = 0.01, seed: int = 0) -> Array:
    return np.exp(spread * np.random.default_rng(seed).standard_normal(count))


def autoregression(count: int, neighbours: float) -> Array:
    steps = np.random.default_rng(5).standard_normal(count) * math.sqrt(1 - neighbours**2)
    for at in range(1, count):
        steps[at] += neighbours * steps[at - 1]
    return np.asarray(np.exp(0.05 * steps))


# ---- the ratio ----


@pytest.mark.parametrize("worth", [9.0, 31.0])
def test_the_interval_of_a_median_is_the_sample_at_the_beta_law_s_places_for_what_the_run_is_worth(
    worth: float,
) -> None:
    other = np.linspace(1, 2, 31)
    found = statistics.ratio_of_medians(np.ones(31), other, 31, worth)
    low, high = np.quantile(other, stats.beta.ppf([0.025, 0.975], (worth + 1) / 2, (worth + 1) / 2), method="hazen")
    assert found.ratio == 1.5
    assert found.interval == pytest.approx((low, high), rel=0.01)


def test_runs_without_spread_have_an_interval_without_width() -> None:
    assert statistics.ratio_of_medians(np.full(10, 1.0), np.full(10, 2.0), 10, 10) == Ratio(2, (2, 2), 0)


def test_the_same_runs_always_give_the_same_interval() -> None:
    runs = noise(30), noise(30, seed=1)
    assert statistics.ratio_of_medians(*runs, 30, 30) == statistics.ratio_of_medians(*runs, 30, 30)


def test_fewer_than_four_independent_values_have_a_ratio_and_no_interval() -> None:
    assert statistics.ratio_of_medians(values(1, 2, 3), values(3, 4, 5), 3, 3) == Ratio(2)
    assert statistics.ratio_of_medians(noise(30), noise(30), 30, 3.9).interval is None


def test_means_without_samples_are_compared_by_welch_s_test() -> None:
    # equal deviations and counts: 8 degrees of freedom, t 2.306; the relative error of each mean is 0.02 / sqrt(5)
    error = math.hypot(0.02 / math.sqrt(5), 0.02 / math.sqrt(5))
    found, p = statistics.ratio_from_summaries((100, 2, 5), (110, 2.2, 5))
    assert found.ratio == pytest.approx(1.1)
    assert found.log_error == pytest.approx(error)
    assert found.interval == pytest.approx((1.1 * math.exp(-2.306 * error), 1.1 * math.exp(2.306 * error)), rel=1e-4)
    assert p == pytest.approx(stats.ttest_ind_from_stats(100, 2, 5, 110, 2.2, 5, equal_var=False).pvalue)
    assert statistics.ratio_from_summaries((100, 0, 5), (110, 0, 5))[1] == 0
    assert statistics.ratio_from_summaries((100, 0, 5), (100, 0, 5))[1] == 1


# ---- the test ----


def test_few_values_are_permuted_in_every_way() -> None:
    # 2 of the C(8, 4) = 70 ways to share them out separate small from large, and none other is as extreme
    low, high = np.exp(0.01 * np.arange(4)), np.exp(0.01 * np.arange(4, 8))
    assert statistics.permutation_p(low, high, 1) == pytest.approx(2 / 70)
    # as blocks of two there are C(4, 2) = 6 ways
    assert statistics.permutation_p(low, high, 2) == pytest.approx(2 / 6)


def test_runs_of_the_same_values_do_not_differ() -> None:
    assert statistics.permutation_p(noise(20), noise(20), 1) == 1
    assert statistics.permutation_p(np.ones(5), np.ones(5), 1) == 1


def test_a_difference_in_spread_alone_is_none_in_medians() -> None:
    tight, loose = np.exp(np.linspace(-0.01, 0.01, 101)), np.exp(np.linspace(-0.5, 0.5, 101))
    assert statistics.permutation_p(tight, loose, 1) == 1


def test_of_very_long_runs_the_medians_of_neighbours_are_permuted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "LARGEST_TESTED", 8)
    low, high = np.repeat(np.exp(0.01 * np.arange(4)), 3), np.repeat(np.exp(0.01 * np.arange(4, 8)), 3)
    assert statistics.permutation_p(low, high, 1) == pytest.approx(2 / 70)


@pytest.mark.parametrize(("given", "corrected"), [
    ([0.01], [0.01]), ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]), ([0.5, 0.6], [1.0, 1.0]), ([], []),
])  # fmt: skip
def test_holm_multiplies_the_smallest_by_their_number_the_next_by_one_less(
    given: list[float], corrected: list[float]
) -> None:
    assert statistics.holm(given) == pytest.approx(corrected)


# ---- what the test can see ----


def test_the_smallest_visible_ratio_and_the_samples_that_settle_one_follow_from_the_error() -> None:
    reach = 1.15 * (1.95996 + 0.84162)  # t of so many degrees is z
    found = Ratio(math.exp(0.02), (1.0, 1.04), 0.01)
    assert statistics.smallest_visible(found, 1e6, 1e6) == pytest.approx(math.exp(reach * 0.01), rel=1e-6)
    assert statistics.times_longer(found, 1e6, 1e6) == pytest.approx((reach / 2) ** 2, rel=1e-4)


def test_without_an_error_or_a_difference_nothing_is_promised() -> None:
    assert statistics.smallest_visible(Ratio(1.1), 3, 3) is None
    assert statistics.times_longer(Ratio(1.1), 3, 3) is None
    assert statistics.times_longer(Ratio(1.0, (0.9, 1.1), 0.05), 9, 9) is None


# ---- the order of the values ----


def test_independent_values_are_worth_their_number() -> None:
    found = statistics.order(noise(5000))
    assert found.neighbours == pytest.approx(0, abs=0.03)
    assert 4500 <= found.worth <= 5000


@pytest.mark.parametrize("neighbours", [0.5, 0.8])
def test_values_that_follow_each_other_are_worth_fewer(neighbours: float) -> None:
    # the signs of a Gaussian autoregression correlate by 2/pi asin(r^k)
    time = 1 + 2 * sum(2 / math.pi * math.asin(neighbours**k) for k in range(1, 200))
    found = statistics.order(autoregression(20_000, neighbours))
    assert found.neighbours == pytest.approx(neighbours, abs=0.02)
    assert found.worth == pytest.approx(20_000 / time, rel=0.1)


def test_a_slow_wave_below_the_noise_still_counts() -> None:
    wave = noise(4000, 0.05) * np.exp(0.05 * np.sin(np.arange(4000) / 50))
    assert statistics.order(wave).worth < 400


def test_values_that_alternate_are_worth_no_more_than_their_number() -> None:
    assert statistics.order(np.tile([1.0, 2.0], 50)).worth == 100


def test_short_and_constant_runs_say_nothing_of_their_order() -> None:
    assert statistics.order(noise(19)) == Order(None, 19)
    assert statistics.order(np.ones(100)) == Order(None, 100)


@pytest.mark.parametrize(
    ("count", "worth", "block"), [(100, 100, 1), (100, 97, 1), (100, 50, 6), (100, 10, 25), (7, 3, 1)]
)
def test_blocks_span_three_correlation_times_and_leave_four_of_them(count: int, worth: float, block: int) -> None:
    assert statistics.block_length(count, worth) == block


def test_a_run_that_slows_down_has_a_trend_and_a_steady_one_has_none() -> None:
    slowing = statistics.trend(np.geomspace(240, 289, 49) * noise(49, 0.005))
    assert slowing is not None
    assert (slowing.first, slowing.last) == (pytest.approx(240, rel=0.01), pytest.approx(289, rel=0.01))
    assert slowing.ratio == slowing.last / slowing.first
    assert statistics.trend(noise(200)) is None
    assert statistics.trend(np.ones(200)) is None
    assert statistics.trend(np.linspace(1, 2, 19)) is None


def test_a_line_without_noise_is_its_own_trend_also_where_it_is_long() -> None:
    assert statistics.trend(np.geomspace(1, 2, 49)) == Trend(pytest.approx(1), pytest.approx(2))
    # 2,000 values are the medians of 4 neighbours each: the ends are those of the first and last four
    assert statistics.trend(np.geomspace(2, 1, 2000)) == Trend(pytest.approx(2, rel=0.01), pytest.approx(1, rel=0.01))


def test_values_that_only_follow_each_other_have_no_trend() -> None:
    assert statistics.trend(autoregression(200, 0.8)) is None


# ---- single values ----


def test_outliers_are_beyond_three_and_a_half_by_the_modified_z_score() -> None:
    # median 10.5, distances 2.5 1.5 0.5 0.5 1.5 x: MAD 1.5, so the limit is 3.5 x 1.5 / 0.6745 = 7.78 from the median
    assert statistics.outliers(values(8, 9, 10, 11, 12, 18.2)) == []
    assert statistics.outliers(values(8, 9, 10, 11, 12, 18.3)) == [5]


def test_where_most_values_are_equal_the_mean_deviation_stands_in() -> None:
    # mean deviation 980, times 1.2533 x 3.5 = 4,299 below 4,900
    assert statistics.outliers(values(100, 100, 100, 100, 5000)) == [4]
    assert statistics.outliers(np.ones(10)) == []
    assert statistics.outliers(values(1, 1, 9)) == []


@pytest.mark.parametrize(("count", "slow", "cut"), [(20, 2, 2), (12, 1, 1), (60, 3, 3), (200, 12, 12)])
def test_slow_values_at_the_start_are_warm_up(count: int, slow: int, cut: int) -> None:
    run = noise(count) * np.where(np.arange(count) < slow, 10.0, 1.0)
    assert statistics.warm_up(run, higher_is_better=False) == cut
    assert statistics.warm_up(1 / run, higher_is_better=True) == cut


def test_a_slow_ramp_is_cut_where_its_rest_is_lost_in_the_noise() -> None:
    run = noise(500) * (1 + 0.3 * np.exp(-np.arange(500) / 20))
    assert 40 <= statistics.warm_up(run, higher_is_better=False) <= 100


def test_a_steady_run_loses_nothing_and_neither_does_one_that_starts_fast() -> None:
    kept = [statistics.warm_up(noise(100, seed=seed), higher_is_better=False) for seed in range(100)]
    assert kept.count(0) >= 95
    assert statistics.warm_up(noise(100) * np.where(np.arange(100) < 10, 0.5, 1.0), higher_is_better=False) == 0


def test_a_checkpoint_in_the_first_half_does_not_make_all_before_it_warm_up() -> None:
    run = noise(100)
    run[40] = 20
    assert statistics.warm_up(run, higher_is_better=False) == 0


def test_at_most_half_of_a_run_is_warm_up_and_a_short_run_has_none() -> None:
    assert 45 <= statistics.warm_up(np.linspace(2, 1, 100), higher_is_better=False) <= 50
    assert statistics.warm_up(values(9, 1, 1, 1, 1, 1, 1, 1, 1), higher_is_better=False) == 0
