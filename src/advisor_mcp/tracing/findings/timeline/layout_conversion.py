"""The finding `layout-conversion`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE

SHARE = 5.0


@TIMELINE.kind("layout-conversion")
def layout_conversion(case: Case) -> Iterator[Observation]:
    """Convolutions on tensor cores want channels last; tensors in another layout are converted around each of them.

    ## Formula
    time of layout conversions and transpositions (nchwToNhwc, batched_transpose, tensorTransform, ...) / kernel time

    ## Threshold
    5 % of kernel time, and 1 % of the span exposed (both chosen here)

    ## Could also be
    - a transposition that the model itself asks for, or of scales for fp8 products

    ## Change
    model = model.to(memory_format=torch.channels_last), and the input likewise.

    ## Next measurement
    The same step in channels_last: the conversions are gone.

    ## References
    - https://docs.pytorch.org/tutorials/intermediate/memory_format_tutorial.html
    """
    chosen = [one for one in case.kernels if one.kind == "layout"]
    share = case.of_kernels(chosen)
    if share >= SHARE:
        exposed = case.exposed(chosen)
        if not case.matters(exposed):
            return
        yield Observation(
            message=f"{share:.1f} % of kernel time ({exposed / MS:,.1f} ms of the span) convert layouts, most of it {chosen[0].short}.",
            measured=share,
            unit="percent of kernel time",
            saves_at_most_ms=exposed / MS,
            saves_at_most_percent=case.percent(exposed),
            rows=tuple(f"{one.duration / MS:,.1f} ms in {one.count} x {one.short}" for one in chosen[:5]),
        )
