"""For how long clocks were held down, from bit masks, time counters and residencies alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from advisor_mcp.gpus.fleet.evidence import Fleet
from advisor_mcp.gpus.fleet.identity import Unit

SW_POWER_CAP = 0x4  # DCGM_CLOCKS_EVENT_REASON_SW_POWER_CAP
WORTH_TELLING = 0.01
"""A share of the time below which it cannot cost more than 1 %."""


def mask_seconds(fleet: Fleet, bits: int) -> dict[Unit, float]:
    """Seconds per GPU at whose steps one of the bits was set; a step that is sampled once counts as a whole."""
    set_at = defaultdict[Unit, set[int]](set)
    for track in fleet.tracks:
        set_at[track.unit].update(step for step, mask in track.clock_events.items() if mask & bits)
    return {unit: len(steps) * fleet.step_s for unit, steps in set_at.items() if steps}


def mean_seconds(fleet: Fleet, key: str) -> dict[Unit, float]:
    """Seconds per GPU of a residency, from its mean ratio and the time that the GPU was seen."""
    times = defaultdict[Unit, float](float)
    for track in fleet.tracks:
        times[track.unit] += track.means.get(key, 0.0) * len(track.steps) * fleet.step_s
    return dict(times)


def merged(*times: Mapping[Unit, float]) -> dict[Unit, float]:
    """The largest of several readings of one thing, per GPU."""
    found = dict[Unit, float]()
    for each in times:
        for unit, seconds in each.items():
            found[unit] = max(seconds, found.get(unit, 0.0))
    return found


def limited(fleet: Fleet, times: Mapping[Unit, float]) -> list[tuple[float, Unit]]:
    """The GPUs held down for long enough to tell, with their share of the time that they were seen; the worst first."""
    seen = defaultdict[Unit, set[int]](set)
    for track in fleet.tracks:
        seen[track.unit] |= track.steps
    shares = [
        (min(seconds / (len(seen[unit]) * fleet.step_s), 1.0), unit) for unit, seconds in times.items() if unit in seen
    ]
    return sorted((each for each in shares if each[0] >= WORTH_TELLING), key=lambda each: (-each[0], str(each[1])))


def power_capped_percent(fleet: Fleet) -> float | None:
    """The share of all GPU time at the power limit, in percent: normal at full load; None where nothing tells."""
    if not fleet.present & {"clock_events", "power_time"}:
        return None
    times = merged(mask_seconds(fleet, SW_POWER_CAP), fleet.growth.get("power_time", {}))
    seen = sum(len(track.steps) for track in fleet.tracks) * fleet.step_s
    return 100 * sum(times.values()) / seen if seen else None
