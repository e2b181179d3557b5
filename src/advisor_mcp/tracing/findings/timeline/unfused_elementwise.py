"""The finding `unfused-elementwise`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE

SHARE = 30.0


@TIMELINE.kind("unfused-elementwise")
def unfused_elementwise(case: Case) -> Iterator[Observation]:
    """Most of the device's time goes into elementwise kernels that read and write every tensor again.

    ## Formula
    time of eager elementwise and copying kernels (not of kernels that a compiler fused) / kernel time

    ## Threshold
    30 % of kernel time, and 1 % of the span exposed (both chosen here)

    ## Could also be
    - a model that is mostly elementwise, or dtype conversions under autocast: the names below say which

    ## Change
    torch.compile the model or the block; fused norms, rotary embeddings and activations (Liger, Transformer Engine) where it cannot be
    compiled.

    ## Next measurement
    The same step under torch.compile: the kernels are then named triton_poi_fused and triton_red_fused, and are fewer.

    ## References
    - https://docs.pytorch.org/docs/stable/generated/torch.compile.html
    """
    chosen = [one for one in case.kernels if one.kind in ("elementwise", "copy") and "triton" not in one.name]
    share = case.of_kernels(chosen)
    if share < SHARE:
        return
    exposed = case.exposed(chosen)
    if not case.matters(exposed):
        return
    count = sum(one.count for one in chosen)
    yield Observation(
        message=f"{share:.1f} % of kernel time ({exposed / MS:,.1f} ms of the span) are {count:,} elementwise kernels that nothing fused.",
        measured=share,
        unit="percent of kernel time",
        saves_at_most_ms=exposed / MS,
        saves_at_most_percent=case.percent(exposed),
        rows=tuple(f"{one.duration / MS:,.1f} ms in {one.count} x {one.short}" for one in chosen[:5]),
    )
