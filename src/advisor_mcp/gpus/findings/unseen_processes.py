from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, is_busy, together
from advisor_mcp.results import GIB, gib

UNEXPLAINED_BYTES = GIB
"""Memory in use, without a visible process, above which it is worth a sentence."""


@GPUS.kind("unseen-processes", "info")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds a GPU that is used by processes that cannot be seen from here: somebody else's container, or another user's, has
    the GPU too.

    ## Formula

    No process is listed while utilisation is at least 50 %, or while 1 GiB or more beyond the driver's share is in use.

    ## Threshold

    50 % and 1 GiB are choices of ours, well above what a driver or a monitor takes.

    ## Could also be

    - Memory that a crashed process left, until the GPU is reset.

    ## Change

    Look on the host, outside this container: `nvidia-smi` there lists all processes.

    ## Next measurement

    `nvidia-smi` on the host, or `fuser -v /dev/nvidia*`

    ## References

    - https://docs.nvidia.com/deploy/nvml-api/
    """
    empty = [r for r in machine.readings if r.processes == () and not r.mig_enabled]
    running = (r for r in empty if is_busy(r))
    text = "utilisation is {figure} % and no process is in sight"
    yield from together((Seen(r.index, text, r.utilization_percent or 0) for r in running), "%")
    text = "{figure} GiB in use, utilisation 0 % and no process in sight"
    holding = (r for r in empty if r.utilization_percent == 0 and r.memory_reserved_bytes is not None)
    used = ((r.index, r.memory_used_bytes or 0) for r in holding)
    yield from together((Seen(index, text, gib(size)) for index, size in used if size >= UNEXPLAINED_BYTES), "GiB")
