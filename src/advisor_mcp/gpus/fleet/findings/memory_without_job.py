from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.gpus.fleet.evidence import FLEET, Fleet, plural, shown_units, worst
from advisor_mcp.results import number

HELD_MIB = 1024


@FLEET.kind("memory-held-without-job")
def memory_without_job(fleet: Fleet) -> Iterator[Observation]:
    """GPUs that no job holds and on which nothing ran, but whose memory is in use: processes that outlived their job,
    or that were started past the scheduler. The next job on such a GPU may run out of memory.

    ## Formula
    mean(memory used) over the window, on GPUs without a job that were idle for 9/10 of it.

    ## Threshold
    1 GiB: an idle GPU with a context or two holds some hundred MiB, which driver, persistence daemon and monitoring need.

    ## Could also be
    - a service that is meant to stay, such as an idle model server outside the scheduler
    - series whose job label is missing because the exporter maps jobs on some hosts only

    ## Change
    End the left-over processes (nvidia-smi on the host names them) and let the scheduler's epilogue do so.

    ## Next measurement
    `inspect_gpus` on the host: the processes on these GPUs and since when they run.

    ## References
    - NVIDIA/dcgm-exporter etc/default-counters.csv: DCGM_FI_DEV_FB_USED is in MiB
    """
    none = fleet.uses.get(None)
    if not fleet.labelled or none is None:
        return
    held = [
        (memory, track.unit)
        for track in none.tracks
        if (memory := track.means.get("memory_used", 0.0)) >= HELD_MIB and fleet.idle_throughout(track)
    ]
    if not held:
        return
    held.sort(key=lambda each: (-each[0], str(each[1])))
    total = sum(memory for memory, _ in held) / 1024
    units = [unit for _, unit in held]
    yield Observation(
        message=f"{plural(len(held), 'idle GPU')} without a job hold{'s'[: len(held) == 1]} {number(round(total, 1))} GiB of memory",
        measured=total,
        unit="GiB",
        where=shown_units(units),
        rows=worst((memory, f"{unit}: {memory / 1024:.1f} GiB") for memory, unit in held),
    )
