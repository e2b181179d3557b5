from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.decoding import SW_POWER_CAP
from advisor_mcp.gpus.devices import DeviceReading
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, has_event, is_busy, together

_LOWERED = "Raise the limit to the board's default (nvidia-smi -pl, as root), unless it was lowered on purpose."


@GPUS.kind("power-cap", "info")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds GPUs under load whose clocks the power limit holds down. At the board's own limit that is how a GPU at full load
    runs, and no fault; below it somebody chose to have less speed.

    ## Formula

    Clock event reason 0x4 is set, or the power counter (field 74) grew between the two samples, while utilisation is at
    least 50 %; the figure is the limit in force.

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
    """
    capped = [r for r in machine.readings if is_busy(r) and _is_capped(r)]
    lowered = [r for r in capped if _is_lowered(r)]
    text = "clocks held down by a power limit of {figure} W, which is below the board's default"
    yield from together((_seen(r, text) for r in lowered), "W", worst=min, severity="warning", change=_LOWERED)
    text = "clocks held down by the power limit of {figure} W, as expected at full load"
    yield from together((_seen(r, text) for r in capped if not _is_lowered(r)), "W")


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
