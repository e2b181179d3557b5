"""Model and hardware FLOP utilisation from a measured speed, under each convention in use."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.formulas.flops import Convention, conventions, hardware_share


@dataclass(frozen=True, slots=True)
class Utilisation:
    """MFU and HFU (fractions) and achieved TFLOP/s per GPU by one convention."""

    convention: Convention
    tflops_per_gpu: float
    mfu: float
    hfu: float


def utilisation(
    architecture: Architecture,
    sequence_length: int,
    tokens_per_s_per_gpu: float,
    peak_tflops: float,
    recompute: str | int,
) -> list[Utilisation]:
    """MFU = FLOPs per token x tokens/s/GPU / peak; HFU counts recomputed forward FLOPs as well (arXiv:2205.05198)."""
    found = []
    for convention in conventions(architecture, sequence_length):
        achieved = convention.flops_per_token * tokens_per_s_per_gpu / 1e12
        mfu = achieved / peak_tflops
        found.append(Utilisation(convention, achieved, mfu, mfu * hardware_share(architecture, convention, recompute)))
    return found
