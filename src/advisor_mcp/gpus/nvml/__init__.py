"""GPUs of this machine through NVML. Only getters are called: nothing here changes a device.

Functions, structures and constants are those of nvidia-ml-py 13.615 (`import pynvml`), which is imported on first use
and loads without a driver.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from advisor_mcp.gpus import kernel_log
from advisor_mcp.gpus.devices import (
    DeviceReading,
    DeviceSource,
    DriverReading,
    MigInstanceReading,
    NoDevices,
    Pause,
)
from advisor_mcp.gpus.nvml import counters
from advisor_mcp.gpus.nvml.asking import NOT_SUPPORTED, Absent, GpuFailed, ask
from advisor_mcp.gpus.nvml.links import read_links
from advisor_mcp.gpus.nvml.queries import QUERIES, Query, fill, memory

IN_MIG_MODE = "NVML gives no utilisation for a GPU in MIG mode"
SAMPLED = (
    "limited_percent",
    "activity",
    "pcie_replays",
    "pcie_tx_mib_per_s",
    "pcie_rx_mib_per_s",
    "link_tx_mib_per_s",
    "link_rx_mib_per_s",
)
"""The fields of a reading that two samples fill."""


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


def _why_no_driver(nvml: Any, error: Any) -> str:
    reasons = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver on this machine (its library NVML was not found)",
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is installed but not loaded",
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver's kernel module and its library differ in version; reboot",
        nvml.NVML_ERROR_NO_PERMISSION: "this process may not open the NVIDIA driver",
    }
    return reasons.get(error.value) or f"NVML does not start: {str(error).rstrip('.').lower()}"


@dataclass(frozen=True, slots=True)
class _Opened:
    """One GPU while it is read: its handle, its MIG instances by NVML's GPU instance, and the first sample of its counters.

    `failure` says why nothing more can be read.
    """

    index: int
    handle: Any = None
    instances: tuple[int, ...] = ()
    links: Any = None
    before: counters.Sample | None = None
    failure: str | None = None


class NvmlDevices:
    """The GPUs behind an initialised `pynvml` module."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml

    def driver(self) -> DriverReading:
        """Versions of the driver and of the newest CUDA that it runs, and whether confidential computing is on."""
        nvml = self._nvml
        version, _ = ask(nvml, lambda: nvml.nvmlSystemGetDriverVersion())
        cuda, _ = ask(nvml, lambda: nvml.nvmlSystemGetCudaDriverVersion_v2())
        state, _ = ask(nvml, lambda: nvml.nvmlSystemGetConfComputeState())
        confidential = None if state is None else state.ccFeature == nvml.NVML_CC_SYSTEM_FEATURE_ENABLED
        return DriverReading(driver_version=version, cuda_version=cuda, confidential_compute=confidential)

    def devices(self, pause: Pause | None = None) -> list[DeviceReading]:
        """Every GPU that NVML shows this process, one reading each."""
        count, _ = ask(self._nvml, self._nvml.nvmlDeviceGetCount)
        with ExitStack() as samples:
            opened = [self._open(index, pause is not None, samples) for index in range(count or 0)]
            if pause is not None and opened:
                pause()
            xids = kernel_log.read_xids()
            return [self._reading(found, xids, samples) for found in opened]

    def _open(self, index: int, sampled: bool, samples: ExitStack) -> _Opened:
        nvml = self._nvml
        try:
            handle, reason = ask(nvml, lambda: nvml.nvmlDeviceGetHandleByIndex(index))
            if handle is None:
                return _Opened(index, failure=reason)
            if not sampled:
                return _Opened(index, handle)
            links, _ = ask(nvml, lambda: read_links(nvml, handle))
            instances = _gpu_instances(nvml, handle)
            before = counters.take(nvml, handle, instances, samples)
            return _Opened(index, handle, instances, None if isinstance(links, Absent) else links, before)
        except GpuFailed as failure:
            return _Opened(index, failure=str(failure))

    def _reading(self, opened: _Opened, xids: kernel_log.Xids, samples: ExitStack) -> DeviceReading:
        nvml, values, missing = self._nvml, dict[str, Any](), dict[str, str]()
        if opened.failure:
            return DeviceReading(index=opened.index, failure=opened.failure)
        failure = None
        try:
            after = self._sampled(opened, values, missing, samples)
            for query in QUERIES:
                fill(nvml, query, opened.handle, values, missing)
            if opened.links and "links" in values:
                values["links"] = counters.new_link_errors(opened.links, values["links"])
            if values.get("mig_enabled"):
                _mig(nvml, opened, after, values, missing)
        except GpuFailed as lost:
            failure = str(lost)
        xids.put(values, missing)
        return DeviceReading(index=opened.index, **values, missing=missing, failure=failure)

    def _sampled(
        self, opened: _Opened, values: dict[str, Any], missing: dict[str, str], samples: ExitStack
    ) -> counters.Sample | None:
        """Take the second sample and put what it shows; None where there was no first one."""
        nvml = self._nvml
        if opened.before is None:
            missing |= dict.fromkeys(SAMPLED, counters.ONE_SAMPLE)
            return None
        after = counters.take(nvml, opened.handle, opened.instances, samples)
        found, why = counters.between(nvml, opened.before, after)
        values |= found
        missing |= why
        for name, counter in (("tx", "NVML_PCIE_UTIL_TX_BYTES"), ("rx", "NVML_PCIE_UTIL_RX_BYTES")):
            field = f"pcie_{name}_mib_per_s"
            if field not in values:
                fill(nvml, Query((field,), partial(_pcie_traffic, counter)), opened.handle, values, missing)
        return after


