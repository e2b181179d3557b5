"""Timing repeated work: enough runs in a sample, warm-up until it has settled, then a median with its spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Timed: TypeAlias = Callable[[int], float]
"""Runs something that many times, one after another, and returns the seconds that all of them took on the device."""

LEAST_SAMPLE_S = 0.005  # a sample is long against the resolution of events (half a microsecond) and of one launch
WINDOW = 5  # samples whose median is compared with that of the window before
SETTLED = 0.01  # warm when two windows differ by less: clocks and caches have come to rest
WARM_UP_SHARE = 0.5  # of the time given, at most
LEAST_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class Samples:
    """Seconds of one run: the median, 10th and 90th percentile of `count` samples; `settled` if warm-up came to an end."""

    median: float
    low: float
    high: float
    count: int
    settled: bool


def measure(work: Timed, seconds: float, now: Callable[[], float] = time.perf_counter) -> Samples:
    """Time `work` for about `seconds` by the clock `now`, warm-up included, and for `LEAST_SAMPLES` samples at least.

    Where the time is over before warm-up began there is none, and what comes back is not settled.
    """
    started = now()
    runs = runs_per_sample(work)
    settled = _warm_up(work, runs, started + WARM_UP_SHARE * seconds, now)
    found: list[float] = []
    while len(found) < LEAST_SAMPLES or now() < started + seconds:
        found.append(work(runs) / runs)
    return summary(found, settled)


def runs_per_sample(work: Timed) -> int:
    """How many runs make a sample of at least `LEAST_SAMPLE_S`; the first run, which may compile or allocate, is not timed."""
    work(1)
    runs = 1
    while (taken := work(runs)) < LEAST_SAMPLE_S:
        wanted = runs * LEAST_SAMPLE_S / taken if taken > 0 else 10 * runs
        runs = int(min(max(1.2 * wanted, runs + 1), 10 * runs))
    return runs


def _warm_up(work: Timed, runs: int, until: float, now: Callable[[], float]) -> bool:
    """Run until two windows of samples agree; False where `until` came first."""
    before = 0.0
    while now() < until:
        after = statistics.median(work(runs) for _ in range(WINDOW))
        if abs(after - before) <= SETTLED * before:
            return True
        before = after
    return False


def summary(seconds: Sequence[float], settled: bool = True) -> Samples:
    """Median and spread of at least two samples."""
    tenths = statistics.quantiles(seconds, n=10, method="inclusive")
    return Samples(statistics.median(seconds), tenths[0], tenths[-1], len(seconds), settled)
