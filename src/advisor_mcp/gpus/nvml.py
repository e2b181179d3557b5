"""GPUs of this machine through NVML. Only getters are called: nothing here changes a device.

Functions, structures and constants are those of nvidia-ml-py 13.615 (`import pynvml`), which is imported on first use
and loads without a driver.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from advisor_mcp.gpus.decoding import program_name
from advisor_mcp.gpus.devices import (
    DeviceReading,
    DeviceSource,
    DriverReading,
    MigInstanceReading,
    NoDevices,
    ProcessKind,
    ProcessReading,
)

NOT_SUPPORTED = "not supported by this GPU as it is set up"
IN_MIG_MODE = "NVML gives no utilisation for a GPU in MIG mode"
_COUNTED_AS_USED = "this driver counts reserved memory as used"


class _GpuFailed(Exception):
    """The GPU answers nothing any more; asking on would only repeat that."""


@dataclass(frozen=True, slots=True)
class _Absent:
    """In the place of a value: why there is none."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Query:
    """One question to NVML: the fields of `DeviceReading` that it fills, and how their values are read."""

    fields: tuple[str, ...]
    read: Callable[[Any, Any], tuple[Any, ...]]


def _clock(nvml: Any, handle: Any, kind: int) -> tuple[Any, ...]:
    return nvml.nvmlDeviceGetClockInfo(handle, kind), nvml.nvmlDeviceGetMaxClockInfo(handle, kind)


def _capability(nvml: Any, handle: Any) -> tuple[str]:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return (f"{major}.{minor}",)


def _memory(nvml: Any, handle: Any) -> tuple[Any, ...]:
    try:
        found = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError as error:
        if error.value not in (nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH):
            raise
        found = nvml.nvmlDeviceGetMemoryInfo(handle)
        return found.total, found.used, found.free, _Absent(_COUNTED_AS_USED)
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
    return (_Absent("the driver does not know it") if state == nvml.NVML_PSTATE_UNKNOWN else state,)


def _ecc(nvml: Any, handle: Any, counter: int) -> tuple[int, int]:
    corrected = nvml.nvmlDeviceGetTotalEccErrors(handle, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, counter)
    return corrected, nvml.nvmlDeviceGetTotalEccErrors(handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, counter)


def _remapped_rows(nvml: Any, handle: Any) -> tuple[int, int, bool, bool]:
    corrected, uncorrected, pending, failed = nvml.nvmlDeviceGetRemappedRows(handle)
    return corrected, uncorrected, bool(pending), bool(failed)


def _recovery_action(nvml: Any, handle: Any) -> int:
    found = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])[0]
    if found.nvmlReturn != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(found.nvmlReturn)
    return int(found.value.uiVal)


