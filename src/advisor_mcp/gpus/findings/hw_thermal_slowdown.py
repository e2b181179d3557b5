from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.decoding import HW_THERMAL
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, at_degrees, degrees, has_event, together


@GPUS.kind("hw-thermal-slowdown", "error")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds a GPU whose hardware has cut its clocks because it, or its memory or regulators, are too hot.

    ## Formula

    Clock event reason 0x40 is set (AMD: the socket, voltage regulator or HBM violation is active).

    ## Threshold

    The bit itself: the hardware then runs at half its clocks or less (nvml.h, nvmlClocksThrottleReasonHwThermalSlowdown).

    ## Could also be

    - A fan that stands still, a blocked air path, or a neighbour's exhaust.

    ## Change

    Check fans, airflow, heat sink and inlet temperature; move the work elsewhere until it is mended.

    ## Next measurement

    Temperature and clocks over a minute: `advisor-mcp inspect-gpus --watch`

    ## References

    - https://docs.nvidia.com/deploy/nvml-api/
    """
    hot = (r for r in machine.readings if has_event(r, HW_THERMAL))
    told = (
        Seen(r.index, f"hardware thermal slowdown{at_degrees(r)} at least halves the clocks", degrees(r)) for r in hot
    )
    yield from together(told, "°C")
