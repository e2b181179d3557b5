"""Speed from counters that only grow: the Hugging Face Trainer's tokens and run time, and the elapsed time of a progress bar."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from advisor_mcp.measuring.samples import Samples

FINEST = 50  # an interval is at least this many times what the clock resolves: its rounding is then at most 2 %

_NUMBER = r"'?([0-9]{1,18}(?:\.[0-9]{0,18})?(?:e[+-]?[0-9]{1,3})?)'?"
# transformers 5.23.0 and 4.57.6 trainer.py (log: tokens and run time since the start, with include_num_input_tokens_seen),
# trainer_callback.py (5.x prints four digits, so that late times are coarse)
_LOGGED = re.compile(rf"'num_input_tokens_seen': {_NUMBER}[^\n{{}}]{{0,200}}?'train_runtime': {_NUMBER}")
_SUMMARY = re.compile(rf"\btrain_samples_per_second\W{{1,40}}?{_NUMBER}")
# tqdm 4.70.1 std.py: "{n}/{total} [{elapsed}<{remaining}, ", the elapsed time [H:]MM:SS cut to whole seconds; the rate that it
# prints beside is a smoothed mean and no measurement of a step
_BAR = re.compile(r"\b([0-9]{1,12})/([0-9]{1,12}) \[(?:([0-9]{1,5}):)?([0-9]{2}):([0-9]{2})<")


@dataclass(frozen=True, slots=True)
class Point:
    """A counter's reading: the count, the seconds since the start, and how finely those are given."""

    count: float
    seconds: float
    resolution: float


def read_trainer_log(text: str) -> Samples | None:
    """A Hugging Face Trainer's printed log: tokens per second of intervals, else its progress bar, else its summary."""
    logged = [_point(tokens, runtime) for tokens, runtime in _LOGGED.findall(text)]
    if samples := _token_rates(logged):
        return samples
    if samples := _bar_times(text):
        return samples
    speeds = [float(found) for found in _SUMMARY.findall(text)]
    if not speeds:
        return None
    note = "the mean of the whole run, evaluation and saving included"
    return Samples("Hugging Face Trainer", "samples_per_s", tuple(speeds), repetitions=True, notes=(note,))


def read_trainer_state(history: Iterable[Mapping[str, Any]]) -> Samples | None:
    """The `log_history` of a Trainer's trainer_state.json."""
    points = [
        _point(str(entry["num_input_tokens_seen"]), str(entry["train_runtime"]))
        for entry in history
        if {"num_input_tokens_seen", "train_runtime"} <= entry.keys() and "train_loss" not in entry
    ]
    return _token_rates(points)


def _point(tokens: str, runtime: str) -> Point:
    exponent = Decimal(runtime).as_tuple().exponent
    return Point(float(tokens), float(runtime), 10.0**exponent if isinstance(exponent, int) else 1.0)


def _token_rates(points: Sequence[Point]) -> Samples | None:
    found, starts = _intervals(points)
    if not found:
        return None
    rates = tuple(tokens / seconds for tokens, seconds in found if tokens > 0)
    notes = ("tokens per second between log lines, from the counters; evaluation and saving count where they fall",)
    return Samples("Hugging Face Trainer", "tokens_per_s", rates, starts=starts, notes=notes) if rates else None


def _bar_times(text: str) -> Samples | None:
    bars: dict[str, list[Point]] = {}
    for count, total, hours, minutes, seconds in _BAR.findall(text):
        at = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
        bars.setdefault(total, []).append(Point(float(count), at, 1.0))
    # evaluation has a bar of its own: training is the one that runs longest
    longest = max(bars.values(), key=lambda points: max(point.seconds for point in points), default=[])
    found, starts = _intervals(longest)
    times = tuple(1e3 * seconds / steps for steps, seconds in found if steps > 0)
    if not times or len(times) < len(found):
        return None
    note = f"mean step time over stretches of at least {FINEST} s, as a progress bar tells whole seconds only"
    return Samples("progress bar", "ms", times, starts=starts, notes=(note,))


def _intervals(points: Sequence[Point]) -> tuple[list[tuple[float, float]], tuple[int, ...]]:
    """What was counted in how many seconds, interval by interval, and where the counter began anew."""
    found: list[tuple[float, float]] = []
    starts = [0]
    since = last = points[0] if points else None
    for point in points[1:]:
        if since is None or last is None:
            break
        if point.seconds < last.seconds or point.count < last.count:
            since, starts = point, [*starts, len(found)]
        elif point.seconds - since.seconds >= FINEST * max(point.resolution, since.resolution):
            found.append((point.count - since.count, point.seconds - since.seconds))
            since = point
        last = point
    return found, tuple(dict.fromkeys(start for start in starts if start < max(len(found), 1)))
