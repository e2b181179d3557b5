from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.gpus.decoding import SW_THERMAL
from advisor_mcp.gpus.fleet.evidence import FLEET, Fleet, plural, shown_units, worst
from advisor_mcp.gpus.fleet.throttling import limited, mask_seconds, mean_seconds, merged


@FLEET.kind("thermal-throttling")
def thermal_throttling(fleet: Fleet) -> Iterator[Observation]:
    """GPUs whose driver or firmware lowered the clocks for heat. The job runs slower, and where ranks step together it
    slows the others too.

    ## Formula
    share = steps with bit 0x20 of CLOCKS_EVENT_REASONS x step / time seen, or growth of THERMAL_VIOLATION / window, or
    AMD's thermal residency percentages; the largest.

    ## Threshold
    1 % of the time: below, it could not cost 1 % of the time however low the clocks went.

    ## Could also be
    - a warm hour of the data centre, over by now
    - a neighbour's exhaust, or a host with a failed fan

    ## Change
    Airflow, fan curve, inlet temperature, blanking panels; until then a lower power limit costs less than throttling.

    ## Next measurement
    Temperature and clock of the worst GPU beside its siblings' over a day.

    ## References
    - NVIDIA DCGM v4.6.0 dcgmlib/dcgm_fields.h: DCGM_CLOCKS_EVENT_REASON_SW_THERMAL, DCGM_FI_DEV_THERMAL_VIOLATION
    - ROCm/device-metrics-exporter docs/configuration/metricslist.md: throttling and violation metrics
    """
    times = merged(
        mask_seconds(fleet, SW_THERMAL),
        fleet.growth.get("thermal_time", {}),
        mean_seconds(fleet, "socket_thermal"),
        mean_seconds(fleet, "hbm_thermal"),
    )
    found = limited(fleet, times)
    if not found:
        return
    share, unit = found[0]
    degrees = fleet.highest.get("temperature", {}).get(unit)
    yield Observation(
        message=f"{plural(len(found), 'GPU')} throttled for heat, {unit} for {100 * share:.0f} % of the time"
        + (f" (up to {degrees:.0f} °C)" if degrees is not None else ""),
        measured=100 * share,
        unit="% of the time",
        where=shown_units([unit for _, unit in found]),
        saves_at_most_percent=100 * sum(share * unit.share for share, unit in found) / len(fleet.units),
        rows=worst((share, f"{unit}: {100 * share:.0f} %") for share, unit in found),
    )
