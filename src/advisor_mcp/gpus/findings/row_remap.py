from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.devices import DeviceReading
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, together


@GPUS.kind("row-remap", "warning")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds memory rows (Ampere and later) that wait to be remapped, could not be, or a memory bank that has no spare rows
    left.

    ## Formula

    The driver's flags for a pending and for a failed remapping; banks in the "none" bin of the row remapper's histogram.

    ## Threshold

    Any: a failed remapping means that the bank had no spare row; a pending one needs a reset (nvml.h,
    nvmlDeviceGetRemappedRows).

    ## Could also be

    - A remapping that failed long ago: the flag stays.

    ## Change

    Reset the GPU when it is free, so that the row is remapped.

    ## Next measurement

    `nvidia-smi -q -d ROW_REMAPPER`

    ## References

    - https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/
    """
    before = "after {figure} remapped for uncorrected errors"
    failed = (
        _remapped(r, f"a memory row could not be remapped, {before}") for r in machine.readings if r.row_remap_failed
    )
    yield from together(failed, "rows", severity="error", change="Have the board replaced.")
    pending = (
        _remapped(r, f"a memory row waits to be remapped, {before}") for r in machine.readings if r.row_remap_pending
    )
    yield from together(pending, "rows")
    text = "{figure} memory banks have no spare rows left"
    bare = ((r.index, r.row_remap_histogram[4]) for r in machine.readings if r.row_remap_histogram)
    spent = (Seen(index, text, banks) for index, banks in bare if banks)
    yield from together(
        spent, "banks", change="Have the board replaced before the next uncorrected error in those banks."
    )


def _remapped(reading: DeviceReading, text: str) -> Seen:
    return Seen(reading.index, text, reading.remapped_rows_uncorrected or 0)
