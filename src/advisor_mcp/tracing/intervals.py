"""Exact arithmetic on sets of half-open intervals of whole nanoseconds, as sorted numpy columns.

A set is a pair of int64 columns (starts, ends), sorted, disjoint and without empty members, as `union` returns it. Lengths
are sums of integers: nothing is rounded.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Column: TypeAlias = npt.NDArray[np.int64]
Set: TypeAlias = tuple[Column, Column]


def empty() -> Set:
    """The set without members."""
    return np.empty(0, np.int64), np.empty(0, np.int64)


def union(starts: Column, ends: Column) -> Set:
    """The union of intervals in any order, as a set; touching ones are joined, empty ones dropped."""
    kept = ends > starts
    starts, ends = starts[kept], ends[kept]
    if not len(starts):
        return empty()
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], ends[order]
    reach = np.maximum.accumulate(ends)
    first = np.concatenate(([True], starts[1:] > reach[:-1]))
    return starts[first], reach[np.concatenate((first[1:], [True]))]


def length(of: Set) -> int:
    """Nanoseconds that a set covers."""
    return int((of[1] - of[0]).sum())


def joined(one: Set, other: Set) -> Set:
    """What is in either set."""
    return union(np.concatenate((one[0], other[0])), np.concatenate((one[1], other[1])))


def complement(of: Set, start: int, end: int) -> Set:
    """What of the window [start, end) is not in the set."""
    starts, ends = clipped(of, start, end)
    return _non_empty(np.concatenate(([start], ends)), np.concatenate((starts, [end])))


def difference(one: Set, other: Set) -> Set:
    """What of `one` is not in `other`."""
    if not len(one[0]) or not len(other[0]):
        return one
    start, end = int(min(one[0][0], other[0][0])), int(max(one[1][-1], other[1][-1]))
    return intersection(one, complement(other, start, end))


def intersection(one: Set, other: Set) -> Set:
    """What is in both sets."""
    if not len(one[0]) or not len(other[0]):
        return empty()
    # for every member of `one` the members of `other` from the first that ends after it starts to the last that starts before it ends
    first = np.searchsorted(other[1], one[0], side="right")
    count = np.maximum(np.searchsorted(other[0], one[1], side="left") - first, 0)
    mine = np.repeat(np.arange(len(count)), count)
    within = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    theirs = first[mine] + within
    return np.maximum(one[0][mine], other[0][theirs]), np.minimum(one[1][mine], other[1][theirs])


def clipped(of: Set, start: int, end: int) -> Set:
    """What of the set lies in the window [start, end)."""
    return _non_empty(np.maximum(of[0], start), np.minimum(of[1], end))


def covered(starts: Column, ends: Column, by: Set) -> Column:
    """Nanoseconds of each interval (in any order, they may overlap) that a set covers."""
    return _covered_until(ends, by) - _covered_until(starts, by)


def _covered_until(times: Column, by: Set) -> Column:
    """Nanoseconds of the set before each time."""
    if not len(by[0]):
        return np.zeros(len(times), np.int64)
    whole = np.concatenate(([0], np.cumsum(by[1] - by[0])))
    place = np.searchsorted(by[0], times, side="right")
    overhang = np.where(place > 0, np.maximum(by[1][place - 1] - times, 0), 0)
    return whole[place] - overhang


def _non_empty(starts: Column, ends: Column) -> Set:
    kept = ends > starts
    return starts[kept], ends[kept]
