"""The answer of `diagnose_trace`: figures, findings and doubts, as much of them as the answer may hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from advisor_mcp.errors import CannotAnswer
from advisor_mcp.findings import Finding, FindingRow, finding_rows
from advisor_mcp.results import Answer, Detail, Row, gib
from advisor_mcp.tracing import figures
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.comparison import Compared, compare
from advisor_mcp.tracing.compile_log import CompileLog
from advisor_mcp.tracing.compile_report import CompileSection, compile_section
from advisor_mcp.tracing.diagnosis import Diagnosis
from advisor_mcp.tracing.memory import MemoryHistory
from advisor_mcp.tracing.memory_report import MemorySection, memory_section
from advisor_mcp.tracing.split import UNLINKED

TIED_PERCENT = 1.0
SHORT_NS = 100_000
OVERLAP = ("what several findings can save may be the same time: it does not add up",)
UNEXPLAINED_PERCENT = 15.0
"""Idle time without a known cause from which on an answer without findings says so."""


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
    memory: MemorySection | None = Field(default=None, description="Of the record with the highest peak")
    compilation: CompileSection | None = None


@dataclass(frozen=True)
class _Room:
    """How much of the lists an answer holds."""

    devices: int
    findings: int
    changes: int
    kernels: int
    steps: int
    classes: int
    collectives: int
    full: bool
    records: bool = True
    gates: int = 99


def report(
    diagnosis: Diagnosis, detail: Detail, limit: int, baseline: Diagnosis | None = None, notes: list[str] | None = None
) -> DiagnosedTrace:
    """The answer, with as much in its lists as both channels hold in `limit` bytes."""
    if baseline and not (baseline.cases and diagnosis.cases):
        raise CannotAnswer(
            "only two timelines can be compared", needs=["traces of torch.profiler or Nsight Systems on both sides"]
        )
    about = worst_case(diagnosis)
    compared = compare(baseline, diagnosis, about) if baseline and about else None
    for room in _rooms(detail == "full"):
        answer = _answer(diagnosis, room, compared, notes or [])
        if max(len(answer.json_text().encode()), len(answer.text().encode())) <= limit:
            break
    return answer


def _rooms(full: bool) -> Iterator[_Room]:
    """From much to little."""
    if full:
        for n in range(8):
            yield _Room(max(1, 64 >> n), 24 - n, 24, max(2, 20 - 2 * n), max(2, 64 >> n), 12, max(2, 16 - n), True)
        for found in range(16, 0, -2):
            yield _Room(1, found, found, 2, 2, 6, 2, True)
        return
    yield _Room(4, 8, 8, 3, 0, 4, 2, False)
    for found, changes in ((8, 8), (6, 6), (5, 4), (5, 3), (5, 2), (4, 2), (3, 2), (3, 1), (2, 1), (1, 1)):
        yield _Room(2, found, changes, 0, 0, 3 if found > 6 else 0, 0, False)
    yield _Room(1, 1, 1, 0, 0, 0, 0, False)
    yield _Room(1, 1, 1, 0, 0, 0, 0, False, gates=3)
    yield _Room(1, 1, 0, 0, 0, 0, 0, False, records=False, gates=2)


def _answer(diagnosis: Diagnosis, room: _Room, compared: Compared | None, notes: list[str]) -> DiagnosedTrace:
    costs: list[Finding[Any]] = [one for one in diagnosis.findings if one.severity != "info"]
    chances: list[Finding[Any]] = [one for one in diagnosis.findings if one.severity == "info"]
    kept = room.findings - min(len(costs), room.findings)
    if compared and not room.full:
        compared = compared.model_copy(update={"classes": None})
    worst, fullest = worst_case(diagnosis), _fullest(diagnosis)
    return DiagnosedTrace(
        summary=compared.conclusion if compared else _summary(diagnosis, worst, costs, chances),
        trust=[_gate(gate, room.full) for gate in diagnosis.gates[: room.gates]] or None,
        findings=_shortened(finding_rows(costs[: room.findings], room.full), room),
        opportunities=_shortened(finding_rows(chances[:kept], room.full), room) or None,
        comparison=compared,
        memory=memory_section(fullest, room.full) if fullest and room.records else None,
        compilation=compile_section(diagnosis.compile_log, room.full)
        if diagnosis.compile_log and room.records
        else None,
        assumptions=[
            *(_assumptions(worst) if room.full and worst else ()),
            *(OVERLAP if len(costs) > 1 else ()),
            *notes,
        ],
        next_measurement=_next(costs, diagnosis),
        omitted=_omitted(room, costs, chances[kept:], diagnosis) or None,
        **(_figures(diagnosis, worst, room) if worst else {}),
    )


def _figures(diagnosis: Diagnosis, worst: Case, room: _Room) -> dict[str, Any]:
    """The figures of timelines, by the answer's fields."""
    cases = [case for case in diagnosis.cases if case.device is not None]
    return {
        "devices": [figures.device_row(case) for case in _slowest(cases, room.devices)] or None,
        "idle_causes": figures.idle_causes(worst) if worst.device is not None else None,
        "steps": figures.steps(worst),
        "launches": figures.launches(worst) if room.kernels else None,
        "kernel_classes": figures.class_rows(worst)[: room.classes] or None,
        "top_kernels": figures.kernel_rows(worst, room.kernels) or None,
        "step_rows": (figures.step_rows(worst)[: room.steps] or None) if room.full else None,
        "collectives": figures.collective_rows(diagnosis.job)[: room.collectives] or None,
        "memory_peaks": (figures.memory_peaks(diagnosis.cases)[: room.devices] or None) if room.kernels else None,
    }


_FULL_ONLY = {"unit": None, "saves_at_most_ms": None, "threshold": None, "next_measurement": None}


