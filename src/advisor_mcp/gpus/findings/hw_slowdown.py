from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.decoding import HW_SLOWDOWN, HW_THERMAL, POWER_BRAKE
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, at_degrees, degrees, has_event, together


@GPUS.kind("hw-slowdown", "error")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds a GPU whose hardware slows it down without naming heat or the power brake as the cause.

    ## Formula

    Clock event reason 0x8 is set, and neither 0x40 nor 0x80, along with which the driver sets it too.

    ## Threshold

    The bit itself: the clocks are then cut to half or less (nvml.h, nvmlClocksThrottleReasonHwSlowdown).

    ## Could also be

    - A change of performance state in this moment, which sets the bit for an instant.

    ## Change

    If it stays, check power connectors, supply and cooling.

    ## Next measurement

    The same reading again, under load and a minute later.

    ## References

    - https://docs.nvidia.com/deploy/nvml-api/
    """
    slow = (r for r in machine.readings if has_event(r, HW_SLOWDOWN) and not has_event(r, HW_THERMAL | POWER_BRAKE))
    yield from together(
        (Seen(r.index, f"hardware slowdown without a named cause{at_degrees(r)}", degrees(r)) for r in slow), "°C"
    )
