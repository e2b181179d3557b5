"""The answer of `inspect_gpus`: readings in the units people use, what is wrong, and what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, TypeVar

from pydantic import Field

from advisor_mcp.errors import UsageError
from advisor_mcp.gpus import decoding
from advisor_mcp.gpus.devices import DeviceReading, DeviceSource, DriverReading
from advisor_mcp.gpus.faults import BUSY_PERCENT, Fault, find_faults
from advisor_mcp.gpus.fleet.rows import FleetRow
from advisor_mcp.results import Answer, Derivation, Detail, Row, gib, number

SOURCE = "doc:nvml-api"
BRIEF_ROWS = 8
BRIEF_PROCESSES = 3

AnyRow = TypeVar("AnyRow", bound=Row)
Lookup = Callable[[str], str | None]
"""From a GPU's name, as the driver gives it, to its id in the knowledge base."""


class GpuModel(Row):
    """What GPUs of one kind and set-up have in common."""

    gpus: str = Field(description="Their indices, e.g. 0-3, 6")
    name: str | None = Field(default=None, description="As the driver names it")
    gpu_id: str | None = Field(default=None, description="Its id, as other tools take it; null when it has none")
    architecture: str | None = None
    compute_capability: str | None = None
    memory_total_gib: float | None = None
    memory_total_bytes: int | None = None
    power_limit_w: int | None = Field(default=None, description="The limit in force, which may be below the board's")
    sm_clock_max_mhz: int | None = None
    memory_clock_max_mhz: int | None = None
    pcie_gen_max: int | None = Field(default=None, description="Newest PCIe generation of GPU and system together")
    pcie_width_max: int | None = Field(default=None, description="Most PCIe lanes")
    ecc_enabled: bool | None = None
    mig_enabled: bool | None = Field(default=None, description="Partitioned into MIG instances")
    persistence_enabled: bool | None = Field(default=None, description="The driver stays loaded without a client")


class GpuRow(Row):
    """One GPU at the moment of the call."""

    index: int = Field(description="NVML's, by PCI bus; CUDA's may differ without CUDA_DEVICE_ORDER=PCI_BUS_ID")
    uuid: str | None = Field(default=None, description="First group of the UUID; CUDA_VISIBLE_DEVICES accepts it")
    pci_bus_id: str | None = None
    utilization_percent: int | None = Field(
        default=None,
        description="Percent of the sample period (1/6 to 1 s) in which a kernel ran; one busy thread gives 100",
    )
    memory_utilization_percent: int | None = Field(
        default=None,
        description="Percent of the sample period in which memory was read or written; not bandwidth, not bytes",
    )
    memory_used_gib: float | None = Field(default=None, description="In use, the driver's reserved share left out")
    memory_used_bytes: int | None = None
    memory_free_gib: float | None = None
    memory_free_bytes: int | None = None
    memory_reserved_gib: float | None = Field(default=None, description="Kept by driver and firmware")
    memory_reserved_bytes: int | None = None
    power_w: int | None = Field(
        default=None, description="Board power: a 1 s average from Ampere on (A100 and older: instantaneous)"
    )
    temperature_c: int | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    performance_state: str | None = Field(default=None, description="P0 is fastest, P15 slowest")
    throttled_by: list[str] | None = Field(
        default=None,
        description="The clock events that cost speed by a setting, by heat or, hw_slowdown, hw_thermal_slowdown and "
        "hw_power_brake, by a fault",
    )
    clock_events: list[str] | None = Field(
        default=None,
        description="Why clocks stand where they do: idle is no throttling, sw_power_cap at full load is normal",
    )
    pcie_gen: int | None = Field(default=None, description="PCIe generation now; drops when the GPU is idle")
    pcie_width: int | None = Field(default=None, description="PCIe lanes now")
    ecc_volatile_corrected: int | None = Field(default=None, description="Since the driver was loaded")
    ecc_volatile_uncorrected: int | None = Field(default=None, description="Since the driver was loaded")
    ecc_aggregate_corrected: int | None = Field(default=None, description="Over the board's life")
    ecc_aggregate_uncorrected: int | None = Field(default=None, description="Over the board's life")
    remapped_rows_corrected: int | None = None
    remapped_rows_uncorrected: int | None = None
    row_remap_pending: bool | None = None
    row_remap_failed: bool | None = None
    recovery_action: str | None = Field(default=None, description="What the driver asks for, if anything")


