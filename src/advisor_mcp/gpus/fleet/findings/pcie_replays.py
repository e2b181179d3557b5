from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.gpus.fleet.counting import counted
from advisor_mcp.gpus.fleet.evidence import FLEET, Fleet

PER_MINUTE = 62


@FLEET.kind("pcie-replays")
def pcie_replays(fleet: Fleet) -> Iterator[Observation]:
    """GPUs whose PCIe link repeats packets far more often than a healthy link: copies get slower, and the link may drop
    to a lower generation or fail.

    ## Formula
    rate = (max - min of the replay counter over the window) / window, per minute.

    ## Threshold
    62 a minute: DCGM's health check expects a bit error rate of 1e-12, 3.84 replays a minute for a lane of generation 6,
    and so 62 for 16 lanes. Older generations are allowed less there (31 at generation 5, 16 at 4): such a link that is
    reported here is well beyond its own limit.

    ## Could also be
    - a riser or retimer, not the GPU
    - replays while the link was trained at start-up

    ## Change
    Reseat the board, swap riser or slot; where the count stays with the board, replace it.

    ## Next measurement
    PCIe generation and width under load (`inspect_gpus` on the host) and the host's log for AER messages.

    ## References
    - NVIDIA DCGM v4.6.0 modules/health/DcgmHealthWatch.cpp: replay rate per lane and generation
    """
    minutes = fleet.window_s / 60
    yield from counted(fleet, "pcie_replays", "PCIe replay", at_least=PER_MINUTE * minutes)
