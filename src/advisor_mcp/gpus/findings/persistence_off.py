from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, together


@GPUS.kind("persistence-off", "info")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds server GPUs whose driver is unloaded whenever no program uses them: the next program then waits for the driver
    to start, clocks and limits that were set are lost, and error counters begin anew.

    ## Formula

    Persistence mode is off on a GPU that has ECC, which tells a server's from a desktop's.

    ## Threshold

    None: it is a setting.

    ## Could also be

    - A driver that the persistence daemon keeps loaded in another way.

    ## Change

    Run `nvidia-persistenced`, or `nvidia-smi -pm 1` as root.

    ## Next measurement

    How long the first CUDA call of a program takes, with and without.

    ## References

    - https://docs.nvidia.com/deploy/driver-persistence/
    """
    off = (r for r in machine.readings if r.persistence_enabled is False and r.ecc_enabled is not None)
    yield from together((Seen(r.index, "persistence mode is off") for r in off), "setting")
