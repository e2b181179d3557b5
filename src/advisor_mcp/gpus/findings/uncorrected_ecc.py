from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.devices import DeviceReading
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, together

_DRAIN = "Move the work elsewhere and reset the GPU; results since the errors may be wrong."


@GPUS.kind("uncorrected-ecc", "warning")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds memory errors that ECC could not correct: since the driver was loaded, which can have spoiled results or ended
    programs, or over the board's life.

    ## Formula

    Uncorrected ECC errors, volatile (since the driver was loaded), else aggregate (over the board's life).

    ## Threshold

    One: an uncorrected error is data lost.

    ## Could also be

    - An error in memory that nothing used.

    ## Change

    None are new: watch the count, and have the board replaced where it grows.

    ## Next measurement

    The Xids 48, 94, 95, 171 and 172 in the kernel log, and `nvidia-smi -q -d ECC`

    ## References

    - https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/
    """
    fresh = [r for r in machine.readings if r.ecc_volatile_uncorrected]
    text = "{figure} uncorrected ECC errors since the driver was loaded"
    told = (Seen(r.index, text, r.ecc_volatile_uncorrected or 0, _places(r)) for r in fresh)
    yield from together(told, "errors", severity="error", change=_DRAIN)
    text = "{figure} uncorrected ECC errors over its life, none since the driver was loaded"
    old = (r for r in machine.readings if r.ecc_aggregate_uncorrected and not r.ecc_volatile_uncorrected)
    yield from together((Seen(r.index, text, r.ecc_aggregate_uncorrected or 0) for r in old), "errors")


def _places(reading: DeviceReading) -> str:
    counts = {"DRAM": reading.ecc_dram_uncorrected, "SRAM": reading.ecc_sram_uncorrected}
    told = ", ".join(f"{count} in {place}" for place, count in counts.items() if count is not None)
    return f"GPU {reading.index}: {told}" if told else ""
