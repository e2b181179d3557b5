"""The runs as a caller gives them (numbers, paths, texts, each with or without a name), read into samples by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, TypeAlias

from advisor_mcp.declaration import LONGEST_TEXT
from advisor_mcp.errors import CannotAnswer, UsageError, shown
from advisor_mcp.measuring.comparison import UNIT_WORDS, as_repetitions
from advisor_mcp.measuring.log_files import LONGEST_PATH, log_text
from advisor_mcp.measuring.logs import read_samples
from advisor_mcp.measuring.numbers import UNITS, from_numbers, read_numbers
from advisor_mcp.measuring.samples import Samples

Given: TypeAlias = str | list[float | str]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Reading:
    """How texts are read: which figure of several, what plain numbers are, and a warm-up that the caller set."""

    metric: str | None = None
    unit: str | None = None
    higher_is_better: bool | None = None
    warm_up: int | None = None


def listed(given: Any) -> Any:
    """Runs as a list whose items are texts, lists, or one name with either; result objects become JSON texts again."""
    if isinstance(given, Mapping):
        return [{name: _plain(run)} for name, run in given.items()]
    return [_plain(run) for run in given] if isinstance(given, list) else given


def _plain(run: Any) -> Any:
    if isinstance(run, Mapping):
        name, value = next(iter(run.items()), ("", None))
        named = len(run) == 1 and isinstance(value, str | list | Mapping)
        return {name: _plain(value)} if named else json.dumps(run)
    return json.dumps(run) if isinstance(run, list) and run and isinstance(run[0], Mapping) else run


def read_runs(given: Sequence[Given | Mapping[str, Given]], reading: Reading) -> dict[str, Samples]:
    """The samples of each run by its name: the one given, the file's without its ending, or a letter.

    Raises `UsageError` for a run that cannot be read as it is given, `CannotAnswer` for a text without measurements.
    """
    found: dict[str, Samples] = {}
    for place, run in enumerate(given):
        named, values = next(iter(run.items())) if isinstance(run, Mapping) else (None, run)
        candidates = [named] if named else [*_names_of_path(values), _letter(place)]
        name = next(name for name in [*candidates, f"run {place + 1}"] if name not in found)
        found[name] = _read(name, values, reading)
    _check(found, reading)
    return found


def _letter(place: int) -> str:
    return LETTERS[place] if place < len(LETTERS) else f"run {place + 1}"


def _names_of_path(run: Given) -> tuple[str, ...]:
    """A path's file name without its ending, and the path itself; nothing for what is no path."""
    if not isinstance(run, str) or read_numbers(run) is not None or run.strip()[:1] in ("{", "["):
        return ()
    is_path = not set("\n\r ") & set(run.strip()) and 0 < len(run) <= LONGEST_PATH
    return (PurePath(run).stem or run, run) if is_path else ()


def _read(name: str, run: Given, reading: Reading) -> Samples:
    if isinstance(run, str):
        return _from_text(name, run, reading)
    if not run:
        raise UsageError(f"{name} has no values; give step times, or a log")
    texts = [part for part in run if isinstance(part, str)]
    numbers = [part for part in run if not isinstance(part, str)]
    if texts and numbers:
        raise UsageError(f"{name} mixes numbers and texts; give a list of numbers, or a list of logs")
    if numbers:
        return from_numbers(numbers, reading.unit, reading.higher_is_better)
    return as_repetitions(name, [_from_text(name, text, reading) for text in texts], reading.warm_up)


def _from_text(name: str, given: str, reading: Reading) -> Samples:
    if len(given) > LONGEST_TEXT:
        raise UsageError(
            f"{name} has {len(given):,} characters; at most {LONGEST_TEXT:,} are read, so pass a path instead"
        )
    numbers = read_numbers(given)
    if numbers:
        return from_numbers(numbers, reading.unit, reading.higher_is_better)
    text, notes = (given, ()) if given.lstrip()[:1] in ("{", "[") else log_text(given)
    try:
        found = read_samples(text, reading.metric, reading.unit, reading.higher_is_better)
    except CannotAnswer as error:
        raise CannotAnswer(f"{name}: {error.message}", error.needs) from None
    return replace(found, notes=(*notes, *found.notes)) if notes else found


def _check(runs: Mapping[str, Samples], reading: Reading) -> None:
    """Refuse arguments that say otherwise than the logs, or that no run has a use for."""
    for name, samples in runs.items():
        known = samples.unit not in ("times", "scores")
        if known and reading.unit and UNITS[reading.unit][0] != samples.unit:
            raise UsageError(f"{name} has {UNIT_WORDS[samples.unit]}, not {reading.unit}; leave unit out")
        if reading.higher_is_better not in (None, samples.higher_is_better):
            better = "higher" if samples.higher_is_better else "lower"
            raise UsageError(
                f"{name} has {UNIT_WORDS[samples.unit]}, where {better} is better; leave higher_is_better out"
            )
    chosen = ("vLLM", "llama-bench", "column")
    if reading.metric and not any(samples.form.startswith(chosen) for samples in runs.values()):
        raise UsageError(f"metric {shown(reading.metric)} chooses a figure of a result file, and no run is one")