_QUERIES = (
    _Query(("name",), lambda n, h: (n.nvmlDeviceGetName(h),)),
    _Query(("uuid",), lambda n, h: (n.nvmlDeviceGetUUID(h),)),
    _Query(("pci_bus_id",), lambda n, h: (_text(n.nvmlDeviceGetPciInfo(h).busId),)),
    _Query(("architecture",), lambda n, h: (n.nvmlDeviceGetArchitecture(h),)),
    _Query(("compute_capability",), _capability),
    _Query(("memory_total_bytes", "memory_used_bytes", "memory_free_bytes", "memory_reserved_bytes"), _memory),
    _Query(("utilization_percent", "memory_utilization_percent"), _utilization),
    _Query(("sm_clock_mhz", "sm_clock_max_mhz"), lambda n, h: _clock(n, h, n.NVML_CLOCK_SM)),
    _Query(("memory_clock_mhz", "memory_clock_max_mhz"), lambda n, h: _clock(n, h, n.NVML_CLOCK_MEM)),
    _Query(("power_mw",), lambda n, h: (n.nvmlDeviceGetPowerUsage(h),)),
    _Query(("power_limit_mw",), lambda n, h: (n.nvmlDeviceGetEnforcedPowerLimit(h),)),
    _Query(("temperature_c",), lambda n, h: (_temperature(n, h),)),
    _Query(("performance_state",), _performance_state),
    _Query(("clock_events",), lambda n, h: (_clock_events(n, h),)),
    _Query(("pcie_gen",), lambda n, h: (n.nvmlDeviceGetCurrPcieLinkGeneration(h),)),
    _Query(("pcie_gen_max",), lambda n, h: (n.nvmlDeviceGetMaxPcieLinkGeneration(h),)),
    _Query(("pcie_width",), lambda n, h: (n.nvmlDeviceGetCurrPcieLinkWidth(h),)),
    _Query(("pcie_width_max",), lambda n, h: (n.nvmlDeviceGetMaxPcieLinkWidth(h),)),
    _Query(("ecc_enabled",), lambda n, h: (n.nvmlDeviceGetEccMode(h)[0] == n.NVML_FEATURE_ENABLED,)),
    _Query(("ecc_volatile_corrected", "ecc_volatile_uncorrected"), lambda n, h: _ecc(n, h, n.NVML_VOLATILE_ECC)),
    _Query(("ecc_aggregate_corrected", "ecc_aggregate_uncorrected"), lambda n, h: _ecc(n, h, n.NVML_AGGREGATE_ECC)),
    _Query(
        ("remapped_rows_corrected", "remapped_rows_uncorrected", "row_remap_pending", "row_remap_failed"),
        _remapped_rows,
    ),
    _Query(("recovery_action",), lambda n, h: (_recovery_action(n, h),)),
    _Query(("mig_enabled",), lambda n, h: (n.nvmlDeviceGetMigMode(h)[0] == n.NVML_DEVICE_MIG_ENABLE,)),
    _Query(("persistence_enabled",), lambda n, h: (n.nvmlDeviceGetPersistenceMode(h) == n.NVML_FEATURE_ENABLED,)),
    _Query(("processes",), lambda n, h: (_processes(n, h),)),
)


@contextmanager
def open_nvml() -> Iterator[DeviceSource]:
    """This machine's GPUs; NVML is initialised on entering and shut down on leaving, whatever happened between."""
    nvml, reason = _started()
    if nvml is None:
        yield NoDevices(reason)
        return
    try:
        yield NvmlDevices(nvml)
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _started() -> tuple[Any, str]:
    """The initialised module, or None and why there is no driver to ask."""
    try:
        import pynvml
    except ImportError:
        return None, "the package nvidia-ml-py is not installed"
    nvml: Any = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return None, _why_no_driver(nvml, error)
    return nvml, ""


