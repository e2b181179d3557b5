"""Plain numbers: white space, commas, a JSON list, or a column of a CSV file."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from advisor_mcp.errors import UsageError, shown
from advisor_mcp.measuring.samples import Samples, SampleUnit

FEW = 20  # as many plain numbers or more are taken for the steps of one run, fewer for repetitions
_PLAIN = re.compile(r"[\s0-9.,;eE+-]{1,}")

UNITS: Mapping[str, tuple[SampleUnit, float]] = {
    "s": ("ms", 1e3),
    "ms": ("ms", 1.0),
    "us": ("ms", 1e-3),
    "ns": ("ms", 1e-6),
    "tokens_per_s": ("tokens_per_s", 1.0),
    "tokens_per_s_per_gpu": ("tokens_per_s_per_gpu", 1.0),
    "samples_per_s": ("samples_per_s", 1.0),
    "requests_per_s": ("requests_per_s", 1.0),
    "steps_per_s": ("steps_per_s", 1.0),
}
"""The units a caller may give, each with the one that values are turned into and what they are multiplied by."""


def from_numbers(values: Sequence[float], unit: str | None = None, higher_is_better: bool | None = None) -> Samples:
    """Plain numbers as samples; raises `UsageError` for one that is not above 0 and for a direction against the unit."""
    for value in values:
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"every measurement must be a number above 0, not {shown(value)}")
    known, scale = UNITS[unit] if unit else ("scores" if higher_is_better else "times", 1.0)
    found = Samples("numbers", known, tuple(value * scale for value in values), repetitions=len(values) < FEW)
    if unit and higher_is_better is not None and higher_is_better != found.higher_is_better:
        raise UsageError(f"unit {unit} and higher_is_better {str(higher_is_better).lower()} contradict each other")
    return found


def read_numbers(text: str) -> list[float] | None:
    """The numbers of a text that holds nothing else, else None."""
    if not _PLAIN.fullmatch(text):
        return None
    try:
        return [float(word) for word in re.split(r"[\s,;]+", text.strip(" \t\r\n,;"))]
    except ValueError:
        return None


def read_column(text: str, metric: str | None) -> tuple[list[float], str] | None:
    """A column of a CSV file with a header, and its name; None where the text is no such file.

    `metric` names the column; without it the file may have only one of numbers. Raises `UsageError` where that is open.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error:
        return None
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows) or all(map(_number, rows[0])):
        return None
    columns = dict(zip((name.strip() for name in rows[0]), zip_longest(*rows[1:]), strict=True))
    numeric = {name: [_number(cell) for cell in cells] for name, cells in columns.items()}
    usable = {name: [v for v in cells if v is not None] for name, cells in numeric.items() if None not in cells}
    usable = {name: values for name, values in usable.items() if not _counts(name)}
    if metric is None and len(usable) == 1:
        metric = next(iter(usable))
    if not usable or (metric is None and len(rows[0]) == 1):
        return None
    if metric not in usable:
        raise UsageError(f"the file's columns are {', '.join(usable)}; name one of them as metric")
    return usable[metric], metric


def _counts(name: str) -> bool:
    return name.lower() in ("step", "steps", "iter", "iteration", "epoch", "rank", "run", "index", "")


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def unit_in_name(name: str) -> str | None:
    """The unit that a column's name ends in: ``step_time_ms`` -> ``ms``, ``tokens_per_s`` -> itself."""
    lower = name.lower().replace(" ", "_").replace("(", "_").rstrip(")").replace("tok/s", "tokens_per_s")
    lower = lower.replace("tokens_per_second", "tokens_per_s").replace("samples_per_second", "samples_per_s")
    known = sorted(UNITS, key=len, reverse=True)
    return next((unit for unit in known if lower == unit or lower.endswith(f"_{unit}")), None)
