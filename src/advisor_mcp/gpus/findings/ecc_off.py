from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, together


@GPUS.kind("ecc-off", "info")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds GPUs that have ECC and run without it: a flipped bit then goes unseen into the weights.

    ## Formula

    The driver reports ECC mode as disabled; boards without ECC report no mode.

    ## Threshold

    None: it is a setting.

    ## Could also be

    - A workstation where ECC was turned off for its share of memory.

    ## Change

    For long training runs turn it on: `nvidia-smi -e 1` as root, then reset the GPU.

    ## Next measurement

    Memory size and bandwidth with it on: boards with GDDR give up some of both.

    ## References

    - https://docs.nvidia.com/deploy/nvml-api/
    """
    yield from together((Seen(r.index, "ECC is off", 0) for r in machine.readings if r.ecc_enabled is False), "ECC")
