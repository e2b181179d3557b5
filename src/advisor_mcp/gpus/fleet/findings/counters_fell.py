from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.gpus.fleet.evidence import FLEET, Fleet, plural, shown_units, worst


@FLEET.kind("counters-fell-back", severity="info")
def counters_fell(fleet: Fleet) -> Iterator[Observation]:
    """GPUs whose counters fell back within the window: since they count from the driver's start, the driver was loaded
    anew, the GPU was reset or the host started again. Growth on these GPUs is estimated, and errors may be missing.

    ## Formula
    resets() of the counters of energy, errors and replays over the window.

    ## Threshold
    One fall: these counters only grow while the driver stays loaded.

    ## Could also be
    - a GPU that was exchanged while its host kept its name
    - two exporters that report the same GPU

    ## Change
    Nothing, if the restart was meant; else find what restarted the host or reset the GPU.

    ## Next measurement
    Uptime and kernel log of the host at the time of the fall.

    ## References
    - Prometheus documentation, query functions, resets()
    - NVIDIA/dcgm-exporter etc/default-counters.csv: total energy consumption since boot
    """
    if not fleet.restarted:
        return
    units = sorted(fleet.restarted, key=str)
    hosts = {unit.host for unit in units}
    yield Observation(
        message=f"counters of {plural(len(units), 'GPU')} on {plural(len(hosts), 'host')} fell back: the driver started anew",
        measured=len(units),
        unit="GPUs",
        where=shown_units(units),
        rows=worst((0, str(unit)) for unit in units),
    )
