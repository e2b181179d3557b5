"""A stand-in for the driver's library: the real `pynvml` binding calls it as it would call libnvidia-ml.

What the functions fill in is set by hand, so the binding's own names, structures and versions are put to the test.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pynvml
import pytest

from advisor_mcp.gpus import kernel_log, sampling

Handler = Callable[..., int]
MIB = 2**20


def _out(argument: Any) -> Any:
    return argument._obj


def fail(code: int) -> Handler:
    """Return an error code."""
    return lambda *arguments: code


def scalars(*values: int) -> Handler:
    """Fill the trailing output arguments, in order."""

    def call(*arguments: Any) -> int:
        for argument, value in zip(arguments[-len(values) :], values, strict=True):
            _out(argument).value = value
        return 0

    return call


def by_input(values: Mapping[tuple[int, ...], int]) -> Handler:
    """Fill one output according to the enumeration arguments between handle and output."""

    def call(handle: Any, *arguments: Any) -> int:
        _out(arguments[-1]).value = values[tuple(argument.value for argument in arguments[:-1])]
        return 0

    return call


def text(value: bytes) -> Handler:
    """Fill the string buffer, the last argument but one."""

    def call(*arguments: Any) -> int:
        arguments[-2].value = value
        return 0

    return call


def struct(**values: Any) -> Handler:
    """Fill a structure; one that carries a version must carry that of its own size, as NVML demands."""

    def call(*arguments: Any) -> int:
        target = _out(arguments[-1])
        if hasattr(target, "version") and target.version & 0xFFFFFF != ctypes.sizeof(target):
            return int(pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
        for name, value in values.items():
            setattr(target, name, value)
        return 0

    return call


def process_list(*processes: tuple[int, int]) -> Handler:
    """Answer with (pid, bytes) pairs, after having been asked for their number."""

    def call(handle: Any, count: Any, rows: Any) -> int:
        _out(count).value = len(processes)
        if rows is None:
            return int(pynvml.NVML_ERROR_INSUFFICIENT_SIZE) if processes else 0
        for row, (pid, used) in zip(rows, processes, strict=False):
            row.pid, row.usedGpuMemory, row.gpuInstanceId = pid, used, 0xFFFFFFFF
        return 0

    return call


def field_values(values: Mapping[int | tuple[int, int], int | list[int]]) -> Handler:
    """Answer requests for fields, by id or by id and scope, with unsigned integers; what is not listed is not supported.

    A list is answered one by one, its last element from then on.
    """
    left = {key: list(value) if isinstance(value, list) else [value] for key, value in values.items()}

    def call(handle: Any, count: Any, rows: Any) -> int:
        for row in _out(rows):
            turn = left.get((row.fieldId, row.scopeId)) or left.get(row.fieldId)
            row.nvmlReturn = 0 if turn else pynvml.NVML_ERROR_NOT_SUPPORTED
            if turn:
                row.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
                row.value.ullVal = turn.pop(0) if len(turn) > 1 else turn[0]
        return 0

    return call


def in_turn(*values: int) -> Handler:
    """Fill the last output with these one by one, and with the last from then on."""
    left = list(values)

    def call(*arguments: Any) -> int:
        _out(arguments[-1]).value = left.pop(0) if len(left) > 1 else left[0]
        return 0

    return call


def shares(*samples: tuple[int, int, int]) -> Handler:
    """Answer with (pid, time stamp, SM share), after having been asked for their number."""

    def call(handle: Any, rows: Any, count: Any, since: Any) -> int:
        _out(count).value = len(samples)
        if rows is None:
            return int(pynvml.NVML_ERROR_INSUFFICIENT_SIZE if samples else pynvml.NVML_ERROR_NOT_FOUND)
        for row, (pid, at, share) in zip(rows, samples, strict=True):
            row.pid, row.timeStamp, row.smUtil = pid, at, share
        return 0

    return call


def by_link(states: Mapping[int, int]) -> Handler:
    """Fill the output according to the link, given as a plain number."""

    def call(handle: Any, link: int, out: Any) -> int:
        _out(out).value = states[link]
        return 0

    return call


def supported(answer: int) -> Handler:
    """Say whether the GPU has GPM counters."""

    def call(handle: Any, out: Any) -> int:
        assert _out(out).version == pynvml.NVML_GPM_SUPPORT_VERSION
        _out(out).isSupportedDevice = answer
        return 0

    return call


NOT_SUPPORTED = fail(pynvml.NVML_ERROR_NOT_SUPPORTED)

H100: dict[str, Handler] = {
    "nvmlDeviceGetName": text(b"NVIDIA H100 80GB HBM3"),
    "nvmlDeviceGetUUID": text(b"GPU-1a2b3c4d-0000-1111-2222-333344445555"),
    "nvmlDeviceGetPciInfo_v3": struct(busId=b"00000000:1B:00.0"),
    "nvmlDeviceGetArchitecture": scalars(9),
    "nvmlDeviceGetCudaComputeCapability": scalars(9, 0),
    "nvmlDeviceGetMemoryInfo_v2": struct(
        total=81559 * MIB, reserved=551 * MIB, used=1000 * MIB, free=(81559 - 551 - 1000) * MIB
    ),
    "nvmlDeviceGetUtilizationRates": struct(gpu=97, memory=41),
    "nvmlDeviceGetClockInfo": by_input({(1,): 1755, (2,): 2619}),
    "nvmlDeviceGetMaxClockInfo": by_input({(1,): 1980, (2,): 2620}),
    "nvmlDeviceGetPowerUsage": scalars(689_120),
    "nvmlDeviceGetEnforcedPowerLimit": scalars(700_000),
    "nvmlDeviceGetPowerManagementDefaultLimit": scalars(700_000),
    "nvmlDeviceGetPowerManagementLimitConstraints": scalars(200_000, 700_000),
    "nvmlDeviceGetTotalEnergyConsumption": scalars(123_456_789),
    "nvmlDeviceGetFanSpeed": NOT_SUPPORTED,
    "nvmlDeviceGetTemperatureV": struct(temperature=61),
    "nvmlDeviceGetMarginTemperature": struct(marginTemperature=26),
    "nvmlDeviceGetTemperatureThreshold": by_input({(0,): 92, (1,): 89}),
    "nvmlDeviceGetPerformanceState": scalars(0),
    "nvmlDeviceGetCurrentClocksEventReasons": scalars(0x4),
    "nvmlDeviceGetCurrPcieLinkGeneration": scalars(5),
    "nvmlDeviceGetMaxPcieLinkGeneration": scalars(5),
    "nvmlDeviceGetCurrPcieLinkWidth": scalars(16),
    "nvmlDeviceGetMaxPcieLinkWidth": scalars(16),
    "nvmlDeviceGetPcieReplayCounter": in_turn(40, 43),
    # link 0 is up, link 1 is not
    "nvmlDeviceGetNvLinkState": by_link({0: 1, 1: 0}),
    "nvmlDeviceGetNvLinkVersion": by_link({0: 6}),
    "nvmlDeviceGetEccMode": scalars(1, 1),
    # (corrected 0 or uncorrected 1, volatile 0 or aggregate 1)
    "nvmlDeviceGetTotalEccErrors": by_input({(0, 0): 3, (1, 0): 0, (0, 1): 7, (1, 1): 1}),
    # (uncorrected, volatile, DRAM or SRAM)
    "nvmlDeviceGetMemoryErrorCounter": by_input({(1, 0, 2): 0, (1, 0, 7): 0}),
    "nvmlDeviceGetRemappedRows": scalars(2, 1, 0, 0),
    "nvmlDeviceGetRowRemapperHistogram": struct(max=637, high=2, partial=1, low=0, none=0),
    "nvmlDeviceGetMigMode": scalars(0, 0),
    "nvmlDeviceGetPersistenceMode": scalars(1),
    "nvmlDeviceGetComputeRunningProcesses_v3": process_list((4242, 996 * MIB)),
    "nvmlDeviceGetMPSComputeRunningProcesses_v3": process_list(),
    "nvmlDeviceGetGraphicsRunningProcesses_v3": process_list(),
    "nvmlDeviceGetProcessUtilization": shares((4242, 2, 88), (4242, 1, 3)),
    "nvmlGpmQueryDeviceSupport": supported(1),
}

ALL_LINKS = 0xFFFFFFFF
FIELDS: dict[int | tuple[int, int], int | list[int]] = {
    74: [1_000, 100_001_000],  # ns held down by the power limit: 20 % of the half second between the samples
    75: 5,
    76: 0,
    77: 0,
    79: 0,
    82: 71,
    91: 2,
    (138, ALL_LINKS): [0, 1024 * 1024],  # KiB
    (139, ALL_LINKS): [0, 512 * 1024],
    (161, 0): [7, 9],
    (162, 0): 0,
    (163, 0): 5,
    (164, 0): 26_562,
    230: 0,
}
"""Fields of an H100; the first value of two is read before the pause."""

GPM = {
    "NVML_GPM_METRIC_SM_UTIL": 91.5,
    "NVML_GPM_METRIC_SM_OCCUPANCY": 38.25,
    "NVML_GPM_METRIC_ANY_TENSOR_UTIL": 62.125,
    "NVML_GPM_METRIC_DRAM_BW_UTIL": 44.0,
    "NVML_GPM_METRIC_FP32_UTIL": 3.0,
    "NVML_GPM_METRIC_PCIE_TX_PER_SEC": 120.0,
    "NVML_GPM_METRIC_PCIE_RX_PER_SEC": 80.0,
}


def h100(**changes: Handler) -> dict[str, Handler]:
    """A fresh H100, whose counters have not been read yet."""
    fresh = {"nvmlDeviceGetPcieReplayCounter": in_turn(40, 43), "nvmlDeviceGetFieldValues": field_values(FIELDS)}
    return H100 | fresh | changes


class FakeDriver:
    """The library: system calls, and for each device the functions it answers. What is not listed does not exist."""

    def __init__(
        self,
        devices: Sequence[Mapping[str, Handler]] | None = None,
        init: int = 0,
        gpm: Mapping[int | None, Mapping[str, float]] | None = None,
    ) -> None:
        self.devices = [h100()] if devices is None else devices
        self.calls, self.init = list[str](), init
        self.gpm = {None: GPM} if gpm is None else gpm
        self.samples, self.freed = dict[int, Any](), list[int]()
        self.system: dict[str, Handler] = {
            "nvmlInitWithFlags": lambda flags: self.init,
            "nvmlShutdown": lambda: 0,
            "nvmlDeviceGetCount_v2": lambda count: scalars(len(self.devices))(count),
            "nvmlDeviceGetHandleByIndex_v2": self._handle,
            "nvmlSystemGetDriverVersion": text(b"580.95.05"),
            "nvmlSystemGetCudaDriverVersion_v2": scalars(13000),
            "nvmlSystemGetProcessName": self._process_name,
            "nvmlSystemGetConfComputeState": struct(ccFeature=0),
            "nvmlGpmSampleAlloc": self._alloc,
            "nvmlGpmSampleGet": lambda handle, sample: self._sample(None, sample),
            "nvmlGpmMigSampleGet": lambda handle, instance, sample: self._sample(instance, sample),
            "nvmlGpmSampleFree": self._free,
            "nvmlGpmMetricsGet": self._metrics,
        }

    def _handle(self, index: Any, device: Any) -> int:
        _out(device).spec = self.devices[index.value]
        return 0

    def _alloc(self, sample: Any) -> int:
        buffer = ctypes.create_string_buffer(8)
        _out(sample).contents = ctypes.cast(buffer, type(_out(sample))).contents
        self.samples[ctypes.addressof(buffer)] = [buffer, None, 0]
        return 0

    def _sample(self, instance: int | None, sample: Any) -> int:
        if instance not in self.gpm:
            return int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        self.samples[ctypes.addressof(sample.contents)][1:] = [instance, self.calls.count("nvmlGpmSampleGet")]
        return 0

    def _free(self, sample: Any) -> int:
        self.freed.append(ctypes.addressof(sample.contents))
        return 0

    def _metrics(self, request: Any) -> int:
        asked = _out(request)
        first, second = (self.samples[ctypes.addressof(s.contents)] for s in (asked.sample1, asked.sample2))
        assert asked.version == pynvml.NVML_GPM_METRICS_GET_VERSION
        assert first[1] == second[1]
        assert first[2] <= second[2]
        known = {getattr(pynvml, name): value for name, value in self.gpm[first[1]].items()}
        for metric in asked.metrics[: asked.numMetrics]:
            metric.nvmlReturn = 0 if metric.metricId in known else pynvml.NVML_ERROR_NOT_SUPPORTED
            metric.value = known.get(metric.metricId, float("nan"))
        return 0

    @staticmethod
    def _process_name(pid: Any, buffer: Any, size: Any) -> int:
        buffer.value = b"/home/someone/secret-project/bin/python3.11"
        return 0

    def __getattr__(self, name: str) -> Handler:
        known = name in self.system or any(name in spec for spec in self.devices)
        if not name.startswith("nvml") or not known:
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name in self.system:
                return self.system[name](*arguments)
            spec: Mapping[str, Handler] = arguments[0].spec
            return spec.get(name, NOT_SUPPORTED)(*arguments)

        return call


@contextmanager
def installed(driver: FakeDriver) -> Iterator[FakeDriver]:
    """Let `pynvml` find this driver instead of a real one, no kernel log, and a clock that moves half a second a look."""
    with pytest.MonkeyPatch.context() as patch:
        clock = itertools.count()
        patch.setattr(sampling, "now", lambda: next(clock) / 2)
        patch.setattr(sampling, "sleep", lambda seconds: None)
        patch.setattr(kernel_log, "LOG", Path("/there/is/no/log"))
        patch.setattr(pynvml, "nvmlLib", driver)
        patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        yield driver
