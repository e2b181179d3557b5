from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, together


@GPUS.kind("gpu-not-answering", "error")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds a GPU that the driver counts but that answers nothing, or stopped answering while it was read.

    ## Formula

    NVML returns GPU_IS_LOST, RESET_REQUIRED or another error for the GPU as a whole.

    ## Threshold

    Once is enough: NVML calls a lost GPU "fallen off the bus or otherwise inaccessible" (nvml.h).

    ## Could also be

    - A container or a cgroup that does not give this process the device.

    ## Change

    Look for the GPU's Xid in the kernel log, drain the node, and reset the GPU or restart the machine.

    ## Next measurement

    `dmesg | grep -i xid`

    ## References

    - https://docs.nvidia.com/deploy/xid-errors/
    """
    lost = (Seen(r.index, f"no reading, {r.failure}", 1) for r in machine.readings if r.failure)
    yield from together(lost, "GPU")
