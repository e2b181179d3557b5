"""The metrics that exporters serve and that are read here, with unit and source.

NVIDIA's names are those of dcgm-exporter's counters file (commit d5e5f510, May 2026, etc/default-counters.csv) and of
DCGM's fields (NVIDIA/DCGM, tags v4.5.3 and v4.6.0, dcgmlib/dcgm_fields.h; 4.6 renames many and keeps the old names).
AMD's are those of ROCm/device-metrics-exporter (commit afd0fe81, August 2026, docs/configuration/metricslist.md), which
serves them in lower case, behind a prefix of the operator's choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Reading = Literal["shape", "mean", "max", "increase", "mask", "event", "count"]
"""How a metric is asked for: over time, its mean or largest value, by how much it grew, or as it stood at each step."""

DCGM = "repo:nvidia/dcgm-exporter@d5e5f510:etc/default-counters.csv"
DCGM_FIELDS = "repo:nvidia/dcgm@v4.6.0:dcgmlib/dcgm_fields.h"
AMD = "repo:rocm/device-metrics-exporter@afd0fe81:docs/configuration/metricslist.md"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric under one name; `factor` takes its value to the unit that `key` has here, `where` selects series."""

    key: str
    name: str
    reading: Reading
    unit: str
    factor: float = 1
    where: str = ""
    source: str = DCGM

    @property
    def selector(self) -> str:
        """The metric as PromQL selects it."""
        return f"{self.name}{{{self.where}}}" if self.where else self.name

    def having(self, matcher: str) -> str:
        """The series of the metric that one more matcher holds for."""
        return f"{self.name}{{{','.join(filter(None, (self.where, matcher)))}}}"


PERCENT = 0.01
NANOSECONDS = 1e-9

