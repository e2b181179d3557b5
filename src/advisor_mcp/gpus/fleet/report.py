"""A fleet as the answer of `inspect_gpus`: figures, the worst jobs, findings, and what could not be looked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from advisor_mcp.declaration import BRIEF_BYTES, FULL_BYTES
from advisor_mcp.findings import Finding, FindingRow, finding_rows
from advisor_mcp.gpus.fleet.checks import JOB_LABELS, not_checked
from advisor_mcp.gpus.fleet.evidence import FLEET, HOUR, Fleet, Use, plural
from advisor_mcp.gpus.fleet.metrics import ACTIVITY
from advisor_mcp.gpus.fleet.rows import FleetRow, JobRow, NotChecked
from advisor_mcp.gpus.fleet.throttling import power_capped_percent
from advisor_mcp.gpus.rows import InspectedGpus
from advisor_mcp.results import Derivation, Detail, number

MEASURES = {"sm_active": "SM activity", "engine_active": "engine activity", "kernel_running": "time a kernel ran"}
_THRESHOLDS, _CODES = "doc:dcgm-profiling-metrics", "doc:nvidia-xid-catalog"
_SIZES = {
    "brief": [(6, 8), (3, 8), (3, 6), (2, 6), (2, 5), (1, 5), (1, 4), (1, 3), (1, 2), (0, 1)],
    "full": [(60, 20), (30, 20), (15, 20), (15, 10), (10, 7), (10, 5), (5, 3), (5, 1)],
}
"""Rows of jobs and of findings, tried one after the other until an answer is short enough."""
_FULL_FINDING_ONLY = {"threshold", "next_measurement", "where"}


def inspected(fleet: Fleet, detail: Detail = "brief") -> InspectedGpus:
    """A fleet as an answer that fits: jobs and findings beyond the worst are counted in `omitted`."""
    found = FLEET.find(fleet)
    limit = FULL_BYTES if detail == "full" else BRIEF_BYTES
    for jobs, findings in _SIZES[detail]:
        answer = _answer(fleet, found, jobs, findings, full=detail == "full")
        if max(len(answer.json_text().encode()), len(answer.text().encode())) <= limit:
            break
    return answer


def _answer(fleet: Fleet, found: Sequence[Finding[Fleet]], jobs: int, findings: int, full: bool) -> InspectedGpus:
    uses = sorted(fleet.uses.values(), key=lambda use: (use.job is None, -use.idle_hours, -use.hours, use.name))
    told = finding_rows(found[:findings], full)
    return InspectedGpus(
        summary=_summary(fleet, found),
        gpu_count=len(fleet.units),
        findings=told if full else [_short(row) for row in told],
        fleet=_row(fleet, uses[:jobs]),
        warnings=list(_warnings(fleet)),
        assumptions=list(_assumptions(fleet)),
        sources=_sources(fleet, found),
        next_measurement=_next(found, fleet),
        derivation=_derivation(fleet) if full else None,
        omitted=_omitted(len(uses) - jobs, found[findings:]),
    )


def _row(fleet: Fleet, uses: Sequence[Use]) -> FleetRow:
    free = fleet.uses.get(None)
    idle = sum(use.idle_hours for use in fleet.uses.values())
    unheld = free.idle_hours if free else 0.0
    capped = power_capped_percent(fleet)
    return FleetRow(
        window_h=round(fleet.window_s / HOUR, 2),
        step_s=fleet.step_s,
        host_count=len(fleet.hosts),
        job_count=sum(1 for job in fleet.uses if job),
        gpu_hours=round(fleet.total_hours, 2),
        wasted_gpu_hours=round(idle - unheld, 2) if fleet.labelled else None,
        free_gpu_hours=round(unheld, 2) if fleet.labelled else None,
        idle_gpu_hours=round(idle, 2),
        activity_percent=_percent(_activity(fleet)),
        activity_by=_measure(fleet),
        power_capped_percent=None if capped is None else round(capped),
        jobs=[_job(use) for use in uses] or None if fleet.labelled else None,
        not_checked=_unchecked(fleet) or None,
    )


def _job(use: Use) -> JobRow:
    memory, power = use.mean("memory_used"), use.mean("power")
    return JobRow(
        job=use.name,
        gpu_count=use.gpus,
        gpu_hours=round(use.hours, 2),
        idle_gpu_hours=round(use.idle_hours, 2),
        activity_percent=_percent(use.activity),
        tensor_percent=_percent(use.mean("tensor_active")),
        memory_used_gib=None if memory is None else round(memory / 1024, 1),
        power_w=None if power is None else round(power),
    )


def _percent(ratio: float | None) -> int | None:
    return None if ratio is None else round(100 * ratio)


def _activity(fleet: Fleet) -> float | None:
    """The mean activity over all GPU-hours that have one."""
    seen = [(use.activity, use.hours) for use in fleet.uses.values() if use.activity is not None]
    hours = sum(spent for _, spent in seen)
    return sum(value * spent for value, spent in seen) / hours if hours else None


def _measure(fleet: Fleet) -> str:
    used = {next(key for key in ACTIVITY if key in track.shapes) for track in fleet.tracks}
    return ", ".join(MEASURES[key] for key in ACTIVITY if key in used)


def _short(row: FindingRow) -> FindingRow:
    """A finding without its page, and of what to do the first sentence."""
    first = row.change and row.change.split("; ")[0].split(". ")[0].rstrip(".")
    return row.model_copy(update=dict.fromkeys(_FULL_FINDING_ONLY) | {"change": first})


def _unchecked(fleet: Fleet) -> list[NotChecked]:
    """What could not be looked for, by what it needs."""
    grouped = defaultdict[str, list[str]](list)
    for name, needs in not_checked(fleet):
        grouped[needs].append(name)
    return [NotChecked(findings=names, needs=needs) for needs, names in grouped.items()]


def _summary(fleet: Fleet, found: Sequence[Finding[Fleet]]) -> str:
    window = f"{number(round(fleet.window_s / HOUR, 2))} h"
    size = f"{plural(len(fleet.units), 'GPU')} on {plural(len(fleet.hosts), 'host')} over {window}"
    lacking = len({name for name, _ in not_checked(fleet)})
    unchecked = f" ({plural(lacking, 'check')} could not be made)" if lacking else ""
    if not found:
        return f"Looked at {size}: nothing to report{unchecked}."
    idle = sum(use.idle_hours for use in fleet.jobs)
    held = " while a job held them" if fleet.labelled else ""
    hours = f"{number(round(idle, 1))} of {number(round(fleet.total_hours, 1))} GPU-hours idle{held}"
    return f"{size}: {hours}; {plural(len(found), 'finding')}, first: {found[0].seen.message}{unchecked}."


def _warnings(fleet: Fleet) -> Iterator[str]:
    if not fleet.labelled:
        yield f"no series names a job, so idle GPUs may be free: the exporter needs {JOB_LABELS}"
    first = min(min(track.steps) for track in fleet.tracks)
    if first > 0.1 * fleet.steps:
        reach = (fleet.steps - first) * fleet.step_s / HOUR
        yield f"samples reach back {number(round(reach, 2))} h only"


def _assumptions(fleet: Fleet) -> Iterator[str]:
    scraped = f", scraped every {fleet.scrape_s:.3g} s" if fleet.scrape_s else ""
    yield f"means over steps of {number(fleet.step_s)} s{scraped}; a GPU is idle at a step where every measure is below 1 %"
    if fleet.labelled:
        yield "a job is Slurm's number, else namespace and pod without a trailing ordinal"


def _sources(fleet: Fleet, found: Sequence[Finding[Fleet]]) -> list[str]:
    names = {finding.kind.name for finding in found}
    extra = [_CODES] if "xid-events" in names else []
    cited = names & {"gpus-half-idle", "utilisation-without-sm-activity", "tensor-cores-unused"}
    return [*sorted(fleet.sources), *([_THRESHOLDS] if cited else []), *extra]


def _next(found: Sequence[Finding[Fleet]], fleet: Fleet) -> str:
    if found and (after := found[0].kind.sections.get("Next measurement")):
        return after
    if "sm_active" not in fleet.present:
        return (
            "have the exporter serve DCGM_FI_PROF_SM_ACTIVE: that a kernel ran does not say how much of the GPU it used"
        )
    return "a longer window, such as 7d, shows what one hour does not"


def _derivation(fleet: Fleet) -> list[Derivation]:
    inputs = {"step_s": fleet.step_s, "steps": fleet.steps}
    hours = "sum over GPUs and steps with a sample of share x step_s / 3600 / jobs that share the GPU"
    return [
        Derivation(figure="fleet.gpu_hours", formula=hours, inputs=inputs),
        Derivation(figure="fleet.idle_gpu_hours", formula=f"{hours}, where activity < 0.01 in every measure"),
        Derivation(figure="fleet.wasted_gpu_hours", formula="idle_gpu_hours of GPUs that a job held"),
        Derivation(figure="fleet.free_gpu_hours", formula="idle_gpu_hours of GPUs without a job"),
        Derivation(figure="fleet.activity_percent", formula="mean over GPU-hours of avg_over_time(activity[step])"),
        Derivation(
            figure="fleet.power_capped_percent", formula="time with clock event bit 0x4, or growth of the counter"
        ),
    ]


def _omitted(jobs: int, findings: Sequence[Finding[Fleet]]) -> list[str] | None:
    named = ", ".join(finding.kind.name for finding in findings)
    left_out = [f"findings: {len(findings)} more ({named})"] if findings else []
    return left_out + ([f"fleet.jobs: {jobs:,} more"] if jobs > 0 else []) or None