def _pcie_traffic(counter: str, nvml: Any, handle: Any) -> tuple[float]:
    """MiB per second over the 20 ms that NVML counts for this call (nvml.h); it gives KB."""
    return (round(nvml.nvmlDeviceGetPcieThroughput(handle, getattr(nvml, counter)) / 1024, 2),)


def _mig(
    nvml: Any, opened: _Opened, after: counters.Sample | None, values: dict[str, Any], missing: dict[str, str]
) -> None:
    for field in ("utilization_percent", "memory_utilization_percent"):
        if missing.get(field) == NOT_SUPPORTED:
            missing[field] = IN_MIG_MODE
    query = Query(("mig_instances",), lambda n, h: (_mig_instances(n, h, opened, after),))
    fill(nvml, query, opened.handle, values, missing)


def _gpu_instances(nvml: Any, handle: Any) -> tuple[int, ...]:
    """NVML's GPU instances that the MIG devices of a GPU belong to; empty where it is not partitioned."""
    mode, _ = ask(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle)[0])
    if mode != nvml.NVML_DEVICE_MIG_ENABLE:
        return ()
    found, _ = ask(nvml, lambda: [nvml.nvmlDeviceGetGpuInstanceId(h) for _, h in _mig_handles(nvml, handle)])
    return tuple(sorted(set(found or ())))


def _mig_handles(nvml: Any, handle: Any) -> Iterator[tuple[int, Any]]:
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            yield index, nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_NOT_FOUND:
                raise


def _mig_instances(
    nvml: Any, handle: Any, opened: _Opened, after: counters.Sample | None
) -> tuple[MigInstanceReading, ...]:
    return tuple(_mig_instance(nvml, index, found, opened, after) for index, found in _mig_handles(nvml, handle))


def _mig_instance(
    nvml: Any, index: int, instance: Any, opened: _Opened, after: counters.Sample | None
) -> MigInstanceReading:
    name, _ = ask(nvml, lambda: nvml.nvmlDeviceGetName(instance))
    found, _ = ask(nvml, lambda: memory(nvml, instance))
    total, used = found[:2] if found else (None, None)
    number, _ = ask(nvml, lambda: nvml.nvmlDeviceGetGpuInstanceId(instance))
    attributes, _ = ask(nvml, lambda: nvml.nvmlDeviceGetAttributes_v2(instance))
    activity = None
    if opened.before and after and number is not None:
        activity = counters.instance_activity(nvml, opened.before, after, number)
    return MigInstanceReading(
        index=index,
        name=name,
        gpu_instance=number,
        multiprocessors=None if attributes is None else attributes.multiprocessorCount,
        memory_total_bytes=total,
        memory_used_bytes=used,
        activity=activity,
    )
