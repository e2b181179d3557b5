"""The answer of `diagnose_trace`: figures, findings and doubts, as much of them as the answer may hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from advisor_mcp.findings import Finding, FindingRow, finding_rows
from advisor_mcp.results import Answer, Detail, Row
from advisor_mcp.tracing import figures
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.comparison import Compared, compare
from advisor_mcp.tracing.diagnosis import Diagnosis, label

TIED_PERCENT = 1.0
CHANGES = 2
"""Findings of a brief answer that say what to change."""


class Gate(Row):
    """What makes some of the figures less sure."""

    name: str
    message: str
    where: str | None = None
    lowers: list[str] | None = Field(default=None, description="Figures and findings that are less sure for it")
    withholds: list[str] | None = Field(default=None, description="Findings that are not made for it")
    change: str | None = None


class DiagnosedTrace(Answer):
    """Where the time of a trace went, what is wrong, and how far the trace is to be trusted."""

    trust: list[Gate] | None = Field(default=None, description="Read these before the figures")
    findings: list[FindingRow] = Field(
        description="What costs time, the most first; empty: looked, and nothing to report"
    )
    opportunities: list[FindingRow] | None = Field(
        default=None, description="What a choice could gain; nothing is wrong"
    )
    comparison: Compared | None = None
    devices: list[figures.DeviceRow] | None = None
    idle_causes: figures.IdleCauses | None = Field(default=None, description="Of the device named in the summary")
    steps: figures.Steps | None = None
    launches: figures.Launches | None = None
    kernel_classes: list[figures.ClassRow] | None = None
    top_kernels: list[figures.KernelRow] | None = None
    step_rows: list[figures.StepRow] | None = None
    collectives: list[figures.CollectiveRow] | None = None
    memory_peaks: list[figures.MemoryPeak] | None = None


@dataclass(frozen=True)
class _Room:
    """How much of the lists an answer holds."""

    devices: int
    findings: int
    kernels: int
    steps: int
    classes: int
    collectives: int
    full: bool


def report(
    diagnosis: Diagnosis, detail: Detail, limit: int, baseline: Diagnosis | None = None, notes: list[str] | None = None
) -> DiagnosedTrace:
    """The answer, with as much in its lists as both channels hold in `limit` bytes."""
    compared = compare(baseline, diagnosis) if baseline else None
    for room in _rooms(detail == "full"):
        answer = _answer(diagnosis, room, compared, notes or [])
        if max(len(answer.json_text().encode()), len(answer.text().encode())) <= limit:
            break
    return answer


def _rooms(full: bool) -> Iterator[_Room]:
    """From much to little."""
    if full:
        yield from (
            _Room(max(1, 64 >> n), 24 - n, max(2, 20 - 2 * n), max(2, 64 >> n), 12, max(2, 16 - n), True)
            for n in range(8)
        )
        yield from (_Room(1, found, 2, 2, 6, 2, True) for found in range(16, 0, -2))
        return
    for found in (6, 5, 4, 3, 2, 1):
        yield _Room(
            4 if found > 3 else 2, found, 3 if found > 3 else 0, 0, 4 if found > 3 else 0, 2 if found > 3 else 0, False
        )
    yield _Room(1, 1, 0, 0, 0, 0, False)


def _answer(diagnosis: Diagnosis, room: _Room, compared: Compared | None, notes: list[str]) -> DiagnosedTrace:
    cases = [case for case in diagnosis.cases if case.device is not None]
    worst = worst_case(diagnosis)
    costs: list[Finding[Any]] = [one for one in diagnosis.findings if one.severity != "info"]
    chances: list[Finding[Any]] = [one for one in diagnosis.findings if one.severity == "info"]
    classes = figures.class_rows(worst)
    steps = figures.step_rows(worst)
    collectives = figures.collective_rows(diagnosis.job)
    kept = room.findings - min(len(costs), room.findings)
    if compared and not room.full:
        compared = compared.model_copy(update={"classes": None})
    return DiagnosedTrace(
        summary=_summary(diagnosis, worst, costs, chances, compared),
        trust=[_gate(gate, room.full) for gate in diagnosis.gates] or None,
        findings=_brief(finding_rows(costs[: room.findings], room.full), room.full),
        opportunities=_brief(finding_rows(chances[:kept], room.full), room.full) or None,
        comparison=compared,
        devices=[figures.device_row(case) for case in _slowest(cases, room.devices)] or None,
        idle_causes=figures.idle_causes(worst) if worst.device is not None else None,
        steps=figures.steps(worst),
        launches=figures.launches(worst) if room.kernels else None,
        kernel_classes=classes[: room.classes] or None,
        top_kernels=figures.kernel_rows(worst, room.kernels) or None,
        step_rows=steps[: room.steps] if room.full and steps else None,
        collectives=collectives[: room.collectives] or None,
        memory_peaks=(figures.memory_peaks(diagnosis.cases) or None) if room.kernels else None,
        assumptions=[*_assumptions(worst), *notes] if room.full else notes,
        next_measurement=_next(costs, diagnosis),
        omitted=_omitted(room, costs, chances[kept:], cases, len(steps) if room.full else 0, diagnosis) or None,
    )


_FULL_ONLY = {"unit": None, "saves_at_most_ms": None, "threshold": None, "next_measurement": None}


def _brief(rows: list[FindingRow], full: bool) -> list[FindingRow]:
    """In a brief answer the message says the unit, and what to change is told of the first findings only."""
    if full:
        return rows
    shortened = [row.model_copy(update=_FULL_ONLY) for row in rows]
    return shortened[:CHANGES] + [row.model_copy(update={"change": None}) for row in shortened[CHANGES:]]


def worst_case(diagnosis: Diagnosis) -> Case:
    """The device that figures of one device are about: with the longest span, of nearly equal ones the most idle."""
    longest = max(case.span for case in diagnosis.cases)
    tied = [case for case in diagnosis.cases if case.span >= longest * (1 - TIED_PERCENT / 100)]
    return max(tied, key=lambda case: case.split.idle)


def _slowest(cases: list[Case], most: int) -> list[Case]:
    chosen = sorted(cases, key=lambda case: -case.split.idle)[:most]
    return [case for case in cases if case in chosen]


def _summary(
    diagnosis: Diagnosis,
    worst: Case,
    costs: list[Finding[Any]],
    chances: list[Finding[Any]],
    compared: Compared | None,
) -> str:
    if compared:
        return compared.conclusion
    doubt = f" Doubts first: {', '.join(gate.kind.name for gate in diagnosis.gates)}." if diagnosis.gates else ""
    split = worst.split
    if worst.device is None:
        told = f"{worst.timeline.source} has no GPU events"
    else:
        shares = [
            worst.percent(part) for part in (split.compute, split.exposed_communication, split.exposed_copy, split.idle)
        ]
        names = ("compute", "exposed communication", "exposed copy", "idle")
        parts = ", ".join(f"{share:.1f} % {name}" for share, name in zip(shares, names, strict=True))
        several = f" ({label(worst)}, the slowest of {len(diagnosis.cases)})" if len(diagnosis.cases) > 1 else ""
        told = f"Of {worst.span / MS:,.1f} ms{several}: {parts}"
    if not costs:
        found = "nothing to report" + (
            f"; opportunities: {', '.join(one.kind.name for one in chances)}" if chances else ""
        )
    else:
        top = costs[0]
        bound = top.seen.saves_at_most_percent
        saves = f", which can save at most {bound:.1f} %" if bound is not None else ""
        others = f" (and {len(costs) - 1} more)" if len(costs) > 1 else ""
        found = f"the bottleneck is {top.kind.name}{saves}{others}"
    return f"{told}; {found}.{doubt}"


def _gate(gate: Finding[Case], full: bool) -> Gate:
    return Gate(
        name=gate.kind.name,
        message=gate.seen.message,
        where=gate.seen.where,
        lowers=list(gate.kind.items("Lowers")) or None,
        withholds=list(gate.kind.items("Withholds")) or None,
        change=gate.kind.sections.get("Change") if full else None,
    )


def _assumptions(worst: Case) -> list[str]:
    return [
        "a span reaches from the first start to the last end of a device's events",
        "kernels are told apart as communication and by class by their names",
        *(["steps are the profiler's ProfilerStep ranges"] if worst.timeline.steps else []),
    ]


def _next(costs: list[Finding[Any]], diagnosis: Diagnosis) -> str | None:
    for gate in diagnosis.gates:
        if {"all", "idle"} & set(gate.kind.items("Lowers")):
            return gate.kind.sections.get("Next measurement")
    return costs[0].kind.sections.get("Next measurement") if costs else None


def _omitted(
    room: _Room,
    costs: list[Finding[Any]],
    chances: list[Finding[Any]],
    cases: list[Case],
    steps: int,
    diagnosis: Diagnosis,
) -> list[str]:
    left: list[tuple[int, Callable[[int], str]]] = [
        (len(cases) - room.devices, lambda n: f"{n} further devices"),
        (steps - room.steps, lambda n: f"{n} further steps"),
    ]
    names = [one.kind.name for one in (*costs[room.findings :], *chances)]
    told = [words(count) for count, words in left if count > 0]
    if names:
        told.append(f"findings {', '.join(names)}")
    if diagnosis.withheld:
        told.append(f"withheld for the doubts above: {', '.join(diagnosis.withheld)}")
    return told
