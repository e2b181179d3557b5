"""What every source of GPU readings gives: the driver's own counts, and None with the reason where it gives none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

ProcessKind = Literal["compute", "graphics", "mps"]
Vendor = Literal["nvidia", "amd"]
Pause: TypeAlias = Callable[[], float]
"""Waits between two samples and returns how many seconds it waited; raises to give up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReading:
    """A process that holds a context on a GPU. `name` is the program's base name; `memory_bytes` is None on WDDM.

    `sm_percent` is the driver's own estimate of its share of SM time; None where it had none or the driver does not say.
    """

    pid: int
    name: str | None = None
    kind: ProcessKind = "compute"
    memory_bytes: int | None = None
    sm_percent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityReading:
    """What the SMs did between two samples, by NVML's GPM counters (Hopper and later).

    Percent of the time; of SMs times time for `sm_percent`, of the warps that fit for `sm_occupancy_percent`, of the
    bandwidth that the memory has for `dram_percent`.
    """

    sm_percent: float | None = None
    sm_occupancy_percent: float | None = None
    tensor_percent: float | None = None
    hmma_percent: float | None = None
    imma_percent: float | None = None
    dmma_percent: float | None = None
    fp64_percent: float | None = None
    fp32_percent: float | None = None
    fp16_percent: float | None = None
    integer_percent: float | None = None
    dram_percent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReading:
    """One NVLink or xGMI link. `errors` are its counters since the driver was loaded, `new_errors` those between the samples."""

    link: int
    active: bool | None = None
    version: int | None = None
    speed_mbps: int | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    new_errors: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class XidReading:
    """An Xid that the kernel log holds: its code, how often it is there, and the age of the last one in seconds."""

    code: int
    count: int = 1
    age_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigInstanceReading:
    """One MIG device of a partitioned GPU: what a CUDA process sees instead of the whole GPU."""

    index: int
    name: str | None = None
    gpu_instance: int | None = None
    multiprocessors: int | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    activity: ActivityReading | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReading:
    """One GPU at one moment, in NVML's units: bytes, MHz, milliwatts, degrees Celsius, percent of a sample period.

    `architecture`, `performance_state`, `clock_events` and `recovery_action` are NVML's codes (see `decoding`).
    `memory_used_bytes` leaves out `memory_reserved_bytes`, the driver's own share, where that is known.
    `activity`, `limited_percent`, `pcie_replays` and the traffic, in MiB per second as the GPU sends (tx) and receives it,
    are what happened in the `sample_s` seconds between two samples; the keys of `limited_percent` are power, thermal,
    sync_boost, board_limit and reliability. `links` are NVLink or xGMI.
    `ecc_dram_uncorrected` and `ecc_sram_uncorrected` are parts of `ecc_volatile_uncorrected`.
    `row_remap_histogram` counts memory banks by the spare rows they have left: max, high, partial, low, none.
    A value that the driver does not give is None and `missing` says why; `failure` says why nothing could be read.
    """

    index: int
    vendor: Vendor = "nvidia"
    name: str | None = None
    uuid: str | None = None
    pci_bus_id: str | None = None
    architecture: int | None = None
    compute_capability: str | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    utilization_percent: int | None = None
    memory_utilization_percent: int | None = None
    sm_clock_mhz: int | None = None
    sm_clock_max_mhz: int | None = None
    memory_clock_mhz: int | None = None
    memory_clock_max_mhz: int | None = None
    power_mw: int | None = None
    power_limit_mw: int | None = None
    power_limit_default_mw: int | None = None
    power_limit_min_mw: int | None = None
    power_limit_max_mw: int | None = None
    energy_mj: int | None = None
    fan_percent: int | None = None
    temperature_c: int | None = None
    temperature_margin_c: int | None = None
    temperature_slowdown_c: int | None = None
    temperature_shutdown_c: int | None = None
    memory_temperature_c: int | None = None
    performance_state: int | None = None
    clock_events: int | None = None
    sample_s: float | None = None
    limited_percent: Mapping[str, float] | None = None
    activity: ActivityReading | None = None
    pcie_gen: int | None = None
    pcie_gen_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    pcie_replay_count: int | None = None
    pcie_replays: int | None = None
    pcie_tx_mib_per_s: float | None = None
    pcie_rx_mib_per_s: float | None = None
    link_tx_mib_per_s: float | None = None
    link_rx_mib_per_s: float | None = None
    links: tuple[LinkReading, ...] | None = None
    ecc_enabled: bool | None = None
    ecc_volatile_corrected: int | None = None
    ecc_volatile_uncorrected: int | None = None
    ecc_aggregate_corrected: int | None = None
    ecc_aggregate_uncorrected: int | None = None
    ecc_dram_uncorrected: int | None = None
    ecc_sram_uncorrected: int | None = None
    remapped_rows_corrected: int | None = None
    remapped_rows_uncorrected: int | None = None
    row_remap_pending: bool | None = None
    row_remap_failed: bool | None = None
    row_remap_histogram: tuple[int, int, int, int, int] | None = None
    retired_pages_corrected: int | None = None
    retired_pages_uncorrected: int | None = None
    retired_pages_pending: bool | None = None
    recovery_action: int | None = None
    xids: tuple[XidReading, ...] | None = None
    mig_enabled: bool | None = None
    persistence_enabled: bool | None = None
    processes: tuple[ProcessReading, ...] | None = None
    mig_instances: tuple[MigInstanceReading, ...] | None = None
    failure: str | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverReading:
    """The driver, or in `absent` why there is none to ask. `cuda_version` is NVML's code, 13000 for 13.0.

    `amdgpu_version` is that of AMD's driver, where AMD GPUs are read. `recorded` says how a recording was made; None for
    readings taken now.
    """

    driver_version: str | None = None
    cuda_version: int | None = None
    amdgpu_version: str | None = None
    confidential_compute: bool | None = None
    absent: str | None = None
    recorded: str | None = None


