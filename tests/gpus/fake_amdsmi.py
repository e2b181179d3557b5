"""A stand-in for the module `amdsmi`, with the shapes of amdsmi 7.0.2's amdsmi_interface.py, of a node of MI300X."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from types import ModuleType
from typing import Any

import pytest

from advisor_mcp.gpus import sampling


class AmdSmiException(Exception):
    pass


class AmdSmiLibraryException(AmdSmiException):
    def __init__(self, err_info: str) -> None:
        super().__init__(err_info)
        self.err_info = err_info


class AmdSmiClkType(IntEnum):
    GFX = 1
    MEM = 5


class AmdSmiTemperatureType(IntEnum):
    EDGE = 0
    HOTSPOT = 1
    VRAM = 3


class AmdSmiTemperatureMetric(IntEnum):
    CURRENT = 0
    CRITICAL = 5
    EMERGENCY = 7


class AmdSmiMemoryPageStatus(IntEnum):
    RESERVED = 0
    PENDING = 1


UNSUPPORTED = AmdSmiLibraryException("AMDSMI_STATUS_NOT_SUPPORTED - Feature not supported")

MI300X: dict[str, Any] = {
    "amdsmi_get_gpu_asic_info": {"market_name": "AMD Instinct MI300X OAM", "target_graphics_version": "gfx942"},
    "amdsmi_get_gpu_device_uuid": "baff74a1-0000-1000-802b-3c4d5e6f7a8b",
    "amdsmi_get_gpu_device_bdf": "0000:05:00.0",
    "amdsmi_get_gpu_driver_info": {"driver_name": "amdgpu", "driver_version": "6.14.14", "driver_date": "N/A"},
    "amdsmi_get_gpu_vram_usage": {"vram_total": 196_592, "vram_used": 150_000},
    "amdsmi_get_gpu_activity": {"gfx_activity": 96, "umc_activity": 33, "mm_activity": "N/A"},
    "amdsmi_get_clock_info": {
        (AmdSmiClkType.GFX,): {"clk": 1_800, "min_clk": 500, "max_clk": 2_100},
        (AmdSmiClkType.MEM,): {"clk": 1_300, "min_clk": 900, "max_clk": 1_300},
    },
    "amdsmi_get_power_info": {
        "socket_power": 742,
        "current_socket_power": 742,
        "average_socket_power": "N/A",
        "power_limit": 750_000_000,
    },
    "amdsmi_get_power_cap_info": {
        "power_cap": 750_000_000,
        "default_power_cap": 750_000_000,
        "dpm_cap": 2_100,
        "min_power_cap": 0,
        "max_power_cap": 750_000_000,
    },
    "amdsmi_get_energy_count": {"energy_accumulator": 1_000_000, "counter_resolution": 15.3, "timestamp": 1},
    "amdsmi_get_temp_metric": {
        (AmdSmiTemperatureType.HOTSPOT, AmdSmiTemperatureMetric.CURRENT): 66,
        (AmdSmiTemperatureType.HOTSPOT, AmdSmiTemperatureMetric.CRITICAL): 100,
        (AmdSmiTemperatureType.HOTSPOT, AmdSmiTemperatureMetric.EMERGENCY): 105,
        (AmdSmiTemperatureType.VRAM, AmdSmiTemperatureMetric.CURRENT): 58,
    },
    "amdsmi_get_violation_status": {
        **{f"active_{name}": False for name in ("prochot_thrm", "socket_thrm", "vr_thrm", "hbm_thrm")},
        **{f"per_{name}": 0 for name in ("prochot_thrm", "socket_thrm", "vr_thrm", "hbm_thrm")},
        "active_ppt_pwr": True,
        "per_ppt_pwr": 35,
    },
    "amdsmi_get_pcie_info": [
        {
            "pcie_static": {"max_pcie_width": 16, "max_pcie_speed": 32_000},
            "pcie_metric": {"pcie_width": 16, "pcie_speed": 32_000, "pcie_replay_count": count},
        }
        for count in (3, 3, 5)
    ],
    "amdsmi_get_gpu_xgmi_link_status": {"status": ["X", "U", "U", "D"], "total_links": 4},
    "amdsmi_get_link_metrics": [
        {"num_links": 2, "links": [{"read": 0, "write": 0}, {"read": 0, "write": 0}, {"read": 9, "write": 9}]},
        {"num_links": 2, "links": [{"read": 1024, "write": 2048}, {"read": 1024, "write": 0}, {"read": 9, "write": 9}]},
    ],
    "amdsmi_get_gpu_total_ecc_count": {"correctable_count": 4, "uncorrectable_count": 0, "deferred_count": 0},
    "amdsmi_get_gpu_ecc_enabled": 7,
    "amdsmi_get_gpu_bad_page_info": [{"value": 0, "page_address": 1, "page_size": 4096, "status": 0}],
    "amdsmi_get_gpu_process_list": [
        {"name": "python3", "pid": 4242, "mem": 7, "memory_usage": {"gtt_mem": 0, "cpu_mem": 0, "vram_mem": 2**30}}
    ],
}
"""What each call answers: a value, one by the arguments after the handle, an error to raise, or several in turn where the
call gives no list itself."""

LISTS = ("amdsmi_get_gpu_bad_page_info", "amdsmi_get_gpu_process_list")


class FakeAmdSmi(ModuleType):
    """The module; its handles are the specifications of the GPUs."""

    AmdSmiException = AmdSmiException
    AmdSmiClkType = AmdSmiClkType
    AmdSmiTemperatureType = AmdSmiTemperatureType
    AmdSmiTemperatureMetric = AmdSmiTemperatureMetric
    AmdSmiMemoryPageStatus = AmdSmiMemoryPageStatus

    def __init__(self, *gpus: Mapping[str, Any], init: Exception | None = None) -> None:
        super().__init__("amdsmi")
        self.gpus, self.init, self.calls = [dict(gpu) for gpu in gpus], init, list[str]()

    def amdsmi_init(self) -> None:
        self.calls.append("amdsmi_init")
        if self.init:
            raise self.init

    def amdsmi_shut_down(self) -> None:
        self.calls.append("amdsmi_shut_down")

    def amdsmi_get_processor_handles(self) -> list[dict[str, Any]]:
        return self.gpus

    def __getattr__(self, name: str) -> Any:
        if name not in MI300X:
            raise AttributeError(name)

        def call(handle: dict[str, Any], *arguments: Any) -> Any:
            self.calls.append(name)
            answer = handle[name]
            if isinstance(answer, list) and name not in LISTS:
                left = handle.setdefault(f"{name} left", list(answer))
                answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, dict) and arguments:
                answer = answer.get(arguments, UNSUPPORTED)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


@contextmanager
def installed(module: FakeAmdSmi) -> Iterator[FakeAmdSmi]:
    """Let `import amdsmi` find this module, and the clock move half a second a look."""
    with pytest.MonkeyPatch.context() as patch:
        clock = itertools.count()
        patch.setattr(sampling, "now", lambda: next(clock) / 2)
        patch.setitem(sys.modules, "amdsmi", module)
        yield module
