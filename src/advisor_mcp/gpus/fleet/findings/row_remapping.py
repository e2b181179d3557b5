from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.gpus.fleet.counting import counted
from advisor_mcp.gpus.fleet.evidence import FLEET, Fleet, plural, shown_units, worst
from advisor_mcp.gpus.fleet.identity import Unit

_STATES = (
    ("remap_failed", "with a memory row that could not be remapped", "error", "Replace the board."),
    ("remap_pending", "with a memory row that waits to be remapped", "warning", "Reset the GPU when it is free."),
)


@FLEET.kind("row-remapping")
def row_remapping(fleet: Fleet) -> Iterator[Observation]:
    """GPUs that replaced, or have to replace, a bad row of memory by a spare one. A remapped row is repaired; one that
    waits needs a reset; one that failed means that the spares are used up.

    ## Formula
    largest value of ROW_REMAP_FAILURE and ROW_REMAP_PENDING in the window; growth of UNCORRECTABLE_REMAPPED_ROWS.

    ## Threshold
    One: the driver states it.

    ## Could also be
    - a row of last week that still waits because the GPU was never free

    ## Change
    Reset the GPU where a row waits, replace the board where remapping failed, watch the GPU where rows were remapped.

    ## Next measurement
    The number of remapped rows and of free spares per bank on that host: nvidia-smi -q -d ROW_REMAPPER.

    ## References
    - NVIDIA DCGM v4.6.0 dcgmlib/dcgm_fields.h: DCGM_FI_DEV_ROW_REMAP_FAILED, DCGM_FI_DEV_ROW_REMAP_PENDING
    """
    told = set[Unit]()
    for key, what, severity, change in _STATES:
        units = sorted(
            (unit for unit, value in fleet.highest.get(key, {}).items() if value > 0 and unit not in told), key=str
        )
        told.update(units)
        if units:
            yield Observation(
                message=f"{plural(len(units), 'GPU')} {what}",
                measured=len(units),
                unit="GPUs",
                where=shown_units(units),
                change=change,
                rows=worst((0, str(unit)) for unit in units),
                severity="error" if severity == "error" else "warning",
            )
    yield from counted(
        fleet,
        "remapped_rows",
        "row remapped for uncorrectable errors",
        "rows remapped for uncorrectable errors",
        but=told,
    )
