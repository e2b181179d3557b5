"""The steps of a training log, one value a step: ranks taken together, restarts found, evaluations and checkpoints marked."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from advisor_mcp.measuring.samples import Event, Samples, SampleUnit
from advisor_mcp.measuring.training_logs import PATTERNS, STEP, Pattern, figures, without_colours

MILLISECONDS = 1e3

# Who printed a line: torchrun "[default3]:" (torch 2.13.0 distributed/elastic/agent/server/local_elastic_agent.py: role name
# and rank), "[rank3]:" (its own error lines), `srun --label` "3: ", `mpirun --tag-output` "[1,3]<stdout>:"
_RANK = re.compile(r"[ \t]{0,8}(?:\[[A-Za-z_]{0,40}([0-9]{1,6})\]:|([0-9]{1,6}): |\[[0-9]{1,6},([0-9]{1,6})\]<std)")

# pytorch/torchtitan@b5bcd76 components/checkpointer/dcp.py and components/metrics.py ("validate step"), NVIDIA/Megatron-LM@d98e8a6
# training/checkpointing.py and training.py ("validation loss at iteration"), transformers 5.23.0 trainer.py ("Running Evaluation",
# "Saving model checkpoint to"), DeepSpeed@edaa722 runtime/engine.py, karpathy/nanoGPT@3adf61e train.py ("val loss", "saving checkpoint")
_EVENTS: tuple[tuple[Event, re.Pattern[str]], ...] = (
    ("checkpoint", re.compile(r"\bsav(?:ing|ed)\b[^\n]{0,60}\bcheckpoint", re.IGNORECASE)),
    (
        "evaluation",
        re.compile(r"\bvalidat(?:e|ion)\b|\bval loss\b|\bRunning Evaluation\b|\beval_loss\b", re.IGNORECASE),
    ),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of a log: its value in the pattern's unit, and what stands before it."""

    value: float
    step: int | None
    rank: int | None
    event: Event | None
    part: int = 0


def read_steps(log: str) -> Samples | None:
    """The steps that a training log states, by the first pattern that matches; None where no line has a figure of its own."""
    text = without_colours(log)
    for pattern in PATTERNS:
        if not pattern.whole_run and (lines := list(_lines(pattern, text))):
            return _samples(pattern, text, lines)
    return None


def _lines(pattern: Pattern, text: str) -> Iterator[Line]:
    end = 0
    for match, value in figures(pattern, text):
        before = text[end : match.end()]
        steps = STEP.findall(before)
        yield Line(value, int(steps[-1]) if steps else None, _rank(text, match.start()), _event(before))
        end = match.end()


def _rank(text: str, at: int) -> int | None:
    found = _RANK.match(text, text.rfind("\n", 0, at) + 1)
    return int(next(group for group in found.groups() if group)) if found else None


def _event(before: str) -> Event | None:
    return next((event for event, expression in _EVENTS if expression.search(before)), None)


def _samples(pattern: Pattern, text: str, lines: list[Line]) -> Samples:
    notes: list[str] = []
    lines, work = _of_last_batch(pattern, text, lines, notes)
    numbered = all(line.step is not None for line in lines)
    if numbered:
        lines = _in_parts(lines)
        lines = _one_a_step(lines, notes)
    unit, scale = _unit(pattern)
    starts = tuple(at for at, line in enumerate(lines) if at == 0 or line.part != lines[at - 1].part)
    if len(starts) > 1:
        notes.append(f"the step counter starts again {len(starts) - 1} time(s): each start has its own warm-up")
    return Samples(
        form=pattern.framework,
        unit=unit,
        values=tuple(line.value * scale for line in lines),
        steps=tuple(line.step or 0 for line in lines) if numbered else None,
        starts=starts,
        events={at: line.event for at, line in enumerate(lines) if line.event},
        work=work,
        first_step_slow=lines[0].step is not None and lines[0].step <= 1,
        notes=tuple(notes),
    )


def _unit(pattern: Pattern) -> tuple[SampleUnit, float]:
    return ("ms", MILLISECONDS) if pattern.unit == "step_time_s" else (pattern.unit, 1.0)


def _of_last_batch(
    pattern: Pattern, text: str, lines: list[Line], notes: list[str]
) -> tuple[list[Line], tuple[float, Literal["samples", "tokens"]] | None]:
    """The lines of the last global batch size, and what a step then holds: steps of different sizes do not compare."""
    if pattern.tokens and (tokens := pattern.tokens.search(text)):
        return lines, (float(tokens[1].replace(",", "")), "tokens")
    sizes = [int(size) for size in pattern.sequences.findall(text)] if pattern.sequences else []
    if len(sizes) != len(lines):
        return lines, None
    kept = [line for line, size in zip(lines, sizes, strict=True) if size == sizes[-1]]
    if len(kept) < len(lines):
        notes.append(f"{len(lines) - len(kept)} steps of other global batch sizes than {sizes[-1]} are left out")
    return kept, (float(sizes[-1]), "samples")


def _in_parts(lines: Sequence[Line]) -> list[Line]:
    """The lines with the number of restarts before each: a rank's step counter that does not go forward began anew."""
    labelled = len({line.rank for line in lines}) > 1
    slack = 0 if labelled or not _interleaved([line.step or 0 for line in lines]) else 1
    recent: dict[int | None, list[int]] = {}
    parts: dict[int | None, int] = {}
    found = []
    for line in lines:
        who, step = (line.rank if labelled else None), line.step or 0
        steps = recent.setdefault(who, [])
        if steps and step <= steps[-1] and not (slack and step in steps[-2:]):
            parts[who], steps[:] = parts.get(who, 0) + 1, [step]
        elif step not in steps[-2:]:
            steps.append(step)
        found.append(Line(line.value, step, line.rank, line.event, parts.get(who, 0)))
    return found


def _interleaved(steps: Sequence[int]) -> bool:
    """Whether most steps are printed again at once or one step later, as by several ranks without a label."""
    recent: list[int] = []
    again: set[int] = set()
    for step in steps:
        if step in recent:
            again.add(step)
        else:
            recent = [*recent[-1:], step]
    return 2 * len(again) >= len(set(steps))


def _one_a_step(lines: Iterable[Line], notes: list[str]) -> list[Line]:
    """One line a step, the median of what its ranks printed."""
    by_step: dict[tuple[int, int | None], list[Line]] = {}
    for line in lines:
        by_step.setdefault((line.part, line.step), []).append(line)
    ranks = max(len(same) for same in by_step.values())
    if ranks > 1:
        notes.append(f"up to {ranks} ranks print the same step: the median of each step's lines is taken")
    return [_together(same) for _, same in sorted(by_step.items(), key=lambda item: (item[0][0], item[0][1] or 0))]


def _together(same: Sequence[Line]) -> Line:
    event = next((line.event for line in same if line.event), None)
    return Line(statistics.median(line.value for line in same), same[0].step, None, event, same[0].part)
