from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.gpus.fleet.evidence import FLEET, Fleet, Use, plural, worst


@FLEET.kind("gpus-idle-in-job")
def idle_in_job(fleet: Fleet) -> Iterator[Observation]:
    """GPUs that a job held while nothing ran on them. Nobody else could use them, and the job gained nothing. Where no
    series names a job, all GPUs are looked at together.

    ## Formula
    idle GPU-hours = sum over the GPUs idle throughout of (steps with activity < 1 % in every measure) x step, a part of
    a GPU counted as its share and a GPU that jobs share divided by their number.

    ## Threshold
    A GPU counts once it was idle for 9/10 of the time it was held and for 10 minutes, which leaves room for loading
    data and weights. Exporters give whole percentages, so less than 1 % is 0.

    ## Could also be
    - a notebook or a debugger that waits for a person
    - a job that waits for storage, for a queue or for its other ranks
    - a standby replica that is there to take over

    ## Change
    Ask the owner to end the job or give back the GPUs it does not use; let the scheduler end jobs that stay idle.

    ## Next measurement
    The job's own log and `inspect_gpus` on its host: which processes hold the idle GPUs.

    ## References
    - NVIDIA/dcgm-exporter etc/default-counters.csv: DCGM_FI_DEV_GPU_UTIL is in whole percent
    """
    found = [(hours, use, gpus) for use in fleet.jobs for hours, gpus in [_idle(fleet, use)] if gpus]
    if not found:
        return
    total, gpus = sum(hours for hours, _, _ in found), sum(count for _, _, count in found)
    hours, use, count = max(found, key=lambda each: (each[0], each[1].name))
    jobs = f" in {plural(len(found), 'job')}" if fleet.labelled else ""
    yield Observation(
        message=f"{plural(gpus, 'GPU')}{jobs} stood idle throughout: {total:.1f} GPU-hours of {fleet.total_hours:.1f}",
        measured=total,
        unit="GPU-hours",
        where=f"{use.name}: {plural(count, 'GPU')}, {hours:.1f} GPU-hours" if fleet.labelled else None,
        saves_at_most_percent=fleet.percent(total),
        rows=worst(
            (hours, f"{use.name}: {count} of {use.gpus} GPUs, {hours:.1f} GPU-hours") for hours, use, count in found
        ),
    )


def _idle(fleet: Fleet, use: Use) -> tuple[float, int]:
    """GPU-hours and number of the GPUs of a job that were idle throughout."""
    idle = [track for track in use.tracks if fleet.idle_throughout(track)]
    return sum(fleet.hours(track, track.idle_steps) for track in idle), len({track.unit.id for track in idle})
