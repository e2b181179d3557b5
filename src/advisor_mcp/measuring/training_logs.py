"""Throughput from a training log: one table of patterns, one row per framework and figure."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from advisor_mcp.errors import CannotAnswer

Unit = Literal["tokens_per_s", "tokens_per_s_per_gpu", "step_time_s", "samples_per_s", "samples_per_s_per_gpu"]
WARM_UP = 3  # the first steps compile, allocate and fill caches


@dataclass(frozen=True, slots=True)
class Pattern:
    """One figure of one framework's log line: a number after a label, in a unit, times a scale.

    `sequences` and `tokens` find what one step holds where the log says so; `whole_run` marks a mean since the start.
    """

    framework: str
    unit: Unit
    expression: re.Pattern[str]
    scale: float = 1.0
    sequences: re.Pattern[str] | None = None
    tokens: re.Pattern[str] | None = None
    whole_run: bool = False


# every repetition is bounded and no two may match the same text: a hostile log costs no more than its length
_NUMBER = r"([0-9][0-9,_]{0,30}(?:\.[0-9]{0,30})?(?:[eE][+-]?[0-9]{1,4})?)"
_GLOBAL_BATCH = re.compile(r"\bglobal batch size: {0,12}([0-9]{1,12})\b")
_TOKENS_PER_ITERATION = re.compile(r"\btokens per iteration will be: ([0-9][0-9,]{0,18})")
_HF_STEPS = r"\btrain_steps_per_second\W{1,40}[0-9.eE+-]{1,30}\W{1,40}"
_HF_TOKENS = r"train_tokens_per_second\W{1,40}"


def _pattern(
    framework: str,
    unit: Unit,
    label: str,
    scale: float = 1.0,
    sequences: re.Pattern[str] | None = None,
    tokens: re.Pattern[str] | None = None,
    whole_run: bool = False,
) -> Pattern:
    return Pattern(framework, unit, re.compile(label + _NUMBER), scale, sequences, tokens, whole_run)


# Earlier rows win: a log is read by the first row that it matches. Above each, where the line is printed.
PATTERNS = (
    # pytorch/torchtitan@b5bcd76 components/metrics.py (tps is per device); wps until 4d182a1 (train.py)
    _pattern("torchtitan", "tokens_per_s_per_gpu", r"\b(?:tps|wps): {1,4}"),
    # mosaicml/composer@6405188 callbacks/speed_monitor.py, loggers/console_logger.py; samples where tokens are not counted
    _pattern("llm-foundry", "tokens_per_s_per_gpu", r"(?<!Eval )throughput/device/tokens_per_sec\W{1,12}"),
    _pattern("llm-foundry", "tokens_per_s", r"(?<!Eval )throughput/tokens_per_sec\W{1,12}"),
    _pattern("llm-foundry", "samples_per_s_per_gpu", r"(?<!Eval )throughput/device/samples_per_sec\W{1,12}"),
    _pattern("llm-foundry", "samples_per_s", r"(?<!Eval )throughput/samples_per_sec\W{1,12}"),
    # AMD-AGI/Primus@fd1eeab backends/megatron, megatron_bridge and torchtitan, patches; the first number is the step's own
    _pattern(
        "Primus",
        "tokens_per_s_per_gpu",
        r"\btokens(?: per GPU \(tokens/s/GPU\)|/s/GPU inst/harmonic mean): {1,12}",
    ),
    # NVIDIA/Megatron-LM@d98e8a6 megatron/training/training.py; "throughput per GPU (TFLOP/s/GPU)" there is its own FLOP count
    _pattern("Megatron-LM", "step_time_s", r"elapsed time per iteration \(ms\): {1,12}", 1e-3, sequences=_GLOBAL_BATCH),
    # NVIDIA-NeMo/Megatron-Bridge@067f987 src/megatron/bridge/training/utils/train_utils.py, beside the line above
    _pattern("Megatron-Bridge", "step_time_s", r"\bStep Time : ", sequences=_GLOBAL_BATCH),
    # karpathy/nanoGPT@3adf61e train.py: the time covers every micro-step; tokens per iteration are printed at the start
    _pattern(
        "nanoGPT",
        "step_time_s",
        r"\biter [0-9]{1,12}: loss [^\s,]{1,20}, time ",
        1e-3,
        tokens=_TOKENS_PER_ITERATION,
    ),
    # karpathy/nanochat@92d63d4 scripts/base_train.py, chat_sft.py: the total batch over the step's time
    _pattern("nanochat", "tokens_per_s", r"\btok/sec: "),
    # AI-Hypercomputer/maxtext@e591f30 src/maxtext/common/metric_logger.py
    _pattern("MaxText", "tokens_per_s_per_gpu", r"\bTokens/s/device: "),
    # huggingface/transformers@000945a (4.x) trainer.py: the last line counts the tokens of one process's data loader ...
    _pattern(
        "Hugging Face Trainer",
        "tokens_per_s_per_gpu",
        _HF_STEPS + _HF_TOKENS,
        whole_run=True,
    ),
    # ... and every other line, in 5.23.0 as well, the tokens gathered from all processes since the start
    _pattern("Hugging Face Trainer", "tokens_per_s", r"\b" + _HF_TOKENS, whole_run=True),
    # meta-pytorch/torchtune@bd2a0fc recipes/, training/metric_logging.py (text and JSON lines)
    _pattern("torchtune", "tokens_per_s_per_gpu", r"\btokens_per_second_per_gpu\W{1,4}"),
    # deepspeedai/DeepSpeed@edaa722 utils/timer.py and runtime/pipe/engine.py: the whole train batch
    _pattern("DeepSpeed", "samples_per_s", r"\bCurrSamplesPerSec="),
    _pattern("DeepSpeed", "samples_per_s", r"\biter time \(s\): [0-9.]{1,20} samples/sec: "),
    # transformers@007360d (4.x) and 5.23.0 trainer_utils.py: samples of all processes, whatever their length
    _pattern("Hugging Face Trainer", "samples_per_s", r"\btrain_samples_per_second\W{1,40}", whole_run=True),
)

# colours, with the escape character as it is, as pagers and JSON show it, or lost in a copy
_COLOUR = re.compile(r"(?:\x1b|\^\[|\\x1b|\\u001b|\\033)\[[0-9;?]*[@-~]|\[[0-9;]{1,30}m")
# torchtitan's evaluation lines give a speed under the label of the training lines
_EVALUATION = re.compile(r"\bvalidate step:(?:(?!step:)[^\r\n]){0,400}?\b(?:tps|wps): {1,4}[0-9,]{1,30}")
# "step: 10", "iteration       10/", "iter 40:", "Step 3 |", '"step": 3', "steps: 4 loss", "global_step=4", "[batch=7/100]"
STEP = re.compile(r"(?:\b(?:[Ss]teps?|iter|iteration|global_step)|\[batch)\b\"?[:=]? {0,12}([0-9]{1,12})\b")
_FLOPS_ONLY = re.compile(r"TFLOP/s/(?:GPU|device)|\btflops: ")


@dataclass(frozen=True, slots=True)
class Throughput:
    """A log's figure after warm-up, in `unit`, with how many lines it rests on.

    It is the median, or for `whole_run` the last mean since the start. `global_batch_size` (sequences) and
    `tokens_per_step` are what the log itself states; `other_batches` lines of another global batch size are left out.
    """

    framework: str
    unit: Unit
    value: float
    lines: int
    skipped: int
    global_batch_size: int | None = None
    tokens_per_step: int | None = None
    other_batches: int = 0
    whole_run: bool = False


def without_colours(log: str) -> str:
    """The log without colours and without the figures of torchtitan's evaluation lines, whose first word stays."""
    return _EVALUATION.sub("validate", _COLOUR.sub("", log))


