from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.gpus.fleet.counting import counted
from advisor_mcp.gpus.fleet.evidence import FLEET, Fleet

CRC_PER_S = 100


@FLEET.kind("nvlink-errors")
def nvlink_errors(fleet: Fleet) -> Iterator[Observation]:
    """GPUs whose NVLinks had to recover, or repeat packets for checksum errors at a high rate. Collectives inside the
    node get slower, and a link that recovers has stopped for a while.

    ## Formula
    max - min of the counters of recoveries and of flow-control CRC errors over the window, the latter per second.

    ## Threshold
    One recovery; 100 CRC errors a second, DCGM's own bound (DCGM_FR_NVLINK_CRC_ERROR_THRESHOLD).

    ## Could also be
    - the other end: a switch or the neighbouring GPU
    - recoveries while the fabric manager was restarted

    ## Change
    Reset the GPU and its fabric; where errors come again, reseat or replace board, bridge or switch.

    ## Next measurement
    Error counters per link on the host (nvidia-smi nvlink -e) and Xid 74 in its kernel log.

    ## References
    - NVIDIA DCGM v4.6.0 dcgmlib/dcgm_errors.h: DCGM_FR_NVLINK_CRC_ERROR_THRESHOLD
    - NVIDIA/dcgm-exporter etc/default-counters.csv: DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL
    """
    yield from counted(fleet, "nvlink_recoveries", "NVLink recovery", "NVLink recoveries")
    yield from counted(fleet, "nvlink_crc_errors", "NVLink CRC error", at_least=CRC_PER_S * fleet.window_s)
