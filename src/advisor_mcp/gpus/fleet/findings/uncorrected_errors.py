from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.gpus.fleet.counting import counted
from advisor_mcp.gpus.fleet.evidence import FLEET, Fleet


@FLEET.kind("uncorrected-memory-errors", severity="error")
def uncorrected_errors(fleet: Fleet) -> Iterator[Observation]:
    """Memory errors within the window that ECC detected and could not correct: what ran there may have been ended, and
    its results may be wrong.

    ## Formula
    max - min of the counter of uncorrected errors over the window; PromQL's increase() where the counter fell back.

    ## Threshold
    One error: ECC has already failed to correct it.

    ## Could also be
    - a count that the exporter carried over from before it was restarted

    ## Change
    Drain the GPU and reset it, so that the row is remapped; replace the board where errors come again or remapping fails.

    ## Next measurement
    Remapped rows and `row_remap_pending` of that GPU (`inspect_gpus` on its host), and Xid 48, 94 or 95 in its kernel log.

    ## References
    - NVIDIA/dcgm-exporter etc/default-counters.csv: DCGM_FI_DEV_ECC_DBE_VOL_TOTAL
    - ROCm/device-metrics-exporter docs/configuration/metricslist.md: GPU_ECC_UNCORRECT_TOTAL
    """
    yield from counted(fleet, "uncorrected_errors", "uncorrected memory error")
