from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.gpus.fleet.evidence import EFFECTIVE, FLEET, INEFFECTIVE, Fleet, Use, plural, worst

BUSY = 0.8


@FLEET.kind("utilisation-without-sm-activity")
def busy_without_work(fleet: Fleet) -> Iterator[Observation]:
    """Jobs whose GPUs are called busy while most of their multiprocessors are not: utilisation only says that some
    kernel ran, and one with a single block gives 100 %.

    ## Formula
    mean(GPU_UTIL) and mean(SM_ACTIVE) over the job's GPUs; GPU-hours that could be saved = GPU-hours x (1 - SM_ACTIVE / 0.8).

    ## Threshold
    GPU_UTIL at least 80 % while SM_ACTIVE is below 0.5, which NVIDIA's DCGM user guide calls likely ineffective use
    (0.8 is what it calls necessary for effective use, and is taken here for "busy" too).

    ## Could also be
    - collectives that wait: their kernels run on a few multiprocessors until the slowest rank arrives
    - decoding with a small batch, or kernels with fewer blocks than the GPU has multiprocessors
    - a MIG instance or MPS client, whose share of the GPU is small by intent

    ## Change
    Larger batches or longer sequences per GPU, fused kernels; where ranks wait in collectives, find the slowest one.

    ## Next measurement
    A profiler trace of one step: the share of communication that is not overlapped, and blocks per kernel.

    ## References
    - NVIDIA DCGM user guide, feature overview, profiling metrics, SM activity
    - NVML API reference, nvmlUtilization_t: percent of time in which one or more kernels ran
    """
    found = [(use.hours * (1 - sm / EFFECTIVE), sm, use) for use in fleet.worked for sm in _sm_while_busy(use)]
    if not found:
        return
    total = sum(hours for hours, _, _ in found)
    _, sm, use = max(found, key=lambda each: (each[0], each[2].name))
    util = use.mean("kernel_running") or 0
    yield Observation(
        message=f"{use.name}: utilisation {100 * util:.0f} % with SM activity {100 * sm:.0f} %"
        + (f", and {plural(len(found) - 1, 'more job')} like it" if len(found) > 1 else ""),
        measured=100 * sm,
        unit="% SM activity",
        where=f"{use.name}: {plural(use.gpus, 'GPU')}",
        saves_at_most_percent=fleet.percent(total),
        rows=worst(
            (hours, f"{use.name}: SM activity {100 * sm:.0f} %, {use.hours:.1f} GPU-hours") for hours, sm, use in found
        ),
    )


def _sm_while_busy(use: Use) -> Iterator[float]:
    sm, util = use.mean("sm_active"), use.mean("kernel_running")
    if sm is not None and util is not None and util >= BUSY and sm < INEFFECTIVE:
        yield sm
