"""The rows of the answer of `inspect_gpus`: readings in the units that people use."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from advisor_mcp.findings import FindingRow
from advisor_mcp.gpus.devices import Vendor
from advisor_mcp.gpus.fleet.rows import FleetRow
from advisor_mcp.results import Answer, Row


class GpuModel(Row):
    """What GPUs of one kind and set-up have in common."""

    gpus: str = Field(description="Their indices, e.g. 0-3, 6")
    name: str | None = Field(default=None, description="As the driver names it")
    vendor: Vendor = "nvidia"
    gpu_id: str | None = Field(default=None, description="Its id, as other tools take it; null when it has none")
    architecture: str | None = None
    compute_capability: str | None = None
    memory_total_gib: float | None = None
    memory_total_bytes: int | None = None
    power_limit_w: int | None = Field(default=None, description="The limit in force, which may be below the board's")
    power_limit_default_w: int | None = Field(default=None, description="The board's own limit")
    power_limit_min_w: int | None = None
    power_limit_max_w: int | None = None
    temperature_slowdown_c: int | None = Field(default=None, description="From here on the hardware slows itself down")
    temperature_shutdown_c: int | None = None
    sm_clock_max_mhz: int | None = None
    memory_clock_max_mhz: int | None = None
    link_version: str | None = Field(default=None, description="Of its NVLink links")
    link_speed_mbps: int | None = Field(default=None, description="MB/s of one NVLink link")
    pcie_gen_max: int | None = Field(default=None, description="Newest PCIe generation of GPU and system together")
    pcie_width_max: int | None = Field(default=None, description="Most PCIe lanes")
    ecc_enabled: bool | None = None
    mig_enabled: bool | None = Field(default=None, description="Partitioned into MIG instances")
    persistence_enabled: bool | None = Field(default=None, description="The driver stays loaded without a client")


class GpuRow(Row):
    """One GPU at the moment of the call."""

    index: int = Field(description="NVML's, by PCI bus; CUDA's may differ without CUDA_DEVICE_ORDER=PCI_BUS_ID")
    uuid: str | None = Field(default=None, description="First group of the UUID; CUDA_VISIBLE_DEVICES accepts it")
    pci_bus_id: str | None = None
    utilization_percent: int | None = Field(
        default=None,
        description="Percent of the sample period (1/6 to 1 s) in which a kernel ran; one busy thread gives 100",
    )
    sm_active_percent: float | None = Field(
        default=None,
        description="SMs that had work, of SMs x time between the samples; below 50 the GPU is hardly used (Hopper and later)",
    )
    sm_occupancy_percent: float | None = Field(default=None, description="Active warps, of those that fit")
    tensor_active_percent: float | None = Field(default=None, description="Time in which tensor cores worked")
    hmma_active_percent: float | None = Field(default=None, description="Of these: 16- and 8-bit floating point")
    imma_active_percent: float | None = Field(default=None, description="Of these: integer")
    dmma_active_percent: float | None = Field(default=None, description="Of these: 64-bit floating point")
    fp64_active_percent: float | None = Field(default=None, description="Outside the tensor cores, as the next three")
    fp32_active_percent: float | None = None
    fp16_active_percent: float | None = None
    integer_active_percent: float | None = None
    dram_active_percent: float | None = Field(default=None, description="Bandwidth of the GPU's memory that was used")
    memory_utilization_percent: int | None = Field(
        default=None,
        description="Percent of the sample period in which memory was read or written; not bandwidth, not bytes",
    )
    memory_used_gib: float | None = Field(default=None, description="In use, the driver's reserved share left out")
    memory_used_bytes: int | None = None
    memory_free_gib: float | None = None
    memory_free_bytes: int | None = None
    memory_reserved_gib: float | None = Field(default=None, description="Kept by driver and firmware")
    memory_reserved_bytes: int | None = None
    power_w: int | None = Field(
        default=None, description="Board power: a 1 s average from Ampere on (A100 and older: instantaneous)"
    )
    energy_j: int | None = Field(default=None, description="Since the driver was loaded")
    fan_percent: int | None = Field(default=None, description="As it is told to turn, not as it turns")
    temperature_c: int | None = None
    temperature_margin_c: int | None = Field(default=None, description="Left until the hardware slows itself down")
    memory_temperature_c: int | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    performance_state: str | None = Field(default=None, description="P0 is fastest, P15 slowest")
    throttled_by: list[str] | None = Field(
        default=None,
        description="The clock events that cost speed by a setting, by heat or, hw_slowdown, hw_thermal_slowdown and "
        "hw_power_brake, by a fault",
    )
    clock_events: list[str] | None = Field(
        default=None,
        description="Why clocks stand where they do: idle is no throttling, sw_power_cap at full load is normal",
    )
    limited_percent: dict[str, float] | None = Field(
        default=None, description="Time between the samples in which clocks were held down, by cause; empty for none"
    )
    pcie_gen: int | None = Field(default=None, description="PCIe generation now; drops when the GPU is idle")
    pcie_width: int | None = Field(default=None, description="PCIe lanes now")
    pcie_replay_count: int | None = Field(default=None, description="Packets sent again since the driver was loaded")
    pcie_replays: int | None = Field(default=None, description="Of these between the samples")
    pcie_tx_mib_per_s: float | None = Field(default=None, description="From the GPU")
    pcie_rx_mib_per_s: float | None = Field(default=None, description="To the GPU")
    link_tx_mib_per_s: float | None = Field(default=None, description="From the GPU, over NVLink or xGMI")
    link_rx_mib_per_s: float | None = None
    links_up: int | None = Field(default=None, description="NVLink or xGMI links that are up")
    links_total: int | None = None
    ecc_volatile_corrected: int | None = Field(default=None, description="Since the driver was loaded")
    ecc_volatile_uncorrected: int | None = Field(default=None, description="Since the driver was loaded")
    ecc_aggregate_corrected: int | None = Field(default=None, description="Over the board's life")
    ecc_aggregate_uncorrected: int | None = Field(default=None, description="Over the board's life")
    ecc_dram_uncorrected: int | None = Field(default=None, description="Of the volatile uncorrected ones")
    ecc_sram_uncorrected: int | None = Field(default=None, description="Of the volatile uncorrected ones")
    remapped_rows_corrected: int | None = None
    remapped_rows_uncorrected: int | None = None
    row_remap_pending: bool | None = None
    row_remap_failed: bool | None = None
    row_remap_spares: dict[str, int] | None = Field(
        default=None, description="Memory banks by the spare rows they have left"
    )
    retired_pages_corrected: int | None = Field(default=None, description="Before Ampere, and on AMD")
    retired_pages_uncorrected: int | None = None
    retired_pages_pending: bool | None = None
    recovery_action: str | None = Field(default=None, description="What the driver asks for, if anything")


class ProcessRow(Row):
    """A process that holds a context on a GPU."""

    gpu: int
    pid: int = Field(description="As the driver sees it; a container may number it otherwise")
    name: str | None = None
    kind: str
    memory_gib: float | None = None
    memory_bytes: int | None = None
    sm_percent: int | None = Field(default=None, description="The driver's estimate of its share of SM time")


class MigRow(Row):
    """One MIG instance."""

    gpu: int
    index: int
    name: str | None = None
    multiprocessors: int | None = None
    memory_total_gib: float | None = None
    memory_used_gib: float | None = None
    sm_active_percent: float | None = Field(
        default=None, description="Of its own SMs; NVML gives no utilisation under MIG"
    )
    tensor_active_percent: float | None = None
    dram_active_percent: float | None = None


class LinkRow(Row):
    """A link that is down, or whose error counters are not zero."""

    gpu: int
    link: int
    active: bool | None = None
    errors: dict[str, int] | None = Field(default=None, description="Since the driver was loaded")
    new_errors: dict[str, int] | None = Field(default=None, description="Between the two samples")


class XidRow(Row):
    """An Xid that the kernel log holds for a GPU."""

    gpu: int
    code: int
    meaning: str = Field(description="By NVIDIA's catalogue")
    action: str = Field(description="NVIDIA's immediate action")
    count: int
    last_minutes_ago: int | None = None


class HostRow(Row):
    """A machine without a readable GPU."""

    kind: str = Field(description="apple or cpu")
    chip: str
    memory_gib: float | None = Field(default=None, description="On Apple's chips the GPU's too")
    gpus_on_pci: list[str] | None = Field(default=None, description="Makers of GPUs that no driver answers for")


class NotAvailable(Row):
    """Figures that are null, and why."""

    gpus: str
    reason: str
    fields: list[str]


class InspectedGpus(Answer):
    """The GPUs that a source shows, at one moment; with `fleet` those that a Prometheus saw over a window."""

    gpu_count: int = Field(description="GPUs that the driver shows this process, or that the fleet has")
    fleet: FleetRow | None = None
    driver_version: str | None = None
    cuda_version: str | None = Field(default=None, description="Newest CUDA that the driver runs")
    amdgpu_version: str | None = Field(default=None, description="AMD's driver, where there are AMD GPUs")
    confidential_compute: bool | None = None
    host: HostRow | None = Field(default=None, description="What the machine is, where there is no GPU to read")
    sample_s: float | None = Field(default=None, description="Seconds between the two samples")
    models: list[GpuModel] | None = None
    common: dict[str, Any] | None = Field(default=None, description="Figures that are the same on all GPUs listed")
    gpus: list[GpuRow] | None = None
    findings: list[FindingRow] = Field(default_factory=list, description="What is wrong, the gravest first")
    processes: list[ProcessRow] | None = None
    mig_instances: list[MigRow] | None = None
    links: list[LinkRow] | None = None
    xids: list[XidRow] | None = None
    not_available: list[NotAvailable] | None = None
