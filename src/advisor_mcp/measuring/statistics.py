"""The statistics of repeated timings: medians and their ratio, warm-up, outliers, serial correlation, drift, power.

Values are speeds or times above 0 in the order in which they were measured. Nothing here knows where they come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

SEED = 1979  # of every resampling, so that the same data give the same answer (the year of Efron's bootstrap)
RESAMPLES = 9_999
FEWEST_RESAMPLES = 999
LARGEST_RESAMPLING = 20_000_000  # values drawn in all by one permutation test
LARGEST_TESTED = 20_000  # values of both runs; of more, the medians of neighbours are permuted
FEWEST = 4  # values of a run below which nothing is tested: the range of three covers the median in 75 % of cases
FEWEST_FOR_ORDER = 20  # values below which serial correlation and drift cannot be told from chance
ALPHA = 0.05
TREND_ALPHA = 0.01
LARGEST_TREND = 500  # values of which every pair gives a slope
POWER = 0.80
# test and interval must both see a difference, and their errors are estimates: in simulated runs (benchmarks/comparison_cover.py)
# the textbook formula is found in 64 to 81 %, with this factor in 75 to 89 %
AGREEMENT = 1.15
OUTLIER_SCORE = 3.5
NORMAL_MAD = 0.6745  # the median absolute deviation of a normal distribution, in standard deviations
NORMAL_MEAN_DEVIATION = (
    1.2533  # a standard deviation over a mean absolute deviation, sqrt(pi / 2); also SE(median) / SE(mean)
)
WINDOW = 5  # correlation times that Sokal's window spans
LARGEST_CORRELATION = 0.98


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of medians, its 95 % interval, and the standard error of its logarithm; None where nothing can be said."""

    ratio: float
    interval: tuple[float, float] | None = None
    log_error: float | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What the order of a run's values tells: the correlation of neighbours, and how many independent values the run is worth."""

    neighbours: float | None
    worth: float


# ---- the ratio of medians ----


def ratio_of_medians(base: Array, other: Array, base_worth: float, other_worth: float) -> Ratio:
    """median(other) / median(base) with a percentile bootstrap interval.

    Each resample draws as many values as a run is worth, so that serial correlation widens the interval. The median of m
    draws from a sample is that sample's quantile at a Beta((m+1)/2, (m+1)/2) place (the law of the middle of m uniform
    numbers), which is drawn directly.
    """
    ratio = float(np.median(other) / np.median(base))
    if min(base_worth, other_worth) < FEWEST:
        return Ratio(ratio)
    random = np.random.default_rng(SEED)
    logs = np.log(_medians(other, other_worth, random)) - np.log(_medians(base, base_worth, random))
    low, inner_low, inner_high, high = np.percentile(logs, [2.5, 15.87, 84.13, 97.5])
    # half of the middle 68 %: the standard error where the distribution is normal, and not moved by its tails
    return Ratio(ratio, (float(np.exp(low)), float(np.exp(high))), float(inner_high - inner_low) / 2)


def _medians(values: Array, worth: float, random: np.random.Generator) -> Array:
    places = random.beta((worth + 1) / 2, (worth + 1) / 2, RESAMPLES)
    return np.quantile(values, places, method="hazen")


def ratio_from_summaries(base: tuple[float, float, int], other: tuple[float, float, int]) -> tuple[Ratio, float]:
    """The ratio of two means with its interval, and Welch's p, from (mean, standard deviation, count) of each.

    The interval is Student's on the logarithm (delta method), with Welch and Satterthwaite's degrees of freedom.
    """
    from scipy import special, stats

    errors = [(deviation / mean) ** 2 / count for mean, deviation, count in (base, other)]
    error = math.sqrt(sum(errors))
    log_ratio = math.log(other[0] / base[0])
    if error == 0:
        return Ratio(other[0] / base[0]), 1.0 if log_ratio == 0 else 0.0
    freedom = error**4 / sum(e**2 / (n - 1) for e, n in zip(errors, (base[2], other[2]), strict=True))
    reach = float(special.stdtrit(freedom, 1 - ALPHA / 2)) * error
    p = float(stats.ttest_ind_from_stats(*base, *other, equal_var=False).pvalue)
    return Ratio(other[0] / base[0], (math.exp(log_ratio - reach), math.exp(log_ratio + reach)), error), p


# ---- the test ----


