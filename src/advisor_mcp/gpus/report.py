"""The answer of `inspect_gpus`: what the GPUs are and do, what is wrong with them, and what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from advisor_mcp.errors import UsageError
from advisor_mcp.findings import Finding, FindingRow, finding_rows
from advisor_mcp.gpus import decoding, filling, sources
from advisor_mcp.gpus.devices import DeviceReading, DeviceSource, DriverReading, Pause, Vendor
from advisor_mcp.gpus.filling import Lookup
from advisor_mcp.gpus.health import GPUS, Machine, gravest_first, is_busy
from advisor_mcp.gpus.host import Host, describe_host
from advisor_mcp.gpus.rows import HostRow, InspectedGpus
from advisor_mcp.results import Detail, gib, number

BRIEF_ROWS = 8
BRIEF_PROCESSES = 3
BRIEF_BYTES, FULL_BYTES = 2_400, 16_000
_EXPLAINING = ("where", "threshold", "next_measurement", "formula", "could_also_be", "references")


@dataclass(frozen=True, slots=True)
class _Cut:
    """How much of an answer is told: rows of GPUs and findings, findings with or without what explains them."""

    gpus: int
    findings: int
    explained: bool = True
    derived: bool = True


@dataclass(frozen=True, slots=True)
class _Inspected:
    """All that an answer is made of, before it is cut."""

    machine: Machine
    gpu_count: int
    findings: tuple[Finding[Machine], ...]
    lookup: Lookup
    full: bool


def inspect(
    source: DeviceSource,
    lookup: Lookup,
    indices: Sequence[int] | None = None,
    detail: Detail = "brief",
    limit: int | None = None,
    pause: Pause | None = None,
    host: Callable[[], Host] = describe_host,
) -> InspectedGpus:
    """What a source shows, as an answer; `indices` keeps those GPUs only, `pause` lies between two samples.

    An answer leaves out rows, those of GPUs without a finding first, and then explanations, until both channels fit into
    `limit` bytes. No driver and no GPU are answers too. Raises `UsageError` for an index that the source does not have.
    """
    driver, readings = source.driver(), source.devices(pause)
    if not readings:
        return _nothing(driver, host())
    machine = Machine(tuple(choose(readings, indices)), driver)
    found = _Inspected(machine, len(readings), tuple(GPUS.find(machine)), lookup, full=detail == "full")
    allowed = limit or (FULL_BYTES if found.full else BRIEF_BYTES)
    cuts = _full_cuts(found) if found.full else _brief_cuts(found)
    answer = _answer(found, next(cuts))
    for cut in cuts:
        if _size(answer) <= allowed:
            break
        answer = _answer(found, cut)
    return answer


def _size(answer: InspectedGpus) -> int:
    return max(len(answer.json_text().encode()), len(answer.text().encode()))


def _brief_cuts(found: _Inspected) -> Iterator[_Cut]:
    """From the most to the least that a brief answer tells: rows go first, explanations of findings after them."""
    findings = len(found.findings)
    rows = (BRIEF_ROWS, BRIEF_ROWS // 2, 2, 1)
    yield from (_Cut(count, findings) for count in rows)
    yield from (_Cut(count, findings, explained=False) for count in rows)
    yield from (_Cut(1, count, explained=False) for count in (8, 5, 3, 1) if count < findings)


def _full_cuts(found: _Inspected) -> Iterator[_Cut]:
    """From the most to the least that a full answer tells: the calls behind the figures go first, then rows."""
    gpus, findings = len(found.machine.readings), len(found.findings)
    yield _Cut(gpus, findings)
    rows = [count for count in (64, 32, 16, 12, 8, 6, 4, 2, 1) if count < gpus]
    yield from (_Cut(count, findings, derived=False) for count in (gpus, *rows))
    yield from (_Cut(1, count, explained=False, derived=False) for count in (findings, 16, 8, 4) if count <= findings)


def _answer(found: _Inspected, cut: _Cut) -> InspectedGpus:
    readings, driver, full = found.machine.readings, found.machine.driver, found.full
    told = _most_telling(readings, gravest_first(found.findings), cut.gpus)
    processes = filling.process_rows(told if full else readings)
    listed = processes if full or len(processes) <= BRIEF_PROCESSES else []
    rows = [filling.gpu_row(reading, full) for reading in told]
    common, rows = filling.common(rows) if full else (None, rows)
    return InspectedGpus(
        summary=_summary(readings, found.findings, found.lookup),
        gpu_count=found.gpu_count,
        driver_version=driver.driver_version,
        cuda_version=_cuda(driver),
        amdgpu_version=driver.amdgpu_version,
        confidential_compute=driver.confidential_compute if full or driver.confidential_compute else None,
        sample_s=next((reading.sample_s for reading in readings if reading.sample_s is not None), None),
        models=filling.models(readings, found.lookup, full),
        common=common,
        gpus=rows,
        findings=_findings(found, cut),
        processes=filling.kept_processes(listed, full) or None,
        mig_instances=list(filling.mig_rows(readings)) or None,
        links=(list(filling.link_rows(told)) or None) if full else None,
        xids=(list(filling.xid_rows(readings)) or None) if full else None,
        not_available=filling.not_available(readings, full) or None,
        assumptions=_assumptions(found.machine),
        sources=sources.sources(readings),
        next_measurement=_next_measurement(readings),
        derivation=sources.derivation(readings) if full and cut.derived else None,
        omitted=_omitted(found, cut, len(told), len(processes) - len(listed)),
    )


def _findings(found: _Inspected, cut: _Cut) -> list[FindingRow]:
    rows = finding_rows(found.findings[: cut.findings], found.full)
    return rows if cut.explained else [_bare(row) for row in rows]


def _bare(row: FindingRow) -> FindingRow:
    """A finding without what explains it; its message names the GPUs, and a note asks for no change."""
    dropped = (*_EXPLAINING, "change") if row.severity == "info" else _EXPLAINING
    return row.model_copy(update=dict.fromkeys(dropped))


def _cuda(driver: DriverReading) -> str | None:
    return decoding.cuda_version(driver.cuda_version) if driver.cuda_version else None


def _nothing(driver: DriverReading, host: Host) -> InspectedGpus:
    reason = driver.absent or f"the NVIDIA driver {driver.driver_version or 'here'} shows this process none"
    elsewhere = "run this on the machine that has the GPUs, in a container started with access to them"
    return InspectedGpus(
        summary=f"There is no GPU to read: {reason}. {_machine(host)}.",
        gpu_count=0,
        driver_version=driver.driver_version,
        cuda_version=_cuda(driver),
        host=HostRow(
            kind=host.kind,
            chip=host.chip,
            memory_gib=None if host.memory_bytes is None else gib(host.memory_bytes),
            gpus_on_pci=list(host.pci_gpus) or None,
        ),
        assumptions=_assumptions(Machine((), driver)),
        sources=sources.sources(()),
        next_measurement=host.tool or elsewhere,
    )


def _machine(host: Host) -> str:
    memory = "" if host.memory_bytes is None else f" with {number(gib(host.memory_bytes))} GiB of memory"
    if host.kind == "apple":
        return f"This is Apple silicon: {host.chip}{memory}, which processor and GPU share"
    return f"The processor is {host.chip}{memory}"


def choose(readings: Sequence[DeviceReading], indices: Sequence[int] | None) -> list[DeviceReading]:
    """The GPUs with these indices, or all; raises `UsageError` for an index that is not here."""
    known = {reading.index: reading for reading in readings}
    if unknown := [index for index in indices or () if index not in known]:
        wrong, right = decoding.index_ranges(unknown), decoding.index_ranges(known)
        raise UsageError(
            f"there is no GPU {wrong} here; the indices are {right}: name some of these or leave indices out"
        )
    return [known[index] for index in sorted(set(indices))] if indices else list(readings)


def _most_telling(readings: Sequence[DeviceReading], grave: Sequence[int], rows: int) -> list[DeviceReading]:
    """At most so many readings, those with the gravest findings before the others, in order of index."""
    rank = {index: place for place, index in enumerate(grave)}
    ranked = sorted(readings, key=lambda reading: (rank.get(reading.index, len(rank)), reading.index))
    return sorted(ranked[:rows], key=lambda reading: reading.index)


def _summary(readings: Sequence[DeviceReading], findings: Sequence[Finding[Machine]], lookup: Lookup) -> str:
    used = sum(reading.memory_used_bytes or 0 for reading in readings)
    total = sum(reading.memory_total_bytes or 0 for reading in readings)
    memory = f"{number(gib(used))} of {number(gib(total))} GiB in use"
    return f"{_kinds(readings, lookup)}: {_activity(readings)}, {memory}; {_verdict(findings)}."


def _verdict(findings: Sequence[Finding[Machine]]) -> str:
    notes = sum(found.severity == "info" for found in findings)
    wrong = len(findings) - notes
    told = f"{wrong} finding{'s'[: wrong != 1]}" if wrong else "nothing wrong in what they report"
    return told + (f", {notes} note{'s'[: notes != 1]}" if notes else "")


def _kinds(readings: Sequence[DeviceReading], lookup: Lookup) -> str:
    names = [reading.name or "unreadable GPU" for reading in readings]
    kinds = list(dict.fromkeys(names))
    told = [f"{names.count(kind)} x {kind}" + (f" ({found})" if (found := lookup(kind)) else "") for kind in kinds[:3]]
    return ", ".join(told) + (f" and {len(kinds) - 3} more kinds" if len(kinds) > 3 else "")


def _activity(readings: Sequence[DeviceReading]) -> str:
    rates = [reading.utilization_percent for reading in readings if reading.utilization_percent is not None]
    if not rates:
        return "utilisation not reported"
    busy = [rate for rate in rates if rate > 0]
    if not busy:
        return "no kernel running" if len(rates) == len(readings) else f"no kernel running on {len(rates)}"
    running = f"{len(busy)} of {len(readings)} running kernels {_span(busy)} % of the time"
    sms = [r.activity.sm_percent for r in readings if r.activity and r.activity.sm_percent is not None]
    return running + (f" with {_span([round(share) for share in sms])} % of the SMs busy" if sms else "")


def _span(values: Sequence[int]) -> str:
    return f"{min(values)}" if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _assumptions(machine: Machine) -> list[str]:
    if machine.driver.recorded is not None:
        return [f"read from a recording, not from this machine ({machine.driver.recorded})"]
    said = ["one reading at the time of the call"]
    vendors = [reading.vendor for reading in machine.readings]
    if "nvidia" in vendors and "amd" in vendors:
        said.append(f"AMD GPUs are numbered after NVIDIA's: amd-smi's GPU 0 is {vendors.index('amd')} here")
    return said


def _next_measurement(readings: Sequence[DeviceReading]) -> str | None:
    busy = [reading for reading in readings if is_busy(reading)]
    if not busy:
        return "read again under load: clocks, power, PCIe generation and throttling mean little when idle"
    if any(reading.activity for reading in busy):
        return "a trace says which kernels keep the SMs busy, or idle: diagnose_trace"
    by = [_ACTIVITY_BY[vendor] for vendor in _ACTIVITY_BY if any(reading.vendor == vendor for reading in busy)]
    return f"utilisation only says that a kernel ran: measure {' and '.join(by)}"


_ACTIVITY_BY: Mapping[Vendor, str] = {
    "nvidia": "SM activity (DCGM_FI_PROF_SM_ACTIVE)",
    "amd": "how busy the compute units are (rocprofiler-compute)",
}


def _omitted(found: _Inspected, cut: _Cut, told: int, processes: int) -> list[str] | None:
    gpus, findings = len(found.machine.readings) - told, len(found.findings) - cut.findings
    more = "ask for them with indices" if found.full else "with detail=full"
    left_out = [f"gpus: {gpus} more, {more}"] if gpus > 0 else []
    left_out += [f"findings: {findings} more, {more}"] if findings > 0 else []
    left_out += [f"processes: {processes} more, with detail=full"] if processes else []
    left_out += ["derivation: ask for one GPU with indices"] if found.full and not cut.derived else []
    return left_out or None
