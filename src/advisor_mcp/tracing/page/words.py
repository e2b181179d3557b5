"""A diagnosis in the words of people who have never seen a trace, and figures as they are said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from advisor_mcp.findings import Finding, FindingRow
from advisor_mcp.results import number
from advisor_mcp.tracing.case import Case
from advisor_mcp.tracing.diagnosis import EVERYTHING, Diagnosis
from advisor_mcp.tracing.figures import percent
from advisor_mcp.tracing.report import DiagnosedTrace, of_records

TOLD_PERCENT = 1.0
"""Parts below it are left out of sentences; the figures beside them hold every part."""


@dataclass(frozen=True, slots=True)
class Word:
    """What something is called, and what that means."""

    title: str
    meaning: str
    sentence: str = ""


PARTS = {
    "compute": Word(
        "Computing", "Kernels ran: the GPU did the work it was given.", "computing",
    ),
    "exposed_communication": Word(
        "Exposed communication",
        "The GPU exchanged data with other GPUs while it computed nothing. Exchange that runs behind computing costs no time and "
        "is not counted here: only what is exposed makes the run longer.",
        "only exchanging data with other GPUs",
    ),
    "exposed_copy": Word(
        "Exposed copying",
        "Data was copied to, from or within the GPU while it neither computed nor communicated.",
        "only copying data",
    ),
    "idle": Word("Idle", "Nothing ran on the GPU. It waited for something; the next section says for what.", "doing nothing"),
}  # fmt: skip

CAUSES = {
    "host": Word(
        "The program was too slow to hand over work",
        "The next kernel was launched only after the GPU had run out of work, and nothing below explains it: usually Python "
        "preparing many small operations one by one.",
    ),
    "dataloader": Word(
        "The next batch of data was not ready", "The program waited for its data loader, so it had nothing to launch."
    ),
    "synchronisation": Word(
        "The program had stopped to wait for the GPU",
        "A blocking call, such as reading a value back with .item(), let the queue of work run empty; the GPU then waited until "
        "new work was launched.",
    ),
    "api_calls": Word(
        "The program was busy in other calls of the GPU's driver", "Allocating or freeing memory, loading code, registering buffers."
    ),
    "stream_wait": Word(
        "Queued work waited for something else",
        "The work was launched in time but had to wait: for another stream, an event, a copy, or another GPU.",
    ),
    "short_gaps": Word("Short pauses between kernels", "Below 30 µs each, between kernels that were launched in time."),
    "unlinked": Word("Unknown", "The trace does not hold the call that launched what came next."),
}  # fmt: skip

KINDS = {
    "main": Word("Matrix products, convolutions, attention", "The kernels that do the model's arithmetic."),
    "other": Word("Other kernels", "Elementwise operations, normalisation, reductions, the optimizer and so on."),
    "communication": Word("Communication", "Exchange with other GPUs."),
    "copy": Word("Copies and fills", "Moving or setting memory."),
    "launch": Word("Launching a kernel", "A call that hands one kernel, or a recorded graph of them, to the GPU."),
    "operator": Word("Operator", "The outermost operators of the framework; those inside them are not drawn."),
    "range": Word("Named range", "What the program or the framework marked with a name; the outermost only."),
    "dataloader": Word("Waiting for data", "The data loader prepared the next batch, or the GPU was idle because of it."),
    "synchronisation": Word("Waiting for the GPU", "A blocking call, or the GPU idle because of one."),
    "api_calls": Word("Other driver calls", "Memory allocation, copies being queued, events; or the GPU idle because of them."),
    "host": Word("Late launch", CAUSES["host"].meaning),
    "stream_wait": Word("Queued, but waiting", CAUSES["stream_wait"].meaning),
    "short_gaps": Word("Short pauses", CAUSES["short_gaps"].meaning),
    "unlinked": Word("Unknown cause", CAUSES["unlinked"].meaning),
}  # fmt: skip


CLASSES = {
    "communication": "Exchange with other GPUs",
    "attention": "Attention",
    "convolution": "Convolutions",
    "gemm": "Matrix products (GEMM)",
    "softmax": "Softmax",
    "normalisation": "Batch, layer and other normalisation",
    "optimizer": "The optimizer's update of the weights",
    "layout": "Rearranging tensors in memory",
    "embedding": "Looking rows up, gathering and scattering",
    "reduction": "Sums, maxima, sorting, scans",
    "elementwise": "One small operation on each element: additions, activations, casts",
    "copy": "Copies made by kernels, such as concatenation and contiguous()",
    "other": "Not recognised by name",
}


def time(nanoseconds: float) -> str:
    """A time in the unit that people would say it in, with three digits: ``8.21 µs``, ``176 ms``, ``12.9 s``."""
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if abs(nanoseconds) >= size * 0.9995:
            value = nanoseconds / size
            return f"{value:,.0f} {unit}" if value >= 999.5 else f"{value:.3g} {unit}"
    return f"{nanoseconds:.0f} ns"


def share(value: float) -> str:
    """A percentage as it is said: with one decimal, and never 0 or 100 for what is not quite."""
    if 0 < value < 0.05:
        return "less than 0.1 %"
    told = f"{min(value, 99.9) if value < 100 else value:.1f}"
    return f"{told.removesuffix('.0')} %"


def title(diagnosis: Diagnosis) -> str:
    """What the page is called."""
    return f"Where the {'time' if diagnosis.cases else 'memory' if diagnosis.memories else 'time of compiling'} went"


def about(worst: Case | None) -> str:
    """What was recorded: the device, its place in the job, how long and how many steps."""
    if worst is None:
        return "Records of memory or compilation, without a timeline"
    count = len(worst.timeline.steps)
    steps = f", {count} step{'' if count == 1 else 's'}" if count else ""
    where = worst.label if worst.device is not None else "the host alone"
    return f"A trace of {worst.facts.name + ', ' if worst.facts.name else ''}{where}: {time(worst.span)}{steps}"


def lead(diagnosis: Diagnosis, worst: Case | None, answer: DiagnosedTrace) -> list[str]:
    """Where the time went and what to do first, in a few sentences."""
    told = [answer.comparison.conclusion] if answer.comparison else []
    if worst is not None:
        told += [_where(worst, len(diagnosis.job.ranks)), *_because(worst)]
    told += [f"{sentence}." for sentence in of_records(diagnosis)]
    return [*told, *_first(diagnosis, answer.findings, answer.opportunities or [])]


def _where(worst: Case, devices: int) -> str:
    if worst.device is None:
        return (
            "This trace recorded no work of a GPU, so it cannot say where a GPU's time went; "
            "if there was one, record it as well (see the doubts below)."
        )
    split = worst.split
    shares = {part: percent(worst.percent(getattr(split, part))) for part in PARTS}
    heard = sorted((part for part in PARTS if shares[part] >= TOLD_PERCENT), key=lambda part: -shares[part])
    told = [f"{share(shares[part])} {PARTS[part].sentence}" for part in heard]
    which = f"the worst of {devices} GPUs ({worst.label})" if devices > 1 else "the GPU"
    return f"Of the {time(worst.span)} that were recorded, {which} spent {_joined(told)}."


def _because(worst: Case) -> Iterator[str]:
    if worst.device is None or worst.percent(worst.split.idle) < TOLD_PERCENT:
        return
    cause = max(CAUSES, key=worst.gaps.total)
    part = 100 * worst.gaps.total(cause) / max(worst.split.idle, 1)
    reason = CAUSES[cause].title
    if cause != "unlinked":
        yield f"{share(part)} of the idle time has one reason: {reason[0].lower()}{reason[1:]}."


def _first(diagnosis: Diagnosis, costs: list[FindingRow], chances: list[FindingRow]) -> Iterator[str]:
    if gate := spoiling(diagnosis):
        yield f"First measure again, because these figures cannot be trusted as they are: {gate.kind.sections['Change']}"
    if costs:
        bound = costs[0].saves_at_most_percent
        saves = f" That can save at most {share(bound)} of the time." if bound is not None else ""
        yield f"{'Then do this' if gate else 'Do this first'} ({costs[0].name}): {costs[0].change or costs[0].message}{saves}"
    elif chances:
        yield f"Nothing is wrong that costs time. What a choice could still gain ({chances[0].name}): {chances[0].change}"
    elif not gate:
        yield "Nothing was found that costs time: there is nothing to fix here."


def spoiling(diagnosis: Diagnosis) -> Finding[Any] | None:
    """The first doubt that touches the split itself, so that the figures are to be measured again before they are used."""
    for gate in diagnosis.gates:
        if {EVERYTHING, "idle"} & {*gate.kind.items("Lowers"), *gate.kind.items("Withholds")}:
            return gate
    return None


def _joined(told: list[str]) -> str:
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}" if told else "no time at all"


# a field's name ends in its unit
_UNITS = {
    "_tokens_per_s": "tokens/s", "_gb_s": "GB/s", "_percent": "%", "_bytes": "bytes", "_gib": "GiB", "_mib": "MiB", "_ms": "ms",
    "_us": "µs", "_ns": "ns", "_s": "s",
}  # fmt: skip
_SPELLED = {"gpu": "GPU", "gpus": "GPUs", "gib": "GiB"}


def heading(field: str) -> str:
    """A field's name as people read it: ``median_kernel_us`` is "Median kernel (µs)"."""
    for suffix, unit in _UNITS.items():
        if field.endswith(suffix):
            return f"{heading(field.removesuffix(suffix))} ({unit})"
    text = " ".join(_SPELLED.get(word, word) for word in field.split("_"))
    return text[:1].upper() + text[1:]


