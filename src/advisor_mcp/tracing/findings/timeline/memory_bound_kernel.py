"""The finding `memory-bound-kernel`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE

SHARE = 10.0
NEAR_ROOF = 0.6
CLEARLY = 0.5
"""Near the ridge neither roof decides alone."""

LOWEST_RIDGE = 37.0
"""FLOP a byte below which a product of 16-bit types is bound by memory on every NVIDIA and AMD GPU of our facts: H20's ridge is the
lowest (148 TFLOP/s over 4 TB/s); RTX 3090 has 76, A100 153 to 201, H100 295."""


@TIMELINE.kind("memory-bound-kernel", severity="info")
def memory_bound_kernel(case: Case) -> Iterator[Observation]:
    """Operators whose arithmetic intensity is below the device's ridge: their time is that of moving their operands.

    Where the device's bandwidth is known and less than 60 % of it is reached, that is a finding; else it is what the shapes cost.

    ## Formula
    FLOPs / bytes with every operand moved once, against peak FLOP/s / bandwidth (37 where the device is not known: H20's, the lowest);
    reached bandwidth = bytes / time of the kernels

    ## Threshold
    10 % of kernel time; 60 % of the datasheet's bandwidth (both chosen here)

    ## Could also be
    - operands that were in cache already: then more than the bandwidth seems to be reached
    - strided or broadcast operands, which move more than their elements

    ## Change
    Larger or batched shapes for products (more rows per weight), fusion for elementwise work, narrower types for both.

    ## Next measurement
    advisor-mcp roofline for this operation and device.

    ## References
    - https://docs.nvidia.com/deeplearning/performance/dl-performance-matrix-multiplication/index.html (math and memory bounds)
    """
    ceilings = case.worked.ceilings
    chosen = []
    for one in case.worked.large:
        rate = ceilings.tflops.get(one.cost.dtype or "") if ceilings else None
        ridge = rate * 1e3 / ceilings.bandwidth if ceilings and rate and ceilings.bandwidth else LOWEST_RIDGE / CLEARLY
        if one.cost.intensity < CLEARLY * ridge:
            chosen.append(one)
    time = sum(one.duration for one in chosen)
    if not case.kernel_time or 100 * time / case.kernel_time < SHARE:
        return
    top = chosen[0]
    reached = sum(one.cost.bytes * one.runs for one in chosen) / time
    known = ceilings.bandwidth if ceilings else None
    slow = known is not None and reached < NEAR_ROOF * known
    saved = time * (1 - reached / known) if slow and known else None
    share = 100 * time / case.kernel_time
    of_peak = f", {100 * reached / known:.0f} % of the {known:,.0f} GB/s of {ceilings.id}" if known and ceilings else ""
    yield Observation(
        message=f"{share:.1f} % of kernel time are operators that move more than they compute; they reach {reached:,.0f} GB/s{of_peak}. "
        f"The longest is {top.shown} at {top.cost.intensity:.1f} FLOP a byte.",
        measured=share,
        unit="percent of kernel time",
        saves_at_most_ms=None if saved is None else min(saved, case.split.compute) / MS,
        saves_at_most_percent=None if saved is None else case.percent(min(saved, case.split.compute)),
        rows=tuple(f"{one.duration / MS:,.2f} ms {one.shown}: {one.bandwidth:,.0f} GB/s" for one in chosen[:5]),
        severity="warning" if slow and case.percent(saved or 0) >= SHARE else None,
    )
