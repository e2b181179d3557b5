"""Any text that holds measurements, read into samples: result files first, then training logs, then plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from advisor_mcp.errors import CannotAnswer
from advisor_mcp.measuring import counters, numbers, result_files, steps
from advisor_mcp.measuring.samples import Samples

KNOWN = (
    "torchtitan, Megatron-LM, Hugging Face Trainer, nanoGPT, DeepSpeed, torchtune, vLLM bench, llama-bench and others, "
    "CSV and plain numbers"
)


def read_samples(
    text: str, metric: str | None = None, unit: str | None = None, higher_is_better: bool | None = None
) -> Samples:
    """The samples in a text; `unit` and `higher_is_better` say what plain numbers are.

    Raises `CannotAnswer` where it holds none, and `UsageError` where it holds several figures and `metric` chooses none.
    """
    found = (
        _from_json(text, metric, unit, higher_is_better)
        or result_files.read_llama(result_files.llama_rows(text), metric)
        or result_files.read_vllm_text(text, metric)
        or steps.read_steps(text)
        or counters.read_trainer_log(text)
        or _from_columns(text, metric, unit, higher_is_better)
    )
    if found is None or not found.values:
        raise CannotAnswer(
            f"no measurements were found in the text ({KNOWN} are known)", needs=["step times or speeds"]
        )
    finite = all(math.isfinite(value) and value > 0 for value in found.values)
    if not finite:
        raise CannotAnswer("a measurement in the text is too large to be one", needs=["step times or speeds"])
    return found


def _from_json(text: str, metric: str | None, unit: str | None, higher_is_better: bool | None) -> Samples | None:
    records = result_files.json_records(text)
    if not records:
        return None
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in records):
        return numbers.from_numbers(records, unit, higher_is_better)
    if not all(isinstance(record, Mapping) for record in records):
        return None
    return _from_objects(records, metric)


def _from_objects(records: list[Mapping[str, Any]], metric: str | None) -> Samples | None:
    history = records[0].get("log_history")
    if isinstance(history, list):
        return counters.read_trainer_state(entry for entry in history if isinstance(entry, Mapping))
    return result_files.read_llama(records, metric) or result_files.read_vllm(records, metric)


def _from_columns(text: str, metric: str | None, unit: str | None, higher_is_better: bool | None) -> Samples | None:
    values = numbers.read_numbers(text)
    if values:
        return numbers.from_numbers(values, unit, higher_is_better)
    column = numbers.read_column(text, metric)
    if column is None:
        return None
    values, name = column
    told = numbers.unit_in_name(name)
    found = numbers.from_numbers(values, unit or told, higher_is_better if unit or not told else None)
    return replace(found, form=f"column {name}")
