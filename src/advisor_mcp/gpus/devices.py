"""What every source of GPU readings gives: the driver's own counts, and None with the reason where it gives none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

ProcessKind = Literal["compute", "graphics", "mps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReading:
    """A process that holds a context on a GPU. `name` is the program's base name; `memory_bytes` is None on WDDM."""

    pid: int
    name: str | None = None
    kind: ProcessKind = "compute"
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigInstanceReading:
    """One MIG device of a partitioned GPU: what a CUDA process sees instead of the whole GPU."""

    index: int
    name: str | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReading:
    """One GPU at one moment, in NVML's units: bytes, MHz, milliwatts, degrees Celsius, percent of a sample period.

    `architecture`, `performance_state`, `clock_events` and `recovery_action` are NVML's codes (see `decoding`).
    `memory_used_bytes` leaves out `memory_reserved_bytes`, the driver's own share, where that is known.
    A value that the driver does not give is None and `missing` says why; `failure` says why nothing could be read.
    """

    index: int
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
    temperature_c: int | None = None
    performance_state: int | None = None
    clock_events: int | None = None
    pcie_gen: int | None = None
    pcie_gen_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    ecc_enabled: bool | None = None
    ecc_volatile_corrected: int | None = None
    ecc_volatile_uncorrected: int | None = None
    ecc_aggregate_corrected: int | None = None
    ecc_aggregate_uncorrected: int | None = None
    remapped_rows_corrected: int | None = None
    remapped_rows_uncorrected: int | None = None
    row_remap_pending: bool | None = None
    row_remap_failed: bool | None = None
    recovery_action: int | None = None
    mig_enabled: bool | None = None
    persistence_enabled: bool | None = None
    processes: tuple[ProcessReading, ...] | None = None
    mig_instances: tuple[MigInstanceReading, ...] | None = None
    failure: str | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverReading:
    """The driver, or in `absent` why there is none to ask. `cuda_version` is NVML's code, 13000 for 13.0.

    `recorded` says how a recording was made; None for readings taken now.
    """

    driver_version: str | None = None
    cuda_version: int | None = None
    absent: str | None = None
    recorded: str | None = None


class DeviceSource(Protocol):
    """Where readings come from. Neither method raises because a GPU, a driver or a value is missing."""

    def devices(self) -> list[DeviceReading]:
        """Every GPU that the source sees, by index; empty where there is none."""

    def driver(self) -> DriverReading:
        """The driver's versions, or why there is no driver."""


@dataclass(frozen=True, slots=True)
class NoDevices:
    """A source without GPUs, and the reason."""

    reason: str

    def devices(self) -> list[DeviceReading]:
        """No GPU."""
        return []

    def driver(self) -> DriverReading:
        """Why there is no driver."""
        return DriverReading(absent=self.reason)


@contextmanager
def open_devices(record: Path | None = None) -> Iterator[DeviceSource]:
    """The GPUs of a recording, or without one those of this machine; NVML is shut down on leaving.

    Raises `UsageError` for a recording that cannot be read. A machine without a driver is a source without GPUs.
    """
    if record is not None:
        from advisor_mcp.gpus.recorded import read_recording

        yield read_recording(record)
    else:
        from advisor_mcp.gpus.nvml import open_nvml

        with open_nvml() as source:
            yield source
