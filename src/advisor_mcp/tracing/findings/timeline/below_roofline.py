"""The finding `below-roofline`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE

SHARE = 20.0
EFFICIENCY = 0.4


@TIMELINE.kind("below-roofline")
def below_roofline(case: Case) -> Iterator[Observation]:
    """Products and attention take far longer than the device needs for their operations and bytes.

    ## Formula
    sum of (time - max(FLOPs / peak, bytes / bandwidth)) over products and attention that reach less than 40 % of that bound's rate and
    whose runs take at least 20 microseconds / span; the peak is the datasheet's dense rate for their dtype

    ## Threshold
    20 % of the span lost to it; 40 % of the roofline (both chosen here: the best shapes reach 51 % of the datasheet on MI300X and
    73 to 87 % on A100 to GB200, by the MAMF table below)

    ## Could also be
    - causal attention, which computes half of what is counted here: its efficiency is then understated by up to two
    - clocks below the boost clock: see advisor-mcp inspect-gpus under load
    - a few tiles only, or odd sizes: see unaligned-gemm and small-grids

    ## Change
    Shapes that are multiples of 64, another backend (torch.compile(mode="max-autotune"), cuBLASLt or hipBLASLt tuning, flash
    attention for the head size), fewer and larger products.

    ## Next measurement
    advisor-mcp roofline for the named shape, and the same shape alone in a loop.

    ## References
    - arXiv:2205.14135 (FlashAttention)
    - https://docs.nvidia.com/deeplearning/performance/dl-performance-matrix-multiplication/index.html
    - stas00/ml-engineering@744d01e: compute/accelerator/README.md (MAMF: maximum achievable matmul FLOPS)
    """
    ceilings = case.worked.ceilings
    if ceilings is None:
        return
    slow = []
    for one in case.worked.large:
        bound = one.bound(ceilings)
        heavy = one.cost.product is not None or "attention" in one.name
        if bound and heavy and bound < EFFICIENCY * one.duration:
            slow.append((one.duration - bound, one, 100 * bound / one.duration))
    lost = min(sum(part for part, _, _ in slow), case.split.compute)
    if case.percent(lost) < SHARE:
        return
    _, top, reached = max(slow, key=lambda row: row[0])
    yield Observation(
        message=f"{len(slow)} products or attentions are {lost / MS:,.1f} ms ({case.percent(lost):.1f} % of the span) above their roofline "
        f"on {ceilings.id}; {top.shown} reaches {reached:.0f} % of it ({top.tflops:,.0f} TFLOP/s).",
        measured=case.percent(lost),
        unit="percent of the span",
        saves_at_most_ms=lost / MS,
        saves_at_most_percent=case.percent(lost),
        rows=tuple(
            f"{part / MS:,.2f} ms above: {one.shown}, {share:.0f} % of its roofline, {one.runs} runs"
            for part, one, share in sorted(slow, key=lambda row: -row[0])[:5]
        ),
    )
