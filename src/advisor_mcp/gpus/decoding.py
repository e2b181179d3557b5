"""NVML's codes in words. Names and values are those of nvidia-ml-py 13.615; meanings follow NVIDIA's NVML reference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

Severity = Literal["normal", "limit", "fault"]

IDLE = 0x1
APPLICATION_CLOCKS = 0x2
SW_POWER_CAP = 0x4
HW_SLOWDOWN = 0x8
SW_THERMAL = 0x20
HW_THERMAL = 0x40
POWER_BRAKE = 0x80
SYNC_BOOST = 0x10
BOARD_LIMIT = 0x200
RELIABILITY = 0x400


@dataclass(frozen=True, slots=True)
class ClockEvent:
    """One reason why clocks stand where they stand.

    `normal` belongs to a healthy GPU, `limit` costs speed by a setting or by heat, `fault` is a protection at work.
    """

    bit: int
    id: str
    severity: Severity
    nvml: str


CLOCK_EVENTS = (
    ClockEvent(IDLE, "idle", "normal", "GpuIdle"),
    ClockEvent(APPLICATION_CLOCKS, "application_clocks", "limit", "ApplicationsClocksSetting"),
    # at full load a GPU is expected to run into its power limit
    ClockEvent(SW_POWER_CAP, "sw_power_cap", "normal", "SwPowerCap"),
    ClockEvent(HW_SLOWDOWN, "hw_slowdown", "fault", "HwSlowdown"),
    ClockEvent(SYNC_BOOST, "sync_boost", "limit", "SyncBoost"),
    ClockEvent(SW_THERMAL, "sw_thermal_slowdown", "limit", "SwThermalSlowdown"),
    ClockEvent(HW_THERMAL, "hw_thermal_slowdown", "fault", "HwThermalSlowdown"),
    ClockEvent(POWER_BRAKE, "hw_power_brake", "fault", "HwPowerBrakeSlowdown"),
    ClockEvent(0x100, "display_clocks", "limit", "DisplayClockSetting"),
    ClockEvent(BOARD_LIMIT, "board_limit", "limit", "BoardLimit"),
    ClockEvent(RELIABILITY, "reliability", "limit", "Reliability"),
)

_ARCHITECTURES = {
    2: "Kepler",
    3: "Maxwell",
    4: "Pascal",
    5: "Volta",
    6: "Turing",
    7: "Ampere",
    8: "Ada",
    9: "Hopper",
    10: "Blackwell",
    13: "Rubin",
}

_LINK_VERSIONS = {1: "1.0", 2: "2.0", 3: "2.2", 4: "3.0", 5: "3.1", 6: "4.0", 7: "5.0", 8: "6.0"}

# from 5 on the numbers mean different things in different releases of nvidia-ml-py
_RECOVERY_ACTIONS = {
    1: "reset the GPU",
    2: "reboot the node",
    3: "drain peer-to-peer traffic",
    4: "drain the GPU, then reset it",
}


def clock_events(mask: int) -> list[ClockEvent]:
    """The reasons set in NVML's bit mask, by rising bit; a bit that has no name yet is a limit named by its value."""
    known = [event for event in CLOCK_EVENTS if mask & event.bit]
    rest = mask & ~sum(event.bit for event in CLOCK_EVENTS)
    unknown = [1 << place for place in range(rest.bit_length()) if rest >> place & 1]
    return known + [ClockEvent(bit, f"unknown_{bit:#x}", "limit", "") for bit in unknown]


def architecture_name(code: int) -> str | None:
    """The architecture of an NVML_DEVICE_ARCH code, or None for one that has no name yet."""
    return _ARCHITECTURES.get(code)


def link_version(code: int) -> str | None:
    """The NVLink version of an NVML_NVLINK_VERSION code, e.g. "4.0", or None for one that has no name yet."""
    return _LINK_VERSIONS.get(code)


def cuda_version(code: int) -> str:
    """NVML's 1000 x major + 10 x minor as "13.0"."""
    return f"{code // 1000}.{code % 1000 // 10}"


def recovery_action(code: int) -> str | None:
    """What the driver asks for before the GPU works again as it should, or None where it asks for nothing (0)."""
    return None if code == 0 else _RECOVERY_ACTIONS.get(code, f"follow NVML's recovery action {code}")


def short_uuid(uuid: str) -> str:
    """The first group of a UUID, e.g. GPU-1a2b3c4d, which CUDA_VISIBLE_DEVICES accepts where it is unique."""
    prefix, _, rest = uuid.partition("-")
    return f"{prefix}-{rest.split('-')[0]}" if rest else uuid


def program_name(text: str) -> str | None:
    """The base name of a program; folders and arguments, which can be private, are dropped."""
    words = text.strip()
    if "\\" in words:
        words = words.split(" -")[0].rsplit("\\", 1)[-1]
    else:
        words = words.split(maxsplit=1)[0].rsplit("/", 1)[-1] if words else ""
    return words or None


def index_ranges(indices: Iterable[int]) -> str:
    """Indices written short, e.g. "0-3, 6"."""
    ordered = sorted(set(indices))
    runs = (list(run) for _, run in groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0]))
    ends = [(run[0][1], run[-1][1]) for run in runs]
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ends)


def gpus(indices: Iterable[int]) -> str:
    """Indices with their noun, e.g. "GPU 3" or "GPUs 0-3, 6"."""
    found = index_ranges(indices)
    return f"GPU {found}" if found.isdigit() else f"GPUs {found}"
