"""From timelines to what is wrong: the trust gates first, then the findings that they leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from advisor_mcp.findings import Finding, order
from advisor_mcp.tracing.case import Case, cases
from advisor_mcp.tracing.compile_log import CompileLog
from advisor_mcp.tracing.families import GATES, JOB, JOB_GATES, TIMELINE
from advisor_mcp.tracing.job import Job
from advisor_mcp.tracing.memory import MemoryHistory
from advisor_mcp.tracing.record_families import compile_findings, memory_findings
from advisor_mcp.tracing.timeline import Timeline

EVERYTHING = "all"
Found: TypeAlias = Finding[Case] | Finding[Job] | Finding[MemoryHistory] | Finding[CompileLog]


@dataclass(frozen=True)
class Diagnosis:
    """What the evidence shows: a job's cases, what makes them less sure, and what everything suffers from, the most first."""

    job: Job
    gates: list[Finding[Case] | Finding[Job]]
    findings: list[Found]
    withheld: tuple[str, ...] = ()
    memories: tuple[MemoryHistory, ...] = ()
    compile_log: CompileLog | None = None

    @property
    def cases(self) -> list[Case]:
        """Every device of every trace."""
        return self.job.cases


def diagnose(
    timelines: Sequence[Timeline], memories: Sequence[MemoryHistory] = (), compile_log: CompileLog | None = None
) -> Diagnosis:
    """Hold the traces, memory records and compile logs of one job against every gate and every kind of finding."""
    every = [case for timeline in timelines for case in cases(timeline)]
    job = Job(every)
    gates, found, withheld = _held_against(every)
    doubts = JOB_GATES.find(job)
    together, stopped = _of_the_job(job, doubts)
    findings: list[Found] = [*_together(found, len(every)), *together]
    withheld |= stopped
    for memory in memories:
        findings += memory_findings(memory)
    if compile_log:
        findings += compile_findings(compile_log)
    findings.sort(key=order)
    passed: list[Finding[Case] | Finding[Job]] = [*doubts, *_gates_together(gates, len(every))]
    return Diagnosis(job, passed, findings, tuple(sorted(withheld)), tuple(memories), compile_log)


def _of_the_job(job: Job, doubts: Sequence[Finding[Job]]) -> tuple[list[Finding[Job]], set[str]]:
    """What only the ranks together show, and the names of what the doubts about them withhold."""
    stopped = {name for doubt in doubts for name in doubt.kind.items("Withholds")}
    found = JOB.find(job)
    kept = [
        replace(one, lowered_by=tuple(d.kind.name for d in doubts if one.kind.name in d.kind.items("Lowers")))
        for one in found
        if one.kind.name not in stopped
    ]
    return kept, {one.kind.name for one in found} & stopped


def _held_against(
    every: Sequence[Case],
) -> tuple[list[Finding[Case]], list[tuple[Case, Finding[Case]]], set[str]]:
    """The gates that some case does not pass, the findings that they leave, and the names of those they withhold."""
    gates: list[Finding[Case]] = []
    found: list[tuple[Case, Finding[Case]]] = []
    withheld: set[str] = set()
    for case in every:
        passed = GATES.find(case)
        gates += passed
        stopped = {name for gate in passed for name in gate.kind.items("Withholds")}
        for name, kind in TIMELINE.kinds().items():
            seen = list(kind.check(case))
            if seen and stopped & {name, EVERYTHING}:
                withheld.add(name)
                continue
            lowered = tuple(gate.kind.name for gate in passed if {name, EVERYTHING} & set(gate.kind.items("Lowers")))
            found += [(case, Finding(kind, one, lowered)) for one in seen]
    return gates, found, withheld


def _together(found: list[tuple[Case, Finding[Case]]], of: int) -> list[Finding[Case]]:
    """One finding a kind, the one with the most to save, which says on how many devices it was seen."""
    by_name: dict[str, list[tuple[Case, Finding[Case]]]] = {}
    for case, one in found:
        by_name.setdefault(one.kind.name, []).append((case, one))
    told = []
    for group in by_name.values():
        case, worst = max(group, key=lambda pair: pair[1].seen.saves_at_most_percent or pair[1].seen.measured)
        devices = {id(where) for where, _ in group}
        where = f"{len(devices)} of {of} devices, worst {case.label}" if of > 1 else None
        told.append(replace(worst, seen=replace(worst.seen, where=worst.seen.where or where)))
    return told


def _gates_together(gates: list[Finding[Case]], of: int) -> list[Finding[Case]]:
    by_name: dict[str, list[Finding[Case]]] = {}
    for gate in gates:
        by_name.setdefault(gate.kind.name, []).append(gate)
    return [
        replace(group[0], seen=replace(group[0].seen, where=f"{len(group)} of {of} devices" if of > 1 else None))
        for _, group in sorted(by_name.items())
    ]