def _shortened(rows: list[FindingRow], room: _Room) -> list[FindingRow]:
    """In a brief answer the message says the unit, and what to change is told of the first findings only."""
    if room.full:
        return rows
    return [
        row.model_copy(update=_FULL_ONLY | ({} if place < room.changes else {"change": None}))
        for place, row in enumerate(rows)
    ]


def worst_case(diagnosis: Diagnosis) -> Case | None:
    """The device that figures of one device are about: with the longest span, of nearly equal ones the most idle."""
    longest = max((case.span for case in diagnosis.cases), default=0)
    tied = [case for case in diagnosis.cases if case.span >= longest * (1 - TIED_PERCENT / 100)]
    return max(tied, key=lambda case: case.split.idle, default=None)


def _fullest(diagnosis: Diagnosis) -> MemoryHistory | None:
    """The memory record with the highest peak."""

    def peak(history: MemoryHistory) -> int:
        return history.fullest.peak.size if history.fullest.peak else 0

    return max(diagnosis.memories, key=peak, default=None)


def _slowest(cases: list[Case], most: int) -> list[Case]:
    chosen = sorted(cases, key=lambda case: -case.split.idle)[:most]
    return [case for case in cases if case in chosen]


def _summary(diagnosis: Diagnosis, worst: Case | None, costs: list[Finding[Any]], chances: list[Finding[Any]]) -> str:
    told = ([_time(diagnosis, worst)] if worst else []) + of_records(diagnosis)
    doubt = (
        f" Doubts, to be read first: {', '.join(gate.kind.name for gate in diagnosis.gates)}."
        if diagnosis.gates
        else ""
    )
    return f"{'. '.join(told)}; {_found(costs, chances)}{_unexplained(worst, costs)}.{doubt}"


def of_records(diagnosis: Diagnosis) -> list[str]:
    """What the records beside the timelines say, each in a few words."""
    fullest, log = _fullest(diagnosis), diagnosis.compile_log
    return ([_memory(fullest)] if fullest else []) + ([_compilation(log)] if log else [])


def _time(diagnosis: Diagnosis, worst: Case) -> str:
    if worst.device is None:
        part = ", as far as it was read," if worst.timeline.truncated else ""
        return f"{worst.timeline.source}{part} has no GPU events"
    split = worst.split
    shares = [
        worst.percent(part) for part in (split.compute, split.exposed_communication, split.exposed_copy, split.idle)
    ]
    names = ("compute", "exposed communication", "exposed copy", "idle")
    parts = ", ".join(f"{share:.1f} % {name}" for share, name in zip(shares, names, strict=True))
    several = f" ({worst.label}, the worst of {len(diagnosis.cases)})" if len(diagnosis.cases) > 1 else ""
    return f"Of {_duration(worst.span)}{several}: {parts}"


def _duration(nanoseconds: int) -> str:
    return f"{nanoseconds / MS:,.1f} ms" if nanoseconds >= SHORT_NS else f"{nanoseconds / 1e3:,.1f} µs"


def _memory(history: MemoryHistory) -> str:
    device = history.fullest
    if device.peak:
        return f"GPU memory peaks at {gib(device.peak.size)} GiB ({device.peak.size:,} bytes)"
    return f"GPU memory holds {gib(device.held.reserved)} GiB" if device.held else "No memory is held"


def _compilation(log: CompileLog) -> str:
    return (
        f"{len(log.compilations)} compilations took {log.total_ms / 1e3:,.1f} s, with {len(log.recompilations)} recompilations "
        f"and {len(log.breaks)} graph breaks"
    )


def _unexplained(worst: Case | None, costs: list[Finding[Any]]) -> str:
    """That nothing was found is no clean bill where the launches that would explain idle time are not in the trace."""
    if worst is None or worst.device is None or costs:
        return ""
    unknown = worst.percent(worst.gaps.total(UNLINKED))
    return f"; what {unknown:.1f} % idle time waited for cannot be told" if unknown >= UNEXPLAINED_PERCENT else ""


def _found(costs: list[Finding[Any]], chances: list[Finding[Any]]) -> str:
    if not costs:
        return "nothing to report" + (
            f"; opportunities: {', '.join(one.kind.name for one in chances)}" if chances else ""
        )
    bound = costs[0].seen.saves_at_most_percent
    saves = f", which can save at most {bound:.1f} %" if bound is not None else ""
    others = f" (and {len(costs) - 1} more)" if len(costs) > 1 else ""
    sure = ", less sure for the doubts," if costs[0].lowered_by else ""
    return f"the first finding{sure} is {costs[0].kind.name}{saves}{others}"


def _gate(gate: Finding[Any], full: bool) -> Gate:
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


def _omitted(room: _Room, costs: list[Finding[Any]], chances: list[Finding[Any]], diagnosis: Diagnosis) -> list[str]:
    steps = max((len(case.steps) for case in diagnosis.cases), default=0) if room.full else 0
    left = {
        "devices": len(diagnosis.cases) - room.devices,
        "steps": steps - room.steps,
        "memory records": len(diagnosis.memories) - 1,
    }
    names = [one.kind.name for one in (*costs[room.findings :], *chances)]
    told = [f"{count} further {what}" for what, count in left.items() if count > 0]
    told += [f"findings {', '.join(names)}"] if names else []
    told += (
        [f"doubts {', '.join(gate.kind.name for gate in left_gates)}"]
        if (left_gates := diagnosis.gates[room.gates :])
        else []
    )
    if not room.records:
        told += [
            name for name, there in (("memory", diagnosis.memories), ("compilation", diagnosis.compile_log)) if there
        ]
    return told + ([f"withheld for the doubts: {', '.join(diagnosis.withheld)}"] if diagnosis.withheld else [])
