from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.gpus.decoding import HW_SLOWDOWN, HW_THERMAL, POWER_BRAKE
from advisor_mcp.gpus.fleet.evidence import FLEET, Fleet, plural, shown_units, worst
from advisor_mcp.gpus.fleet.throttling import limited, mask_seconds, merged


@FLEET.kind("hardware-slowdown", severity="error")
def hardware_slowdown(fleet: Fleet) -> Iterator[Observation]:
    """GPUs whose hardware cut their own clocks: for heat, for a power supply that asked for it, or without naming a
    cause. These are protections at work, not limits that a healthy GPU meets.

    ## Formula
    share = steps with one of the bits 0x8, 0x40, 0x80 of CLOCKS_EVENT_REASONS x step / time seen, or growth of the
    hardware thermal and power brake time counters / window, the larger.

    ## Threshold
    1 % of the time: below, not even a stopped clock could cost 1 % of the time. The hardware cuts clocks by a factor of
    2 or more (DCGM's description of these bits), so at least half of the share is lost, and at most all of it.

    ## Could also be
    - a brake that the data centre pulls on purpose, to stay within its power
    - a short event that the steps' samples happened to catch

    ## Change
    For heat check airflow, fans, inlet temperature and heat sink, for a power brake supplies, cables and the rack's limit.

    ## Next measurement
    `inspect_gpus` on the host under load: which bit is set, at what temperature and power.

    ## References
    - NVIDIA DCGM v4.6.0 dcgmlib/dcgm_fields.h: DCGM_CLOCKS_EVENT_REASON_HW_SLOWDOWN, _HW_THERMAL, _HW_POWER_BRAKE
    """
    times = merged(
        mask_seconds(fleet, HW_SLOWDOWN | HW_THERMAL | POWER_BRAKE),
        fleet.growth.get("hw_thermal_time", {}),
        fleet.growth.get("power_brake_time", {}),
    )
    found = limited(fleet, times)
    if not found:
        return
    share, unit = found[0]
    yield Observation(
        message=f"{plural(len(found), 'GPU')} slowed down by hardware, {unit} for {100 * share:.0f} % of the time",
        measured=100 * share,
        unit="% of the time",
        where=shown_units([unit for _, unit in found]),
        saves_at_most_percent=100 * sum(share * unit.share for share, unit in found) / len(fleet.units),
        rows=worst((share, f"{unit}: {100 * share:.0f} %") for share, unit in found),
    )