def permutation_p(base: Array, other: Array, block: int) -> float:
    """Two-sided p of equal medians by permuting blocks of `block` neighbouring values between the runs (1: single values).

    The statistic is studentised (Chung and Romano 2013), so that a difference in spread alone is not taken for one in
    medians. Few blocks are permuted in every way, many in up to RESAMPLES random ways.
    """
    from scipy import stats

    group = -(-(len(base) + len(other)) // LARGEST_TESTED)
    base, other, block = _group_medians(base, group), _group_medians(other, group), -(-block // group)
    blocks = np.concatenate([_blocks(np.log(base), block), _blocks(np.log(other), block)])
    first = len(base) // block

    def statistic(left: NDArray[np.intp], right: NDArray[np.intp], axis: int) -> Array:
        return _studentised(_gathered(blocks, left, axis), _gathered(blocks, right, axis))

    places = np.arange(len(blocks))
    count = int(np.clip(LARGEST_RESAMPLING // blocks.size, FEWEST_RESAMPLES, RESAMPLES))
    found = stats.permutation_test(
        (places[:first], places[first:]),
        statistic,
        n_resamples=count,
        vectorized=True,
        batch=max(1, 2_000_000 // blocks.size),
        rng=np.random.default_rng(SEED),
    )
    return float(found.pvalue)


def _group_medians(values: Array, group: int) -> Array:
    return values if group == 1 else np.median(_blocks(values, group), axis=1)


def _blocks(values: Array, block: int) -> Array:
    return values[len(values) % block :].reshape(-1, block)


def _gathered(blocks: Array, places: NDArray[np.intp], axis: int) -> Array:
    moved = np.moveaxis(places, axis, -1)
    return blocks[moved].reshape(*moved.shape[:-1], -1)


def _studentised(left: Array, right: Array) -> Array:
    """The difference of medians over its standard error, along the last axis."""
    (low, low_error), (high, high_error) = _median_and_error(left), _median_and_error(right)
    # runs whose values are all alike have no error; their difference then counts as it is
    return np.asarray((high - low) / np.sqrt(low_error**2 + high_error**2 + 1e-24))


def _median_and_error(values: Array) -> tuple[Array, Array]:
    """The median and its standard error by McKean and Schrader: the width of the order-statistic interval over 2 z."""
    count, z = values.shape[-1], 1.96
    depth = max(1, round((count + 1) / 2 - z * math.sqrt(count / 4)))
    wanted = sorted({depth - 1, (count - 1) // 2, count // 2, count - depth})
    ordered = np.partition(values, wanted, axis=-1)
    median = (ordered[..., (count - 1) // 2] + ordered[..., count // 2]) / 2
    return median, (ordered[..., count - depth] - ordered[..., depth - 1]) / (2 * z)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's step-down procedure, in the order given."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = largest
    return corrected


# ---- what the test can see ----


def smallest_visible(ratio: Ratio, base_worth: float, other_worth: float) -> float | None:
    """The smallest ratio above 1 that is found in about 80 % of such comparisons: exp(1.15 (t(0.975) + t(0.80)) x error)."""
    if ratio.log_error is None:
        return None
    return math.exp(_reach(base_worth, other_worth) * ratio.log_error)


def _reach(base_worth: float, other_worth: float) -> float:
    from scipy import special

    freedom = max(base_worth + other_worth - 2, 1)
    return AGREEMENT * float(special.stdtrit(freedom, 1 - ALPHA / 2) + special.stdtrit(freedom, POWER))


def times_longer(ratio: Ratio, base_worth: float, other_worth: float) -> float | None:
    """How many times as many samples would show the observed difference with 80 % power; the error falls as 1 / sqrt(n).

    None where there is no difference to show, or no error known.
    """
    if ratio.log_error is None or math.isclose(ratio.ratio, 1.0, rel_tol=1e-9):
        return None
    return (_reach(base_worth, other_worth) * ratio.log_error / math.log(ratio.ratio)) ** 2


# ---- the order of the values ----


def order(values: Array) -> Order:
    """The correlation of neighbouring values, and the number of independent values that the run's median rests on.

    The number is n over the integrated autocorrelation time of the values' sides of the median, on which the error of a
    median depends: the larger of Sokal's windowed estimate and that of an autoregression of the first order, which is
    steadier in short runs. There a correlation that is clearly present counts with its standard error on top, as a short
    run shows too little of it: without that, 8 in 100 intervals over 50 values with a correlation of 0.8 miss.
    """
    if len(values) < FEWEST_FOR_ORDER or np.ptp(values) == 0:
        return Order(None, float(len(values)))
    neighbours = _correlation_of_neighbours(values)
    present = neighbours > 2 / math.sqrt(len(values))
    at_most = neighbours + (math.sqrt((1 - neighbours**2) / len(values)) if present else 0)
    time = max(_windowed_time(np.sign(values - np.median(values))), _autoregressive_time(at_most), 1.0)
    return Order(neighbours, max(len(values) / time, 1.0))


def _correlation_of_neighbours(values: Array) -> float:
    """The lag-1 correlation of the values' normal scores, which outliers do not move, with Kendall's bias added back."""
    from scipy import special, stats

    count = len(values)
    scores = special.ndtri((stats.rankdata(values) - 0.375) / (count + 0.25))
    scores = scores - scores.mean()
    correlation = float((scores[1:] * scores[:-1]).sum() / (scores**2).sum())
    return float(np.clip(correlation + (1 + 3 * correlation) / count, -1, LARGEST_CORRELATION))


def _autoregressive_time(neighbours: float) -> float:
    """The autocorrelation time of the signs of a Gaussian autoregression: the signs' correlation is 2/pi asin(r^k)."""
    powers = min(max(neighbours, 0.0), LARGEST_CORRELATION) ** np.arange(1, 400)
    return float(1 + 2 * (2 / np.pi * np.arcsin(powers)).sum())


def _windowed_time(signs: Array) -> float:
    """The integrated autocorrelation time, summed up to the first lag that is WINDOW times the sum so far (Sokal)."""
    count = len(signs)
    centred = signs - signs.mean()
    spectrum = np.fft.rfft(centred, 2 * count)
    correlations = np.fft.irfft(spectrum * np.conj(spectrum))[:count]
    if correlations[0] <= 0:
        return 1.0
    times = 2 * np.cumsum(correlations / correlations[0]) - 1
    beyond = np.nonzero(np.arange(count) >= WINDOW * times)[0]
    return float(times[beyond[0] if len(beyond) else -1])


def block_length(values: int, worth: float) -> int:
    """How many neighbours to permute together: three correlation times, with at least four blocks; 1 where there is none."""
    time = values / worth
    return 1 if time < 1.05 else max(1, min(math.ceil(3 * time), values // FEWEST))


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through a run's values, from its value at the first of them to that at the last, in their unit."""

    first: float
    last: float

    @property
    def ratio(self) -> float:
        """The last over the first."""
        return self.last / self.first


def trend(values: Array) -> Trend | None:
    """The Theil-Sen line through the logarithms where the Mann-Kendall test sees a trend with p below 0.01, else None.

    The variance of Kendall's S is multiplied by n over the effective sample size of what the line leaves over (Yue and Wang
    2004), so that values which only follow each other are no trend. Of long runs the medians of neighbours are taken.
    """
    if len(values) < FEWEST_FOR_ORDER:
        return None
    logs = np.log(_group_medians(values, -(-len(values) // LARGEST_TREND)))
    count = len(logs)
    earlier, later = np.triu_indices(count, 1)
    rises = logs[later] - logs[earlier]
    slope = float(np.median(rises / (later - earlier)))
    places = np.arange(count) - (count - 1) / 2
    worth = order(logs - slope * places).worth
    score = abs(float(np.sign(rises).sum()))
    # Kendall's variance without its correction for ties, which would make it smaller
    deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18 * count / worth)
    if math.erfc(max(score - 1, 0) / deviation / math.sqrt(2)) >= TREND_ALPHA:
        return None
    first, last = np.exp(np.median(logs) + slope * places[[0, -1]])
    return Trend(float(first), float(last))


# ---- single values ----


def outliers(values: Array) -> list[int]:
    """The places whose modified z-score 0.6745 |x - median| / MAD is above 3.5 (Iglewicz and Hoaglin 1993).

    Where more than half of the values are equal, the mean absolute deviation stands for the MAD.
    """
    scale = _scale(values)
    if scale == 0 or len(values) < FEWEST:
        return []
    return [int(at) for at in np.nonzero(np.abs(values - np.median(values)) > OUTLIER_SCORE * scale)[0]]


def _scale(values: Array) -> float:
    """The standard deviation of the values, from their median absolute deviation."""
    distances = np.abs(values - np.median(values))
    median = float(np.median(distances))
    return median / NORMAL_MAD if median else NORMAL_MEAN_DEVIATION * float(distances.mean())


FEWEST_FOR_WARM_UP = 10
FEWEST_FOR_BATCHES = 50
BATCH = 5


def warm_up(values: Array, higher_is_better: bool) -> int:
    """How many values at the start of a run are warm-up: slow outliers, then MSER-5 (White 1997); 0 in runs of fewer than 10.

    First go the leading values that are slower than the outlier limit of the run's second half. MSER then cuts where the
    squared standard error of what is left is least, over batches of five (of one below 50 values), in all at most half of
    the run. Values are clipped to the limits, so that an odd step late in the run does not move the cut, and it is kept
    only where what it takes away is slower than what it leaves by three standard errors of a median.
    """
    if len(values) < FEWEST_FOR_WARM_UP:
        return 0
    slowness = -values if higher_is_better else values
    steady = slowness[len(values) // 2 :]
    middle, limit = float(np.median(steady)), OUTLIER_SCORE * _scale(steady)
    usual = np.nonzero(slowness - middle <= limit)[0]
    most = len(values) // 2
    lead = min(int(usual[0]), most)
    rest = np.clip(slowness[lead:], middle - limit, middle + limit)
    cut = _least_error_cut(rest, BATCH if len(rest) >= FEWEST_FOR_BATCHES else 1, most - lead)
    if cut == 0:
        return lead
    slower = float(np.median(rest[:cut]) - np.median(rest[cut:]))
    return lead + (cut if slower > 3 * NORMAL_MEAN_DEVIATION * _scale(rest[cut:]) / math.sqrt(cut) else 0)


def _least_error_cut(values: Array, batch: int, most: int) -> int:
    means = values[: len(values) // batch * batch].reshape(-1, batch).mean(axis=1)
    backwards = means[::-1] - means.mean()
    counts = np.arange(len(means), 0, -1)
    sums, squares = np.cumsum(backwards)[::-1], np.cumsum(backwards**2)[::-1]
    errors = (squares - sums**2 / counts) / counts**2
    return batch * int(np.argmin(errors[: most // batch + 1]))