_TABLE = (
    # ratios of cycles, 0 to 1; a MIG instance may show more than 1 (NVIDIA/DCGM#152)
    Metric("sm_active", "DCGM_FI_PROF_SM_ACTIVE", "shape", "ratio"),
    Metric("sm_active", "DCGM_FI_PROF_SM_UTIL_RATIO", "shape", "ratio", source=DCGM_FIELDS),
    Metric("engine_active", "DCGM_FI_PROF_GR_ENGINE_ACTIVE", "shape", "ratio"),
    Metric("engine_active", "DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO", "shape", "ratio", source=DCGM_FIELDS),
    Metric("engine_active", "gpu_gfx_activity", "shape", "ratio", PERCENT, source=AMD),
    Metric("kernel_running", "DCGM_FI_DEV_GPU_UTIL", "shape", "ratio", PERCENT),
    Metric("kernel_running", "DCGM_FI_DEV_GPU_UTIL_RATIO", "shape", "ratio", PERCENT, source=DCGM_FIELDS),
    Metric("tensor_active", "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "mean", "ratio"),
    Metric("tensor_active", "DCGM_FI_PROF_TENSOR_UTIL_RATIO", "mean", "ratio", source=DCGM_FIELDS),
    Metric("tensor_active", "gpu_prof_tensor_active_percent", "mean", "ratio", PERCENT, source=AMD),
    Metric("dram_active", "DCGM_FI_PROF_DRAM_ACTIVE", "mean", "ratio"),
    Metric("dram_active", "DCGM_FI_PROF_DRAM_UTIL_RATIO", "mean", "ratio", source=DCGM_FIELDS),
    Metric("memory_used", "DCGM_FI_DEV_FB_USED", "mean", "MiB"),
    Metric("memory_used", "gpu_used_vram", "mean", "MiB", source=AMD),
    Metric("power", "DCGM_FI_DEV_POWER_USAGE", "mean", "W"),
    Metric("power", "DCGM_FI_DEV_BOARD_POWER_WATTS", "mean", "W", source=DCGM_FIELDS),
    Metric("power", "gpu_package_power", "mean", "W", source=AMD),
    Metric("clock", "DCGM_FI_DEV_SM_CLOCK", "mean", "MHz"),
    Metric("clock", "gpu_clock", "mean", "MHz", where='clock_type="system"', source=AMD),
    Metric("temperature", "DCGM_FI_DEV_GPU_TEMP", "max", "°C"),
    Metric("temperature", "DCGM_FI_DEV_GPU_TEMP_CELSIUS", "max", "°C", source=DCGM_FIELDS),
    Metric("temperature", "gpu_junction_temperature", "max", "°C", source=AMD),
    Metric("clock_events", "DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "mask", "bits", source=DCGM_FIELDS),
    Metric("clock_events", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "mask", "bits", source=DCGM_FIELDS),
    # the counters file called these microseconds until dcgm-exporter#589; the value was NVML's nanoseconds all along
    Metric("thermal_time", "DCGM_FI_DEV_THERMAL_VIOLATION", "increase", "s", NANOSECONDS),
    Metric("power_time", "DCGM_FI_DEV_POWER_VIOLATION", "increase", "s", NANOSECONDS),
    Metric(
        "hw_thermal_time", "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN_NS", "increase", "s", NANOSECONDS,
        source=DCGM_FIELDS,
    ),
    Metric(
        "power_brake_time", "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS", "increase", "s", NANOSECONDS,
        source=DCGM_FIELDS,
    ),
    Metric("socket_thermal", "gpu_violation_socket_thermal_residency_percentage", "mean", "ratio", PERCENT, source=AMD),
    Metric("hbm_thermal", "gpu_violation_hbm_thermal_residency_percentage", "mean", "ratio", PERCENT, source=AMD),
    Metric("xid", "DCGM_FI_DEV_XID_ERRORS", "event", "code"),
    Metric("xid", "DCGM_FI_DEV_XID_ERROR", "event", "code", source=DCGM_FIELDS),
    Metric("uncorrected_errors", "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "count", "errors"),
    Metric("uncorrected_errors", "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", "count", "errors"),
    Metric("uncorrected_errors", "gpu_ecc_uncorrect_total", "count", "errors", source=AMD),
    Metric("remapped_rows", "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "count", "rows"),
    Metric("remapped_rows", "DCGM_FI_DEV_ROW_REMAP_UNCORRECTABLE_TOTAL", "count", "rows", source=DCGM_FIELDS),
    Metric("remap_failed", "DCGM_FI_DEV_ROW_REMAP_FAILURE", "max", "yes or no"),
    Metric("remap_failed", "DCGM_FI_DEV_ROW_REMAP_FAILED", "max", "yes or no", source=DCGM_FIELDS),
    Metric("remap_pending", "DCGM_FI_DEV_ROW_REMAP_PENDING", "max", "yes or no", source=DCGM_FIELDS),
    Metric("pcie_replays", "DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "count", "replays"),
    Metric("pcie_replays", "DCGM_FI_DEV_PCIE_REPLAY_TOTAL", "count", "replays", source=DCGM_FIELDS),
    Metric("pcie_replays", "pcie_replay_count", "count", "replays", source=AMD),
    Metric("nvlink_crc_errors", "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", "count", "errors"),
    Metric("nvlink_recoveries", "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL", "count", "recoveries"),
    Metric("energy", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "count", "J", 1e-3),
    Metric("energy", "gpu_energy_consumed", "count", "J", 1e-6, source=AMD),
)  # fmt: skip

ACTIVITY = ("sm_active", "engine_active", "kernel_running")
"""The measures of activity, the most telling first."""

PATTERN = "DCGM_FI_.*|(.*_)?(" + "|".join(metric.name for metric in _TABLE if metric.source == AMD) + ")"
"""An anchored regular expression that every name above matches, whatever its prefix."""


def preferred(key: str) -> str:
    """NVIDIA's name for a metric, or AMD's where NVIDIA has none; what a message asks the operator to export."""
    return next(metric.name for metric in _TABLE if metric.key == key)


def served(names: Iterable[str]) -> list[Metric]:
    """The metrics of the table among the names that a Prometheus holds, each under the name it has there.

    A volatile error counter is taken before the aggregate one of the same key, since both count the same event.
    """
    held = sorted(set(names))
    found = [_named(metric, name) for metric in _TABLE for name in held if _is(metric, name)]
    volatile = {metric.key for metric in found if "_VOL_" in metric.name}
    return [metric for metric in found if "_AGG_" not in metric.name or metric.key not in volatile]


def _is(metric: Metric, name: str) -> bool:
    if metric.source == AMD:
        return re.fullmatch(rf"(?:\w+_)?{metric.name}", name) is not None
    return name == metric.name


def _named(metric: Metric, name: str) -> Metric:
    return Metric(metric.key, name, metric.reading, metric.unit, metric.factor, metric.where, metric.source)