def meanings(of: BaseModel) -> dict[str, str]:
    """What the fields of an answer's part, and of the rows in it, mean."""
    schema = type(of).model_json_schema(mode="serialization")
    parts = [schema, *schema.get("$defs", {}).values()]
    found = {name: part for each in parts for name, part in each.get("properties", {}).items()}
    return {name: part["description"] for name, part in found.items() if "description" in part}


def cell(value: object) -> str:
    """A plain value of an answer as text."""
    if isinstance(value, bool | int | float):
        return number(value + 0)  # a sum that rounds to -0 is 0
    if isinstance(value, list | tuple):
        return ", ".join(cell(part) for part in value)
    return str(value)


def compared(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """A comparison without its conclusion, with the parts of the time by the names that they have elsewhere on the page."""

    def named(row: dict[str, Any]) -> dict[str, Any]:
        part, _, cause = row["part"].partition(": ")
        title = f"Idle: {CAUSES[cause].title[0].lower()}{CAUSES[cause].title[1:]}" if cause else PARTS[part].title
        return {**row, "part": title}

    return {
        name: [named(row) for row in value] if name == "parts" else value
        for name, value in comparison.items()
        if name != "conclusion"
    }


def plain(part: dict[str, object]) -> dict[str, object]:
    """The fields of an answer's part that are told in a word or a number."""
    return {name: value for name, value in part.items() if isinstance(value, str | int | float)}


def columns(rows: list[dict[str, object]]) -> dict[str, bool]:
    """The fields of some rows in their order, and whether each holds numbers."""
    fields = dict.fromkeys(key for row in rows for key in row)
    return {key: all(isinstance(row[key], int | float) for row in rows if key in row) for key in fields}


def idle_rows(worst: Case) -> list[tuple[Word, int, float]]:
    """The causes of idle time that occur: words, nanoseconds, percent of the span; the largest first."""
    found = [
        (CAUSES[cause], time, percent(worst.percent(time))) for cause in CAUSES if (time := worst.gaps.total(cause))
    ]
    return sorted(found, key=lambda row: -row[1])
