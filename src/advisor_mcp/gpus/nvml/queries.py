"""The questions asked of every GPU once: which fields of a reading each getter fills."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from advisor_mcp.gpus.decoding import program_name
from advisor_mcp.gpus.devices import ProcessKind, ProcessReading
from advisor_mcp.gpus.nvml.asking import Absent, ask, fields, one_field
from advisor_mcp.gpus.nvml.links import read_links

_COUNTED_AS_USED = "this driver counts reserved memory as used"


@dataclass(frozen=True, slots=True)
class Query:
    """One question to NVML: the fields of `DeviceReading` that it fills, and how their values are read."""

    fields: tuple[str, ...]
    read: Callable[[Any, Any], tuple[Any, ...]]


def fill(nvml: Any, query: Query, handle: Any, values: dict[str, Any], missing: dict[str, str]) -> None:
    """Ask, and put each value into `values` or the reason for its absence into `missing`."""
    found, reason = ask(nvml, lambda: query.read(nvml, handle))
    for field, value in zip(query.fields, found or [Absent(reason)] * len(query.fields), strict=True):
        if isinstance(value, Absent):
            missing[field] = value.reason
        else:
            values[field] = value


def _clock(nvml: Any, handle: Any, kind: int) -> tuple[Any, ...]:
    return nvml.nvmlDeviceGetClockInfo(handle, kind), nvml.nvmlDeviceGetMaxClockInfo(handle, kind)


def _capability(nvml: Any, handle: Any) -> tuple[str]:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return (f"{major}.{minor}",)


def memory(nvml: Any, handle: Any) -> tuple[Any, ...]:
    """Total, used, free and reserved bytes of a GPU or of a MIG instance; `used` leaves out the reserved share."""
    try:
        found = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError as error:
        if error.value not in (nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH):
            raise
        found = nvml.nvmlDeviceGetMemoryInfo(handle)
        return found.total, found.used, found.free, Absent(_COUNTED_AS_USED)
    # NVML's reference says that `used` includes `reserved`, nvidia-smi prints them apart: the sum decides
    counted_twice = found.used + found.free + found.reserved - found.total > found.reserved // 2
    used = found.used - found.reserved if counted_twice else found.used
    return found.total, max(used, 0), found.free, found.reserved


def _utilization(nvml: Any, handle: Any) -> tuple[int, int]:
    found = nvml.nvmlDeviceGetUtilizationRates(handle)
    return found.gpu, found.memory


def _temperature(nvml: Any, handle: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU))
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        return int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))


def _clock_events(nvml: Any, handle: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))


def _performance_state(nvml: Any, handle: Any) -> tuple[Any]:
    state = nvml.nvmlDeviceGetPerformanceState(handle)
    return (Absent("the driver does not know it") if state == nvml.NVML_PSTATE_UNKNOWN else state,)


def _ecc(nvml: Any, handle: Any, counter: int) -> tuple[int, int]:
    corrected = nvml.nvmlDeviceGetTotalEccErrors(handle, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, counter)
    return corrected, nvml.nvmlDeviceGetTotalEccErrors(handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, counter)


def _uncorrected_in(nvml: Any, handle: Any, location: int) -> tuple[int]:
    kind, counter = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
    return (nvml.nvmlDeviceGetMemoryErrorCounter(handle, kind, counter, location),)


def _remapped_rows(nvml: Any, handle: Any) -> tuple[int, int, bool, bool]:
    corrected, uncorrected, pending, failed = nvml.nvmlDeviceGetRemappedRows(handle)
    return corrected, uncorrected, bool(pending), bool(failed)


def _histogram(nvml: Any, handle: Any) -> tuple[tuple[int, ...]]:
    found = nvml.nvmlDeviceGetRowRemapperHistogram(handle)
    return ((found.max, found.high, found.partial, found.low, found.none),)


def _retired_pages(nvml: Any, handle: Any) -> tuple[Any, ...]:
    ids = (nvml.NVML_FI_DEV_RETIRED_SBE, nvml.NVML_FI_DEV_RETIRED_DBE, nvml.NVML_FI_DEV_RETIRED_PENDING)
    single, double, pending = fields(nvml, handle, ids)
    return single, double, pending if isinstance(pending, Absent) else bool(pending)


def _power_limits(nvml: Any, handle: Any) -> tuple[int, int]:
    low, high = nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)
    return low, high


QUERIES = (
    Query(("name",), lambda n, h: (n.nvmlDeviceGetName(h),)),
    Query(("uuid",), lambda n, h: (n.nvmlDeviceGetUUID(h),)),
    Query(("pci_bus_id",), lambda n, h: (_text(n.nvmlDeviceGetPciInfo(h).busId),)),
    Query(("architecture",), lambda n, h: (n.nvmlDeviceGetArchitecture(h),)),
    Query(("compute_capability",), _capability),
    Query(("memory_total_bytes", "memory_used_bytes", "memory_free_bytes", "memory_reserved_bytes"), memory),
    Query(("utilization_percent", "memory_utilization_percent"), _utilization),
    Query(("sm_clock_mhz", "sm_clock_max_mhz"), lambda n, h: _clock(n, h, n.NVML_CLOCK_SM)),
    Query(("memory_clock_mhz", "memory_clock_max_mhz"), lambda n, h: _clock(n, h, n.NVML_CLOCK_MEM)),
    Query(("power_mw",), lambda n, h: (n.nvmlDeviceGetPowerUsage(h),)),
    Query(("power_limit_mw",), lambda n, h: (n.nvmlDeviceGetEnforcedPowerLimit(h),)),
    Query(("power_limit_default_mw",), lambda n, h: (n.nvmlDeviceGetPowerManagementDefaultLimit(h),)),
    Query(("power_limit_min_mw", "power_limit_max_mw"), _power_limits),
    Query(("energy_mj",), lambda n, h: (n.nvmlDeviceGetTotalEnergyConsumption(h),)),
    Query(("fan_percent",), lambda n, h: (n.nvmlDeviceGetFanSpeed(h),)),
    Query(("temperature_c",), lambda n, h: (_temperature(n, h),)),
    Query(("temperature_margin_c",), lambda n, h: (n.nvmlDeviceGetMarginTemperature(h),)),
    Query(
        ("temperature_slowdown_c",),
        lambda n, h: (n.nvmlDeviceGetTemperatureThreshold(h, n.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),),
    ),
    Query(
        ("temperature_shutdown_c",),
        lambda n, h: (n.nvmlDeviceGetTemperatureThreshold(h, n.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN),),
    ),
    Query(("memory_temperature_c",), lambda n, h: (one_field(n, h, n.NVML_FI_DEV_MEMORY_TEMP),)),
    Query(("performance_state",), _performance_state),
    Query(("clock_events",), lambda n, h: (_clock_events(n, h),)),
    Query(("pcie_gen",), lambda n, h: (n.nvmlDeviceGetCurrPcieLinkGeneration(h),)),
    Query(("pcie_gen_max",), lambda n, h: (n.nvmlDeviceGetMaxPcieLinkGeneration(h),)),
    Query(("pcie_width",), lambda n, h: (n.nvmlDeviceGetCurrPcieLinkWidth(h),)),
    Query(("pcie_width_max",), lambda n, h: (n.nvmlDeviceGetMaxPcieLinkWidth(h),)),
    Query(("pcie_replay_count",), lambda n, h: (n.nvmlDeviceGetPcieReplayCounter(h),)),
    Query(("links",), lambda n, h: (read_links(n, h),)),
    Query(("ecc_enabled",), lambda n, h: (n.nvmlDeviceGetEccMode(h)[0] == n.NVML_FEATURE_ENABLED,)),
    Query(("ecc_volatile_corrected", "ecc_volatile_uncorrected"), lambda n, h: _ecc(n, h, n.NVML_VOLATILE_ECC)),
    Query(("ecc_aggregate_corrected", "ecc_aggregate_uncorrected"), lambda n, h: _ecc(n, h, n.NVML_AGGREGATE_ECC)),
    Query(("ecc_dram_uncorrected",), lambda n, h: _uncorrected_in(n, h, n.NVML_MEMORY_LOCATION_DRAM)),
    Query(("ecc_sram_uncorrected",), lambda n, h: _uncorrected_in(n, h, n.NVML_MEMORY_LOCATION_SRAM)),
    Query(
        ("remapped_rows_corrected", "remapped_rows_uncorrected", "row_remap_pending", "row_remap_failed"),
        _remapped_rows,
    ),
    Query(("row_remap_histogram",), _histogram),
    Query(("retired_pages_corrected", "retired_pages_uncorrected", "retired_pages_pending"), _retired_pages),
    Query(("recovery_action",), lambda n, h: (one_field(n, h, n.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION),)),
    Query(("mig_enabled",), lambda n, h: (n.nvmlDeviceGetMigMode(h)[0] == n.NVML_DEVICE_MIG_ENABLE,)),
    Query(("persistence_enabled",), lambda n, h: (n.nvmlDeviceGetPersistenceMode(h) == n.NVML_FEATURE_ENABLED,)),
    Query(("processes",), lambda n, h: (_processes(n, h),)),
)


def _processes(nvml: Any, handle: Any) -> tuple[ProcessReading, ...]:
    """Compute, MPS and graphics processes; one that an instance lists twice is kept once, with its larger memory."""
    found = dict[tuple[int, int], ProcessReading]()
    shares = _shares(nvml, handle)
    for kind, listed in _process_lists(nvml, handle):
        for process in listed:
            key = (process.pid, process.gpuInstanceId)
            if key not in found or (process.usedGpuMemory or 0) > (found[key].memory_bytes or 0):
                found[key] = ProcessReading(
                    pid=process.pid,
                    name=_process_name(nvml, process.pid),
                    kind=found[key].kind if key in found else kind,
                    memory_bytes=process.usedGpuMemory,
                    sm_percent=shares.get(process.pid),
                )
    return tuple(sorted(found.values(), key=lambda process: process.pid))


def _process_lists(nvml: Any, handle: Any) -> Iterator[tuple[ProcessKind, list[Any]]]:
    # who computes is the point of the list: only that call may fail the query as a whole
    yield "compute", nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    yield "mps", ask(nvml, lambda: nvml.nvmlDeviceGetMPSComputeRunningProcesses(handle))[0] or []
    yield "graphics", ask(nvml, lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses(handle))[0] or []


def _shares(nvml: Any, handle: Any) -> dict[int, int]:
    """The latest share of SM time by process; empty where the driver has none, as on a GPU in MIG mode."""
    samples, _ = ask(nvml, lambda: nvml.nvmlDeviceGetProcessUtilization(handle, 0))
    return {sample.pid: sample.smUtil for sample in sorted(samples or [], key=lambda sample: sample.timeStamp)}


def _process_name(nvml: Any, pid: int) -> str | None:
    name, _ = ask(nvml, lambda: nvml.nvmlSystemGetProcessName(pid))
    return program_name(_text(name)) if name else None


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
