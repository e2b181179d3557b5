from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.decoding import HW_THERMAL, SW_THERMAL
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, at_degrees, degrees, has_event, together


@GPUS.kind("sw-thermal-slowdown", "warning")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds a GPU whose clocks the driver lowers so that GPU and memory stay below their operating temperatures.

    ## Formula

    Clock event reason 0x20 is set and 0x40 is not, or the thermal counter (field 75) grew between the two samples.

    ## Threshold

    Any throttled time: the driver only acts at the maximum operating temperature (nvml.h, SwThermalSlowdown).

    ## Could also be

    - Memory that is hot while the core is not: compare memory_temperature_c.

    ## Change

    Improve cooling: fans, airflow, inlet temperature, spacing; or lower the power limit, which often costs less speed.

    ## Next measurement

    Temperature and clocks over a minute: `advisor-mcp inspect-gpus --watch`

    ## References

    - https://docs.nvidia.com/deploy/nvml-api/
    """
    told = []
    for reading in machine.readings:
        share = (reading.limited_percent or {}).get("thermal", 0.0)
        if (has_event(reading, SW_THERMAL) or share > 0) and not has_event(reading, HW_THERMAL):
            row = f"GPU {reading.index}: {share:g} % of the time between the samples" if share else ""
            text = f"the driver lowers the clocks for heat{at_degrees(reading)}"
            told.append(Seen(reading.index, text, degrees(reading), row))
    yield from together(told, "°C")
