from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from advisor_mcp.gpus.decoding import SW_POWER_CAP
from advisor_mcp.gpus.devices import DeviceReading, Vendor
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, has_event, is_busy, together

_RAISED_BY: Mapping[Vendor, str] = {"nvidia": "nvidia-smi -pl", "amd": "amdsmi_set_power_cap"}
_THRESHOLD: Mapping[Vendor, str | None] = {
    "nvidia": None,
    "amd": "A warning only where the cap in force is below the default cap, both of amdsmi_get_power_cap_info.",
}


@GPUS.kind("power-cap", "info")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds GPUs under load whose clocks the power limit holds down. At the board's own limit that is how a GPU at full load
    runs, and no fault; below it somebody chose to have less speed.

    ## Formula

    Clock event reason 0x4 is set, or the power counter (field 74) grew between the two samples (AMD: the package power
    violation is active, or was for a share of the time), while utilisation is at least 50 %; the figure is the limit in
    force.

    ## Threshold

    A warning only where the limit in force is below the board's default limit (nvmlDeviceGetPowerManagementDefaultLimit);
    NVIDIA describes the capped state as clocks optimised to keep the power limit (nvml.h, SwPowerCap).

    ## Could also be

    - A limit set by the data centre for its power budget, out of band.

    ## Change

    Nothing at the board's own limit; kernels that move less data or use lower precision run faster in the same power.

    ## Next measurement

    Step time at this limit and at the default.

    ## References

    - https://docs.nvidia.com/deploy/nvml-api/
    - https://rocm.docs.amd.com/projects/amdsmi/
    """
    capped = [r for r in machine.readings if is_busy(r) and _is_capped(r)]
    for vendor, threshold in _THRESHOLD.items():
        yield from _of_one_vendor([r for r in capped if r.vendor == vendor], _RAISED_BY[vendor], threshold)


def _of_one_vendor(capped: Sequence[DeviceReading], raised_by: str, threshold: str | None) -> Iterator[GpuObservation]:
    text = "clocks held down by a power limit of {figure} W, which is below the board's default"
    change = f"Raise the limit to the board's default ({raised_by}, as root), unless it was lowered on purpose."
    lowered = (_seen(r, text) for r in capped if _is_lowered(r))
    yield from together(lowered, "W", worst=min, severity="warning", change=change, threshold=threshold)
    text = "clocks held down by the power limit of {figure} W, as expected at full load"
    yield from together((_seen(r, text) for r in capped if not _is_lowered(r)), "W", threshold=threshold)


def _seen(reading: DeviceReading, text: str) -> Seen:
    share = (reading.limited_percent or {}).get("power", 0.0)
    row = f"GPU {reading.index}: {share:g} % of the time between the samples" if share else ""
    return Seen(reading.index, text, round((reading.power_limit_mw or 0) / 1000), row)


def _is_capped(reading: DeviceReading) -> bool:
    share = (reading.limited_percent or {}).get("power", 0.0)
    return reading.power_limit_mw is not None and (has_event(reading, SW_POWER_CAP) or share > 0)


def _is_lowered(reading: DeviceReading) -> bool:
    limit, default = reading.power_limit_mw, reading.power_limit_default_mw
    return limit is not None and default is not None and limit < default