class NvmlDevices:
    """The GPUs behind an initialised `pynvml` module."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml

    def driver(self) -> DriverReading:
        """Versions of the driver and of the newest CUDA that it runs."""
        nvml = self._nvml
        version, _ = _ask(nvml, lambda: nvml.nvmlSystemGetDriverVersion())
        cuda, _ = _ask(nvml, lambda: nvml.nvmlSystemGetCudaDriverVersion_v2())
        return DriverReading(driver_version=version, cuda_version=cuda)

    def devices(self) -> list[DeviceReading]:
        """Every GPU that NVML shows this process, one reading each."""
        count, _ = _ask(self._nvml, self._nvml.nvmlDeviceGetCount)
        return [self._device(index) for index in range(count or 0)]

    def _device(self, index: int) -> DeviceReading:
        nvml, values, missing = self._nvml, dict[str, Any](), dict[str, str]()
        try:
            handle, reason = _ask(nvml, lambda: nvml.nvmlDeviceGetHandleByIndex(index))
            if handle is None:
                return DeviceReading(index=index, failure=reason)
            for query in _QUERIES:
                _fill(nvml, query, handle, values, missing)
            if values.get("mig_enabled"):
                _mig(nvml, handle, values, missing)
        except _GpuFailed as failure:
            return DeviceReading(index=index, **values, missing=missing, failure=str(failure))
        return DeviceReading(index=index, **values, missing=missing)


def _fill(nvml: Any, query: _Query, handle: Any, values: dict[str, Any], missing: dict[str, str]) -> None:
    found, reason = _ask(nvml, lambda: query.read(nvml, handle))
    for field, value in zip(query.fields, found or [_Absent(reason)] * len(query.fields), strict=True):
        if isinstance(value, _Absent):
            missing[field] = value.reason
        else:
            values[field] = value


def _ask(nvml: Any, read: Callable[[], Any]) -> tuple[Any, str]:
    """The value, or None and the reason: the one place that decides what an NVML error means.

    A lost GPU, or one that waits for a reset, raises `_GpuFailed`.
    """
    try:
        return read(), ""
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_GPU_IS_LOST:
            raise _GpuFailed("the GPU has fallen off the bus or is otherwise unreachable") from None
        if error.value == nvml.NVML_ERROR_RESET_REQUIRED:
            raise _GpuFailed("the GPU must be reset before it answers") from None
        return None, _reason(nvml, error)
    except nvml.NVMLLibraryMismatchError:
        return None, "this driver is older than nvidia-ml-py expects"
    except AttributeError:
        return None, "the installed nvidia-ml-py does not have the call"
    except UnicodeDecodeError:
        return None, "the driver's text is not UTF-8"


def _reason(nvml: Any, error: Any) -> str:
    reasons = {
        nvml.NVML_ERROR_NOT_SUPPORTED: NOT_SUPPORTED,
        nvml.NVML_ERROR_NO_PERMISSION: "this process lacks the permission",
        nvml.NVML_ERROR_FUNCTION_NOT_FOUND: "this driver does not have the call",
    }
    return reasons.get(error.value) or f"NVML reports: {str(error).rstrip('.').lower()}"


def _why_no_driver(nvml: Any, error: Any) -> str:
    reasons = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver on this machine (its library NVML was not found)",
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is installed but not loaded",
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver's kernel module and its library differ in version; reboot",
        nvml.NVML_ERROR_NO_PERMISSION: "this process may not open the NVIDIA driver",
    }
    return reasons.get(error.value) or f"NVML does not start: {str(error).rstrip('.').lower()}"


def _mig(nvml: Any, handle: Any, values: dict[str, Any], missing: dict[str, str]) -> None:
    for field in ("utilization_percent", "memory_utilization_percent"):
        if missing.get(field) == NOT_SUPPORTED:
            missing[field] = IN_MIG_MODE
    _fill(nvml, _Query(("mig_instances",), lambda n, h: (_mig_instances(n, h),)), handle, values, missing)


def _mig_instances(nvml: Any, handle: Any) -> tuple[MigInstanceReading, ...]:
    indices = range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))
    found = (_mig_instance(nvml, handle, index) for index in indices)
    return tuple(instance for instance in found if instance is not None)


def _mig_instance(nvml: Any, handle: Any, index: int) -> MigInstanceReading | None:
    try:
        instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_NOT_FOUND:
            raise
        return None
    name, _ = _ask(nvml, lambda: nvml.nvmlDeviceGetName(instance))
    memory, _ = _ask(nvml, lambda: _memory(nvml, instance))
    total, used = memory[:2] if memory else (None, None)
    return MigInstanceReading(index=index, name=name, memory_total_bytes=total, memory_used_bytes=used)


def _processes(nvml: Any, handle: Any) -> tuple[ProcessReading, ...]:
    """Compute, MPS and graphics processes; one that an instance lists twice is kept once, with its larger memory."""
    found = dict[tuple[int, int], ProcessReading]()
    for kind, listed in _process_lists(nvml, handle):
        for process in listed:
            key = (process.pid, process.gpuInstanceId)
            if key not in found or (process.usedGpuMemory or 0) > (found[key].memory_bytes or 0):
                name = _process_name(nvml, process.pid)
                first = found[key].kind if key in found else kind
                found[key] = ProcessReading(pid=process.pid, name=name, kind=first, memory_bytes=process.usedGpuMemory)
    return tuple(sorted(found.values(), key=lambda process: process.pid))


def _process_lists(nvml: Any, handle: Any) -> Iterator[tuple[ProcessKind, list[Any]]]:
    # who computes is the point of the list: only that call may fail the query as a whole
    yield "compute", nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    yield "mps", _ask(nvml, lambda: nvml.nvmlDeviceGetMPSComputeRunningProcesses(handle))[0] or []
    yield "graphics", _ask(nvml, lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses(handle))[0] or []


def _process_name(nvml: Any, pid: int) -> str | None:
    name, _ = _ask(nvml, lambda: nvml.nvmlSystemGetProcessName(pid))
    return program_name(_text(name)) if name else None


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
