"""Sets of intervals, held against the set of whole nanoseconds that they stand for."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor_mcp.tracing import intervals
from advisor_mcp.tracing.intervals import Set

UNTIMED = settings(deadline=None, suppress_health_check=list(HealthCheck))

PAIRS = st.lists(st.tuples(st.integers(-30, 30), st.integers(-3, 12)), max_size=12)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of (start, length); a negative length is an empty interval."""
    return np.array([start for start, _ in pairs], np.int64), np.array(
        [start + size for start, size in pairs], np.int64
    )


def as_set(pairs: list[tuple[int, int]]) -> Set:
    return intervals.union(*columns(pairs))


def points(of: Set) -> set[int]:
    return {point for start, end in zip(*of, strict=True) for point in range(start, end)}


def points_of(pairs: list[tuple[int, int]]) -> set[int]:
    return {point for start, size in pairs for point in range(start, start + size)}


def is_a_set(of: Set) -> bool:
    """Sorted, without empty members, none touching the next."""
    return bool((of[1] > of[0]).all() and (of[0][1:] > of[1][:-1]).all())


@UNTIMED
@given(PAIRS)
def test_a_union_holds_every_point_of_its_intervals_once(pairs: list[tuple[int, int]]) -> None:
    made = as_set(pairs)
    assert (points(made), is_a_set(made), intervals.length(made)) == (points_of(pairs), True, len(points_of(pairs)))


@UNTIMED
@given(PAIRS, PAIRS)
def test_sets_are_joined_cut_and_subtracted_as_sets_of_points_are(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    left, right = points_of(one), points_of(other)
    made = as_set(one), as_set(other)
    assert points(intervals.joined(*made)) == left | right
    assert points(intervals.intersection(*made)) == left & right
    assert points(intervals.difference(*made)) == left - right
    assert intervals.length(intervals.difference(*made)) == len(left - right)


@UNTIMED
@given(PAIRS, st.integers(-40, 40), st.integers(0, 40))
def test_a_window_is_divided_into_what_is_in_a_set_and_what_is_not(
    pairs: list[tuple[int, int]], start: int, size: int
) -> None:
    window = set(range(start, start + size))
    assert points(intervals.clipped(as_set(pairs), start, start + size)) == points_of(pairs) & window
    assert points(intervals.complement(as_set(pairs), start, start + size)) == window - points_of(pairs)


@UNTIMED
@given(PAIRS, PAIRS)
def test_cover_is_counted_for_each_interval_by_itself(pairs: list[tuple[int, int]], by: list[tuple[int, int]]) -> None:
    pairs = [(start, max(size, 0)) for start, size in pairs]
    covered = intervals.covered(*columns(pairs), as_set(by))
    assert covered.tolist() == [len(points_of([pair]) & points_of(by)) for pair in pairs]


def test_times_of_this_century_in_nanoseconds_lose_nothing() -> None:
    now = 1_712_195_495_519_695_801
    made = intervals.union(np.array([now, now + 1]), np.array([now + 1, now + 3]))
    assert (made[0].tolist(), made[1].tolist(), intervals.length(made)) == ([now], [now + 3], 3)
