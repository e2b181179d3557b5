"""Which call of which library is behind each figure of an answer."""

from __future__ import annotations

from collections.abc import Iterable

from advisor_mcp.gpus.devices import DeviceReading
from advisor_mcp.results import Derivation

NVML, AMD_SMI, XID_CATALOGUE = "doc:nvml-api", "doc:amd-smi-api", "doc:nvidia-xid-catalog"

Calls = tuple[tuple[str, str], ...]

READ_BY: Calls = (
    ("driver_version", "nvmlSystemGetDriverVersion"),
    ("cuda_version", "nvmlSystemGetCudaDriverVersion_v2"),
    ("confidential_compute", "nvmlSystemGetConfComputeState"),
    ("name", "nvmlDeviceGetName"),
    ("architecture", "nvmlDeviceGetArchitecture"),
    ("compute_capability", "nvmlDeviceGetCudaComputeCapability"),
    ("uuid", "nvmlDeviceGetUUID"),
    ("pci_bus_id", "nvmlDeviceGetPciInfo"),
    ("memory_*", "nvmlDeviceGetMemoryInfo"),
    ("utilization_percent, memory_utilization_percent", "nvmlDeviceGetUtilizationRates"),
    ("*_active_percent, sm_occupancy_percent", "nvmlGpmMetricsGet"),
    ("sm_clock_mhz, memory_clock_mhz", "nvmlDeviceGetClockInfo"),
    ("sm_clock_max_mhz, memory_clock_max_mhz", "nvmlDeviceGetMaxClockInfo"),
    ("power_w", "nvmlDeviceGetPowerUsage"),
    ("power_limit_w", "nvmlDeviceGetEnforcedPowerLimit"),
    ("power_limit_default_w", "nvmlDeviceGetPowerManagementDefaultLimit"),
    ("power_limit_min_w, power_limit_max_w", "nvmlDeviceGetPowerManagementLimitConstraints"),
    ("energy_j", "nvmlDeviceGetTotalEnergyConsumption"),
    ("fan_percent", "nvmlDeviceGetFanSpeed"),
    ("temperature_c", "nvmlDeviceGetTemperatureV"),
    ("temperature_margin_c", "nvmlDeviceGetMarginTemperature"),
    ("temperature_slowdown_c, temperature_shutdown_c", "nvmlDeviceGetTemperatureThreshold"),
    ("performance_state", "nvmlDeviceGetPerformanceState"),
    ("clock_events, throttled_by", "nvmlDeviceGetCurrentClocksEventReasons"),
    ("pcie_gen", "nvmlDeviceGetCurrPcieLinkGeneration"),
    ("pcie_gen_max", "nvmlDeviceGetMaxPcieLinkGeneration"),
    ("pcie_width", "nvmlDeviceGetCurrPcieLinkWidth"),
    ("pcie_width_max", "nvmlDeviceGetMaxPcieLinkWidth"),
    ("pcie_replay*", "nvmlDeviceGetPcieReplayCounter"),
    ("pcie_*_mib_per_s", "nvmlDeviceGetPcieThroughput"),
    ("links_up, links_total", "nvmlDeviceGetNvLinkState"),
    ("link_version", "nvmlDeviceGetNvLinkVersion"),
    ("ecc_enabled", "nvmlDeviceGetEccMode"),
    ("ecc_volatile_*, ecc_aggregate_*", "nvmlDeviceGetTotalEccErrors"),
    ("ecc_dram_uncorrected, ecc_sram_uncorrected", "nvmlDeviceGetMemoryErrorCounter"),
    ("remapped_rows_*, row_remap_pending, row_remap_failed", "nvmlDeviceGetRemappedRows"),
    ("row_remap_spares", "nvmlDeviceGetRowRemapperHistogram"),
    (
        "recovery_action, memory_temperature_c, limited_percent, retired_pages_*, link_*_mib_per_s, link_speed_mbps",
        "nvmlDeviceGetFieldValues",
    ),
    ("mig_enabled", "nvmlDeviceGetMigMode"),
    ("persistence_enabled", "nvmlDeviceGetPersistenceMode"),
    ("processes", "nvmlDeviceGetComputeRunningProcesses"),
    ("mig_instances", "nvmlDeviceGetMigDeviceHandleByIndex"),
)
"""The NVML call behind each figure; traffic comes from nvmlGpmMetricsGet where the GPU has it."""

READ_BY_AMD: Calls = (
    ("amdgpu_version", "amdsmi_get_gpu_driver_info"),
    ("name, compute_capability", "amdsmi_get_gpu_asic_info"),
    ("uuid", "amdsmi_get_gpu_device_uuid"),
    ("pci_bus_id", "amdsmi_get_gpu_device_bdf"),
    ("memory_*_bytes", "amdsmi_get_gpu_vram_usage"),
    ("utilization_percent, memory_utilization_percent", "amdsmi_get_gpu_activity"),
    ("sm_clock_*, memory_clock_*", "amdsmi_get_clock_info"),
    ("power_w", "amdsmi_get_power_info"),
    ("power_limit_*", "amdsmi_get_power_cap_info"),
    ("energy_j", "amdsmi_get_energy_count"),
    ("temperature_*, memory_temperature_c", "amdsmi_get_temp_metric"),
    ("clock_events, throttled_by, limited_percent", "amdsmi_get_violation_status"),
    ("pcie_*", "amdsmi_get_pcie_info"),
    ("links_*", "amdsmi_get_gpu_xgmi_link_status"),
    ("link_*_mib_per_s", "amdsmi_get_link_metrics"),
    ("ecc_volatile_*", "amdsmi_get_gpu_total_ecc_count"),
    ("ecc_enabled", "amdsmi_get_gpu_ecc_enabled"),
    ("retired_pages_*", "amdsmi_get_gpu_bad_page_info"),
    ("processes", "amdsmi_get_gpu_process_list"),
)
"""The same for AMD SMI."""


def derivation(readings: Iterable[DeviceReading]) -> list[Derivation]:
    """The call behind each figure, of the vendors that these GPUs have."""
    vendors = {reading.vendor for reading in readings}
    calls = [(NVML, READ_BY)] if "nvidia" in vendors else []
    calls += [(AMD_SMI, READ_BY_AMD)] if "amd" in vendors else []
    return [Derivation(figure=figure, formula=call, source=source) for source, table in calls for figure, call in table]


def sources(readings: Iterable[DeviceReading]) -> list[str]:
    """The documents that an answer about these GPUs rests on."""
    found = list(readings)
    vendors = {reading.vendor for reading in found}
    named = ([NVML] if "nvidia" in vendors or not found else []) + ([AMD_SMI] if "amd" in vendors else [])
    return named + ([XID_CATALOGUE] if any(reading.xids for reading in found) else [])
