"""The finding `kernel-hotspot`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE

SHARE = 50.0
FEWEST = 20


@TIMELINE.kind("kernel-hotspot", severity="info")
def kernel_hotspot(case: Case) -> Iterator[Observation]:
    """One kernel takes more than half of all kernel time: whatever it can gain is what the run can gain.

    ## Formula
    sum of one kernel's durations / sum of all kernels' durations

    ## Threshold
    50 % of kernel time, of at least 20 kernel runs (chosen here)

    ## Could also be
    - a window that holds one phase only

    ## Change
    Hold it against the roofline (advisor-mcp roofline): at the roof only less work helps, below it another kernel or shape.

    ## Next measurement
    Nsight Compute on this kernel alone: ncu --set full --kernel-name NAME.

    ## References
    - https://docs.nvidia.com/nsight-compute/NsightComputeCli/index.html
    """
    computing = [one for one in case.kernels if one.kind != "communication"]
    if not computing or sum(one.count for one in computing) < FEWEST:
        return
    top = computing[0]
    share = case.of_kernels([top])
    if share >= SHARE:
        exposed = case.exposed([top])
        yield Observation(
            message=f"{top.short} takes {share:.1f} % of kernel time ({exposed / MS:,.1f} ms of the span in {top.count:,} runs).",
            measured=share,
            unit="percent of kernel time",
            saves_at_most_ms=exposed / MS,
            saves_at_most_percent=case.percent(exposed),
        )
