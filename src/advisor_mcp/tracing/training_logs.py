"""Throughput from a pasted training log: one table of patterns, one per framework and figure."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from typing import Literal

from advisor_mcp.errors import CannotAnswer

Unit = Literal["tokens_per_s", "tokens_per_s_per_gpu", "step_time_s", "samples_per_s"]
WARM_UP = 3  # the first steps compile, allocate and fill caches


@dataclass(frozen=True, slots=True)
class Pattern:
    """One figure of one framework's log line: a number after a label, in a unit, times a scale."""

    framework: str
    unit: Unit
    expression: re.Pattern[str]
    scale: float = 1.0


_NUMBER = r"([0-9][0-9,_]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)"


def _pattern(framework: str, unit: Unit, label: str, scale: float = 1.0) -> Pattern:
    return Pattern(framework, unit, re.compile(label + _NUMBER), scale)


# earlier rows win: a log is read by the first pattern that it matches
PATTERNS = (
    _pattern("torchtitan", "tokens_per_s_per_gpu", r"\btps: "),
    _pattern("llm-foundry", "tokens_per_s_per_gpu", r"throughput/device/tokens_per_sec\W+"),
    _pattern("llm-foundry", "tokens_per_s", r"throughput/tokens_per_sec\W+"),
    _pattern("Megatron-LM", "step_time_s", r"elapsed time per iteration \(ms\): ", 1e-3),
    _pattern("Megatron-Bridge", "step_time_s", r"Step Time : ", 1.0),
    _pattern("nanoGPT", "step_time_s", r"\biter [0-9]+: loss [0-9.]+, time ", 1e-3),
    _pattern("Hugging Face Trainer", "tokens_per_s", r"train_tokens_per_second\W+"),
    _pattern("torchtune", "tokens_per_s_per_gpu", r"tokens_per_second_per_gpu:"),
    _pattern("DeepSpeed", "samples_per_s", r"CurrSamplesPerSec="),
    _pattern("Hugging Face Trainer", "samples_per_s", r"train_samples_per_second\W+"),
)


@dataclass(frozen=True, slots=True)
class Throughput:
    """The median of a log's figures after warm-up, in `unit`, with how many lines it rests on."""

    framework: str
    unit: Unit
    value: float
    lines: int
    skipped: int


def read_throughput(log: str) -> Throughput:
    """Find the throughput in a log; raises `CannotAnswer` naming the forms that are known when there is none."""
    for pattern in PATTERNS:
        values = [
            float(found.replace(",", "").replace("_", "")) * pattern.scale for found in pattern.expression.findall(log)
        ]
        values = [value for value in values if value > 0]
        if values:
            skipped = WARM_UP if len(values) > 2 * WARM_UP else 0
            return Throughput(
                pattern.framework, pattern.unit, statistics.median(values[skipped:]), len(values), skipped
            )
    known = ", ".join(dict.fromkeys(pattern.framework for pattern in PATTERNS))
    raise CannotAnswer(
        f"no throughput was found in the log (lines of {known} are known)", needs=["tokens_per_s or step_time_s"]
    )