class ProcessRow(Row):
    """A process that holds a context on a GPU."""

    gpu: int
    pid: int = Field(description="As the driver sees it; a container may number it otherwise")
    name: str | None = None
    kind: str
    memory_gib: float | None = None
    memory_bytes: int | None = None


class MigRow(Row):
    """One MIG instance."""

    gpu: int
    index: int
    name: str | None = None
    memory_total_gib: float | None = None
    memory_used_gib: float | None = None


class NotAvailable(Row):
    """Figures that are null, and why."""

    gpus: str
    reason: str
    fields: list[str]


class InspectedGpus(Answer):
    """The GPUs that a source shows, at one moment; with `fleet` those that a Prometheus saw over a window."""

    gpu_count: int = Field(description="GPUs that the driver shows this process, or that the fleet has")
    fleet: FleetRow | None = None
    driver_version: str | None = None
    cuda_version: str | None = Field(default=None, description="Newest CUDA that the driver runs")
    models: list[GpuModel] | None = None
    gpus: list[GpuRow] | None = None
    processes: list[ProcessRow] | None = None
    mig_instances: list[MigRow] | None = None
    not_available: list[NotAvailable] | None = None


_BRIEF_GPU = frozenset(
    {
        "index",
        "utilization_percent",
        "memory_used_gib",
        "memory_free_gib",
        "power_w",
        "temperature_c",
        "sm_clock_mhz",
        "throttled_by",
    }
)
_FULL_MODEL_ONLY = frozenset({"memory_clock_max_mhz", "persistence_enabled", "pcie_gen_max", "pcie_width_max"})
_FULL_PROCESS_ONLY = frozenset({"memory_bytes"})
_FIGURES = {
    "power_mw": ("power_w",),
    "power_limit_mw": ("power_limit_w",),
    "clock_events": ("throttled_by", "clock_events"),
    **{f"memory_{part}_bytes": (f"memory_{part}_gib", f"memory_{part}_bytes") for part in ("used", "free", "reserved")},
}
"""The figures of a reading's field, where they are named otherwise than the field."""

READ_BY = (
    ("driver_version", "nvmlSystemGetDriverVersion"),
    ("cuda_version", "nvmlSystemGetCudaDriverVersion_v2"),
    ("name", "nvmlDeviceGetName"),
    ("architecture", "nvmlDeviceGetArchitecture"),
    ("compute_capability", "nvmlDeviceGetCudaComputeCapability"),
    ("uuid", "nvmlDeviceGetUUID"),
    ("pci_bus_id", "nvmlDeviceGetPciInfo"),
    ("memory_*", "nvmlDeviceGetMemoryInfo"),
    ("utilization_percent, memory_utilization_percent", "nvmlDeviceGetUtilizationRates"),
    ("sm_clock_mhz, memory_clock_mhz", "nvmlDeviceGetClockInfo"),
    ("sm_clock_max_mhz, memory_clock_max_mhz", "nvmlDeviceGetMaxClockInfo"),
    ("power_w", "nvmlDeviceGetPowerUsage"),
    ("power_limit_w", "nvmlDeviceGetEnforcedPowerLimit"),
    ("temperature_c", "nvmlDeviceGetTemperatureV"),
    ("performance_state", "nvmlDeviceGetPerformanceState"),
    ("clock_events, throttled_by", "nvmlDeviceGetCurrentClocksEventReasons"),
    ("pcie_gen", "nvmlDeviceGetCurrPcieLinkGeneration"),
    ("pcie_gen_max", "nvmlDeviceGetMaxPcieLinkGeneration"),
    ("pcie_width", "nvmlDeviceGetCurrPcieLinkWidth"),
    ("pcie_width_max", "nvmlDeviceGetMaxPcieLinkWidth"),
    ("ecc_enabled", "nvmlDeviceGetEccMode"),
    ("ecc_volatile_*, ecc_aggregate_*", "nvmlDeviceGetTotalEccErrors"),
    ("remapped_rows_*, row_remap_*", "nvmlDeviceGetRemappedRows"),
    ("recovery_action", "nvmlDeviceGetFieldValues"),
    ("mig_enabled", "nvmlDeviceGetMigMode"),
    ("persistence_enabled", "nvmlDeviceGetPersistenceMode"),
    ("processes", "nvmlDeviceGetComputeRunningProcesses"),
    ("mig_instances", "nvmlDeviceGetMigDeviceHandleByIndex"),
)
"""The NVML call behind each figure."""


