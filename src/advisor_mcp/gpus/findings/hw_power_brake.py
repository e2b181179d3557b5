from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.decoding import POWER_BRAKE
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, has_event, together


@GPUS.kind("hw-power-brake", "error")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds a GPU that the power supply of its machine has told to brake.

    ## Formula

    Clock event reason 0x80 is set.

    ## Threshold

    The bit itself: an external signal then cuts the clocks to half or less
    (nvml.h, nvmlClocksThrottleReasonHwPowerBrakeSlowdown).

    ## Could also be

    - A power supply that failed, so that the others of the chassis are over their limit.

    ## Change

    Check the power supplies and the power budget of chassis and rack.

    ## Next measurement

    The machine's power supply events: `ipmitool sel list`

    ## References

    - https://docs.nvidia.com/deploy/nvml-api/
    """
    braked = (r for r in machine.readings if has_event(r, POWER_BRAKE))
    text = "the power brake at {figure} W at least halves the clocks"
    yield from together((Seen(r.index, text, round((r.power_mw or 0) / 1000)) for r in braked), "W")