class DeviceSource(Protocol):
    """Where readings come from. Neither method raises because a GPU, a driver or a value is missing."""

    def devices(self, pause: Pause | None = None) -> list[DeviceReading]:
        """Every GPU that the source sees, by index; empty where there is none.

        With a pause two samples are taken, one before it and one after, and the readings hold what happened between
        them; without one those values are missing. What the pause raises is passed on.
        """

    def driver(self) -> DriverReading:
        """The driver's versions, or why there is no driver."""


@dataclass(frozen=True, slots=True)
class NoDevices:
    """A source without GPUs, and the reason."""

    reason: str

    def devices(self, pause: Pause | None = None) -> list[DeviceReading]:
        """No GPU."""
        return []

    def driver(self) -> DriverReading:
        """Why there is no driver."""
        return DriverReading(absent=self.reason)


@dataclass(frozen=True, slots=True)
class TwoVendors:
    """NVIDIA's GPUs and then AMD's, which are numbered after them."""

    nvidia: DeviceSource
    amd: DeviceSource

    def devices(self, pause: Pause | None = None) -> list[DeviceReading]:
        """All GPUs; both vendors are sampled one after the other."""
        found = self.nvidia.devices(pause)
        return found + [replace(other, index=len(found) + other.index) for other in self.amd.devices(pause)]

    def driver(self) -> DriverReading:
        """The versions of both drivers; nothing is absent, for there is AMD's."""
        return replace(self.nvidia.driver(), absent=None, amdgpu_version=self.amd.driver().amdgpu_version)


@contextmanager
def open_devices(record: Path | None = None) -> Iterator[DeviceSource]:
    """The GPUs of a recording, or without one those of this machine; the drivers' libraries are closed on leaving.

    Raises `UsageError` for a recording that cannot be read. A machine without a driver is a source without GPUs.
    """
    if record is not None:
        from advisor_mcp.gpus.recorded import read_recording

        yield read_recording(record)
        return
    from advisor_mcp.gpus.amd import open_amd
    from advisor_mcp.gpus.nvml import open_nvml

    with ExitStack() as stack:
        nvidia, amd = stack.enter_context(open_nvml()), stack.enter_context(open_amd())
        yield nvidia if amd is None else TwoVendors(nvidia, amd)