def figures(pattern: Pattern, text: str) -> Iterator[tuple[re.Match[str], float]]:
    """Each place where a pattern matches, with its figure in the pattern's unit; figures that are not above 0 are none."""
    for match in pattern.expression.finditer(text):
        if (value := _value(match) * pattern.scale) > 0:
            yield match, value


def read_throughput(log: str) -> Throughput:
    """Find the throughput in a log; raises `CannotAnswer` naming the forms that are known when there is none."""
    text = without_colours(log)
    for pattern in PATTERNS:
        found = list(figures(pattern, text))
        if found:
            return _throughput(pattern, text, found[0][0], [value for _, value in found])
    known = ", ".join(dict.fromkeys(pattern.framework for pattern in PATTERNS))
    flops = " but TFLOP/s, which its framework counts in its own way" if _FLOPS_ONLY.search(text) else ""
    raise CannotAnswer(
        f"no throughput was found in the log{flops} (lines of {known} are known)",
        needs=["tokens_per_s or step_time_s"],
    )


def _throughput(pattern: Pattern, text: str, first: re.Match[str], values: list[float]) -> Throughput:
    if pattern.whole_run:
        return Throughput(pattern.framework, pattern.unit, values[-1], len(values), 0, whole_run=True)
    batches = [int(size) for size in pattern.sequences.findall(text)] if pattern.sequences else []
    every, skipped = len(values), _warm_up(first, len(values))
    kept = values[skipped:]
    if len(batches) == every:  # while the batch grows its steps do not compare: those of the last size count
        kept = [v for v, size in zip(kept, batches[skipped:], strict=True) if size == batches[-1]]
    tokens = pattern.tokens.search(text) if pattern.tokens else None
    return Throughput(
        pattern.framework,
        pattern.unit,
        statistics.median(kept),
        every,
        skipped,
        global_batch_size=batches[-1] if batches else None,
        tokens_per_step=int(tokens[1].replace(",", "")) if tokens else None,
        other_batches=every - skipped - len(kept),
    )


def _value(match: re.Match[str]) -> float:
    return float(match[1].replace(",", "").replace("_", ""))


def _warm_up(first: re.Match[str], lines: int) -> int:
    """How many lines to leave out: the first of a long log, or the one line of a run's very first step."""
    if lines > 2 * WARM_UP:
        return WARM_UP
    start = max(first.string.rfind("\n", 0, first.start()) + 1, first.start() - 400)
    step = STEP.search(first.string, start, first.end())
    return 1 if lines > 1 and step and int(step[1]) <= 1 else 0
