"""The finding `unaligned-gemm`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE
from advisor_mcp.tracing.kernels import is_unaligned

SHARE = 5.0


@TIMELINE.kind("unaligned-gemm")
def unaligned_gemm(case: Case) -> Iterator[Observation]:
    """A product whose dimensions are no multiples of 16 bytes (8 elements of fp16 or bf16) loads one or two elements at a time, and slowly.

    ## Formula
    time of cutlass kernels for tensor cores named align1 or align2, or of products with a side that is no multiple of 16 bytes, /
    kernel time

    ## Threshold
    5 % of kernel time, and 1 % of the span exposed (both chosen here)

    ## Could also be
    - operands that are slices of larger tensors, whose rows start at odd addresses

    ## Change
    Pad the odd dimension to a multiple of 8 (64 is better on A100; torch demands 16 for fp8), such as the sequence length, the
    vocabulary or the number of classes; pad_to_multiple_of=8 in Hugging Face collators.

    ## Next measurement
    The same product at the padded size: advisor-mcp roofline says what it can reach.

    ## References
    - https://docs.nvidia.com/deeplearning/performance/dl-performance-matrix-multiplication/index.html#requirements-tc
    - stas00/ml-engineering@744d01e: training/performance/README.md (tile and wave quantization)
    """
    chosen = [one for one in case.kernels if is_unaligned(one.name)]
    odd = [one for one in case.worked.large if not one.cost.aligned]
    share = max(case.of_kernels(chosen), 100 * sum(one.duration for one in odd) / max(case.kernel_time, 1))
    if share < SHARE:
        return
    exposed = min(max(case.exposed(chosen), sum(one.duration for one in odd)), case.split.compute)
    if not case.matters(exposed):
        return
    rows = [f"{one.duration / MS:,.1f} ms in {one.runs} x {one.shown}" for one in odd]
    rows += [f"{one.duration / MS:,.1f} ms in {one.count} x {one.short}" for one in chosen]
    yield Observation(
        message=f"{share:.1f} % of kernel time ({exposed / MS:,.1f} ms of the span) are products on unaligned operands, "
        f"most of it {odd[0].shown if odd else chosen[0].short}.",
        measured=share,
        unit="percent of kernel time",
        saves_at_most_ms=exposed / MS,
        saves_at_most_percent=case.percent(exposed),
        rows=tuple(rows[:5]),
    )