def inspect(
    source: DeviceSource,
    lookup: Lookup,
    indices: Sequence[int] | None = None,
    detail: Detail = "brief",
    brief_bytes: int = 2_400,
) -> InspectedGpus:
    """What a source shows, as an answer; `indices` keeps those GPUs only.

    A brief answer leaves out rows, those of GPUs without a fault first, until both channels fit in `brief_bytes`.
    No driver and no GPU are answers too. Raises `UsageError` for an index that the source does not have.
    """
    driver, readings = source.driver(), source.devices()
    if not readings:
        return _nothing(driver)
    chosen = _choose(readings, indices)
    faults = find_faults(chosen)
    if detail == "full":
        return _answer(driver, len(readings), chosen, faults, lookup, chosen, full=True)
    rows = BRIEF_ROWS
    while True:
        told = _most_telling(chosen, faults, rows)
        answer = _answer(driver, len(readings), chosen, faults, lookup, told, full=False)
        if rows == 1 or max(len(answer.json_text().encode()), len(answer.text().encode())) <= brief_bytes:
            return answer
        rows //= 2


def _answer(
    driver: DriverReading,
    gpu_count: int,
    chosen: Sequence[DeviceReading],
    faults: Sequence[Fault],
    lookup: Lookup,
    told: Sequence[DeviceReading],
    full: bool,
) -> InspectedGpus:
    """The answer about the chosen GPUs, with a row for those that are told."""
    processes = sorted(_processes(chosen), key=lambda row: -(row.memory_bytes or 0))
    listed = processes if full or len(processes) <= BRIEF_PROCESSES else []
    return InspectedGpus(
        summary=_summary(chosen, faults, lookup),
        gpu_count=gpu_count,
        driver_version=driver.driver_version,
        cuda_version=decoding.cuda_version(driver.cuda_version) if driver.cuda_version else None,
        models=_models(chosen, lookup, full),
        gpus=[_gpu(reading, full) for reading in told],
        processes=[_kept(row, full, _FULL_PROCESS_ONLY) for row in listed] or None,
        mig_instances=list(_mig_rows(chosen)) or None,
        not_available=_not_available(chosen, full) or None,
        warnings=[fault.sentence for fault in faults],
        assumptions=_assumptions(driver),
        sources=[SOURCE],
        next_measurement=_next_measurement(chosen),
        derivation=_derivation() if full else None,
        omitted=_omitted(len(chosen) - len(told), len(processes) - len(listed)),
    )


def _nothing(driver: DriverReading) -> InspectedGpus:
    reason = driver.absent or f"the NVIDIA driver {driver.driver_version or 'here'} shows this process none"
    return InspectedGpus(
        summary=f"There is no GPU to read: {reason}.",
        gpu_count=0,
        driver_version=driver.driver_version,
        cuda_version=decoding.cuda_version(driver.cuda_version) if driver.cuda_version else None,
        assumptions=_assumptions(driver),
        sources=[SOURCE],
        next_measurement="run this on the machine that has the GPUs, in a container started with access to them",
    )


