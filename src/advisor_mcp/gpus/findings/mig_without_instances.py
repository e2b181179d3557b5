from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, together


@GPUS.kind("mig-without-instances", "warning")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds a GPU in MIG mode that has no instances, so that CUDA finds no device on it.

    ## Formula

    MIG mode is on and the list of MIG devices, which could be read, is empty.

    ## Threshold

    0 instances.

    ## Could also be

    - Instances of which none is given to this container.

    ## Change

    Create instances (`nvidia-smi mig -cgi ... -C`), or turn MIG off (`nvidia-smi -mig 0`).

    ## Next measurement

    `nvidia-smi -L` and `nvidia-smi mig -lgi`

    ## References

    - https://docs.nvidia.com/datacenter/tesla/mig-user-guide/
    """
    bare = (r for r in machine.readings if r.mig_enabled and r.mig_instances == ())
    yield from together(
        (Seen(r.index, "MIG mode is on with 0 instances, so CUDA finds no device here") for r in bare), "instances"
    )
