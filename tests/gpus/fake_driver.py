"""A stand-in for the driver's library: the real `pynvml` binding calls it as it would call libnvidia-ml.

What the functions fill in is set by hand, so the binding's own names, structures and versions are put to the test.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pynvml
import pytest

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


def field_value(value: int, code: int = 0) -> Handler:
    """Answer a request for one field with an unsigned integer."""

    def call(handle: Any, count: Any, rows: Any) -> int:
        row = _out(rows)[0]
        row.nvmlReturn, row.valueType, row.value.uiVal = code, pynvml.NVML_VALUE_TYPE_UNSIGNED_INT, value
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
    "nvmlDeviceGetTemperatureV": struct(temperature=61),
    "nvmlDeviceGetPerformanceState": scalars(0),
    "nvmlDeviceGetCurrentClocksEventReasons": scalars(0x4),
    "nvmlDeviceGetCurrPcieLinkGeneration": scalars(5),
    "nvmlDeviceGetMaxPcieLinkGeneration": scalars(5),
    "nvmlDeviceGetCurrPcieLinkWidth": scalars(16),
    "nvmlDeviceGetMaxPcieLinkWidth": scalars(16),
    "nvmlDeviceGetEccMode": scalars(1, 1),
    # (corrected 0 or uncorrected 1, volatile 0 or aggregate 1)
    "nvmlDeviceGetTotalEccErrors": by_input({(0, 0): 3, (1, 0): 0, (0, 1): 7, (1, 1): 1}),
    "nvmlDeviceGetRemappedRows": scalars(2, 1, 0, 0),
    "nvmlDeviceGetFieldValues": field_value(0),
    "nvmlDeviceGetMigMode": scalars(0, 0),
    "nvmlDeviceGetPersistenceMode": scalars(1),
    "nvmlDeviceGetComputeRunningProcesses_v3": process_list((4242, 996 * MIB)),
    "nvmlDeviceGetMPSComputeRunningProcesses_v3": process_list(),
    "nvmlDeviceGetGraphicsRunningProcesses_v3": process_list(),
}


class FakeDriver:
    """The library: system calls, and for each device the functions it answers. What is not listed does not exist."""

    def __init__(self, devices: Sequence[Mapping[str, Handler]] = (H100,), init: int = 0) -> None:
        self.devices, self.calls, self.init = devices, list[str](), init
        self.system: dict[str, Handler] = {
            "nvmlInitWithFlags": lambda flags: self.init,
            "nvmlShutdown": lambda: 0,
            "nvmlDeviceGetCount_v2": lambda count: scalars(len(self.devices))(count),
            "nvmlDeviceGetHandleByIndex_v2": self._handle,
            "nvmlSystemGetDriverVersion": text(b"580.95.05"),
            "nvmlSystemGetCudaDriverVersion_v2": scalars(13000),
            "nvmlSystemGetProcessName": self._process_name,
        }

    def _handle(self, index: Any, device: Any) -> int:
        _out(device).spec = self.devices[index.value]
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
    """Let `pynvml` find this driver instead of a real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pynvml, "nvmlLib", driver)
        patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        yield driver