def _choose(readings: Sequence[DeviceReading], indices: Sequence[int] | None) -> list[DeviceReading]:
    known = {reading.index: reading for reading in readings}
    if unknown := [index for index in indices or () if index not in known]:
        wrong, right = decoding.index_ranges(unknown), decoding.index_ranges(known)
        raise UsageError(
            f"there is no GPU {wrong} here; the indices are {right}: name some of these or leave indices out"
        )
    return [known[index] for index in sorted(set(indices))] if indices else list(readings)


def _most_telling(readings: Sequence[DeviceReading], faults: Sequence[Fault], rows: int) -> list[DeviceReading]:
    """At most so many readings, those with a fault before the others, in order of index."""
    faulty = set(chain.from_iterable(fault.indices for fault in faults))
    ranked = sorted(readings, key=lambda reading: (reading.index not in faulty, reading.index))
    return sorted(ranked[:rows], key=lambda reading: reading.index)


def _models(readings: Sequence[DeviceReading], lookup: Lookup, full: bool) -> list[GpuModel]:
    grouped = dict[tuple[Any, ...], tuple[GpuModel, list[int]]]()
    for reading in readings:
        if reading.name is None and reading.failure:
            continue
        model = _kept(_model(reading, lookup), full, _FULL_MODEL_ONLY)
        grouped.setdefault(tuple(model.model_dump().values()), (model, []))[1].append(reading.index)
    return [model.model_copy(update={"gpus": decoding.index_ranges(found)}) for model, found in grouped.values()]


def _model(reading: DeviceReading, lookup: Lookup) -> GpuModel:
    total, limit = reading.memory_total_bytes, reading.power_limit_mw
    return GpuModel(
        gpus="",
        name=reading.name,
        gpu_id=lookup(reading.name) if reading.name else None,
        architecture=None if reading.architecture is None else decoding.architecture_name(reading.architecture),
        compute_capability=reading.compute_capability,
        memory_total_gib=None if total is None else gib(total),
        memory_total_bytes=total,
        power_limit_w=None if limit is None else round(limit / 1000),
        sm_clock_max_mhz=reading.sm_clock_max_mhz,
        memory_clock_max_mhz=reading.memory_clock_max_mhz,
        pcie_gen_max=reading.pcie_gen_max,
        pcie_width_max=reading.pcie_width_max,
        ecc_enabled=reading.ecc_enabled,
        mig_enabled=reading.mig_enabled,
        persistence_enabled=reading.persistence_enabled,
    )


_AS_READ = (
    "index",
    "pci_bus_id",
    "utilization_percent",
    "memory_utilization_percent",
    "memory_used_bytes",
    "memory_free_bytes",
    "memory_reserved_bytes",
    "temperature_c",
    "sm_clock_mhz",
    "memory_clock_mhz",
    "pcie_gen",
    "pcie_width",
    "ecc_volatile_corrected",
    "ecc_volatile_uncorrected",
    "ecc_aggregate_corrected",
    "ecc_aggregate_uncorrected",
    "remapped_rows_corrected",
    "remapped_rows_uncorrected",
    "row_remap_pending",
    "row_remap_failed",
)


def _gpu(reading: DeviceReading, full: bool) -> GpuRow:
    values: dict[str, Any] = {name: getattr(reading, name) for name in _AS_READ}
    for share in ("used", "free", "reserved"):
        count = values[f"memory_{share}_bytes"]
        values[f"memory_{share}_gib"] = None if count is None else gib(count)
    events, state = reading.clock_events, reading.performance_state
    values["uuid"] = decoding.short_uuid(reading.uuid) if reading.uuid else None
    values["power_w"] = None if reading.power_mw is None else round(reading.power_mw / 1000)
    values["performance_state"] = None if state is None else f"P{state}"
    found = None if events is None else decoding.clock_events(events)
    values["clock_events"] = None if found is None else [event.id for event in found]
    values["throttled_by"] = None if found is None else [event.id for event in found if event.severity != "normal"]
    values["recovery_action"] = decoding.recovery_action(reading.recovery_action or 0)
    return GpuRow(**(values if full else {name: values[name] for name in _BRIEF_GPU}))


