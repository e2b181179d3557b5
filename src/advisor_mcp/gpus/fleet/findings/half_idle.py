from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.gpus.fleet.evidence import EFFECTIVE, FLEET, INEFFECTIVE, Fleet, Use, plural, worst
from advisor_mcp.gpus.fleet.findings.busy_without_work import BUSY


@FLEET.kind("gpus-half-idle")
def half_idle(fleet: Fleet) -> Iterator[Observation]:
    """Jobs whose GPUs worked less than half of the time, those left out that stood idle throughout. The same work would
    fit on fewer GPUs, or be done sooner on these.

    ## Formula
    activity = mean over the job's GPU-hours of SM activity, else of engine activity, else of the time a kernel ran;
    GPU-hours that could be saved = GPU-hours x (1 - activity / 0.8).

    ## Threshold
    Activity below 0.5. NVIDIA's DCGM user guide calls SM activity below 0.5 likely ineffective use and 0.8 necessary
    for effective use; for the two other measures, which are never lower than SM activity, 0.5 is the milder bound.

    ## Could also be
    - a service with little traffic at this hour
    - a training job that waits for data, checkpoints or its slowest rank
    - many short kernels with gaps between their launches

    ## Change
    Fewer GPUs or a larger batch for the job; for input-bound training more loader workers, for services fewer replicas.

    ## Next measurement
    A profiler trace of one step of the worst job, for `diagnose_trace` to say what the idle half waits for.

    ## References
    - NVIDIA DCGM user guide, feature overview, profiling metrics, SM activity
    """
    found = [(_spare(use), use) for use in fleet.worked if _half_idle(use)]
    if not found:
        return
    total = sum(hours for hours, _ in found)
    _, use = max(found, key=lambda each: (each[0], each[1].name))
    jobs = plural(len(found), "job") if fleet.labelled else "the fleet"
    yield Observation(
        message=f"{jobs} used the GPUs held for less than half; {use.name} at {100 * (use.activity or 0):.0f} % activity",
        measured=total,
        unit="GPU-hours",
        where=f"{use.name}: {plural(use.gpus, 'GPU')}" if fleet.labelled else None,
        saves_at_most_percent=fleet.percent(total),
        rows=worst(
            (
                hours,
                f"{use.name}: {plural(use.gpus, 'GPU')} at {100 * (use.activity or 0):.0f} %, up to {hours:.1f} GPU-hours",
            )
            for hours, use in found
        ),
    )


def _half_idle(use: Use) -> bool:
    if use.activity is None or use.activity >= INEFFECTIVE:
        return False
    # a kernel ran nearly all the time: that is another finding
    return use.mean("sm_active") is None or (use.mean("kernel_running") or 0) < BUSY


def _spare(use: Use) -> float:
    return use.hours * (1 - (use.activity or 0) / EFFECTIVE)