def _processes(readings: Iterable[DeviceReading]) -> list[ProcessRow]:
    return [
        ProcessRow(
            gpu=reading.index,
            pid=process.pid,
            name=process.name,
            kind=process.kind,
            memory_gib=None if process.memory_bytes is None else gib(process.memory_bytes),
            memory_bytes=process.memory_bytes,
        )
        for reading in readings
        for process in reading.processes or ()
    ]


def _mig_rows(readings: Iterable[DeviceReading]) -> Iterable[MigRow]:
    for reading in readings:
        for instance in reading.mig_instances or ():
            total, used = instance.memory_total_bytes, instance.memory_used_bytes
            yield MigRow(
                gpu=reading.index,
                index=instance.index,
                name=instance.name,
                memory_total_gib=None if total is None else gib(total),
                memory_used_gib=None if used is None else gib(used),
            )


def _kept(row: AnyRow, full: bool, full_only: frozenset[str]) -> AnyRow:
    return row if full else row.model_copy(update=dict.fromkeys(full_only))


def _not_available(readings: Sequence[DeviceReading], full: bool) -> list[NotAvailable]:
    """The null figures of the rows shown, by reason; GPUs that lack the same figures for one reason share a row."""
    shown = GpuModel.model_fields.keys() | GpuRow.model_fields.keys() | {"processes", "mig_instances"}
    if not full:
        shown = (GpuModel.model_fields.keys() - _FULL_MODEL_ONLY) | _BRIEF_GPU | {"processes", "mig_instances"}
    by_gpu = dict[tuple[int, str], list[str]]()
    for reading in readings:
        for field, reason in reading.missing.items():
            for name in _FIGURES.get(field, (field,)):
                if name in shown:
                    by_gpu.setdefault((reading.index, reason), []).append(name)
    grouped = dict[tuple[str, tuple[str, ...]], list[int]]()
    for (index, reason), names in by_gpu.items():
        grouped.setdefault((reason, tuple(names)), []).append(index)
    return [
        NotAvailable(gpus=decoding.index_ranges(found), reason=reason, fields=list(names))
        for (reason, names), found in grouped.items()
    ]


def _summary(readings: Sequence[DeviceReading], faults: Sequence[Fault], lookup: Lookup) -> str:
    used = sum(reading.memory_used_bytes or 0 for reading in readings)
    total = sum(reading.memory_total_bytes or 0 for reading in readings)
    found = f"{len(faults)} warning{'s'[: len(faults) != 1]}" if faults else "nothing wrong in what they report"
    memory = f"{number(gib(used))} of {number(gib(total))} GiB in use"
    return f"{_kinds(readings, lookup)}: {_activity(readings)}, {memory}; {found}."


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
    span = f"{min(busy)}" if min(busy) == max(busy) else f"{min(busy)} to {max(busy)}"
    return f"{len(busy)} of {len(readings)} running kernels {span} % of the time"


def _assumptions(driver: DriverReading) -> list[str]:
    if driver.recorded is not None:
        return [f"read from a recording, not from this machine ({driver.recorded})"]
    return ["one reading at the time of the call"]


def _next_measurement(readings: Sequence[DeviceReading]) -> str | None:
    if any((reading.utilization_percent or 0) >= BUSY_PERCENT for reading in readings):
        return "utilisation only says that a kernel ran: measure SM activity (DCGM_FI_PROF_SM_ACTIVE)"
    return "read again under load: clocks, power, PCIe generation and throttling mean little when idle"


def _derivation() -> list[Derivation]:
    return [Derivation(figure=figure, formula=call, source=SOURCE) for figure, call in READ_BY]


def _omitted(rows: int, processes: int) -> list[str] | None:
    left_out = [f"gpus: {rows} more, with detail=full"] if rows else []
    return left_out + ([f"processes: {processes} more, with detail=full"] if processes else []) or None
