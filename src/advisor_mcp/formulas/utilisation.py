"""Model and hardware FLOP utilisation from a measured speed, under each convention in use."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.errors import UsageError
from advisor_mcp.formulas.flops import Convention, conventions, hardware_share

FASTEST = 1e12  # tokens/s per GPU; a model of one million parameters would need 6 x 10^18 FLOP/s for it


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
    """MFU = FLOPs per token x tokens/s/GPU / peak; HFU counts recomputed forward FLOPs as well (arXiv:2205.05198).

    Raises `UsageError` for a speed that no GPU can have (0, not finite, or above `FASTEST`).
    """
    if not 0 < tokens_per_s_per_gpu <= FASTEST:
        raise UsageError(
            f"{tokens_per_s_per_gpu:g} tokens/s per GPU is not possible (above 0 and at most {FASTEST:g} can be); "
            "check the unit of the speed"
        )
    found = []
    for convention in conventions(architecture, sequence_length):
        achieved = convention.flops_per_token * tokens_per_s_per_gpu / 1e12
        mfu = achieved / peak_tflops
        found.append(Utilisation(convention, achieved, mfu, mfu * hardware_share(architecture, convention, recompute)))
    return found


def doubts(rows: list[Utilisation], dtype: str) -> list[str]:
    """What speaks against the figures, one sentence each.

    Only `matmul_causal` (the first row) counts no FLOP that the model could do without, so only it can prove a speed
    impossible; six_n_total says nothing about a mixture of experts and is left out there.
    """
    needed = rows[0]
    check = "check gpu_count, the unit of the speed, sequence_length and dtype"
    found = []
    if needed.mfu > 1:
        found.append(f"over 100 % of the {dtype} peak is not possible: {check}")
    elif needed.hfu > 1:
        found.append(
            f"with recomputation over 100 % of the {dtype} peak, which is not possible: {check}, and recompute"
        )
    elif needed.mfu > 0.75:
        found.append("above 75 % MFU no published run is known here: check gpu_count, the unit of the speed and dtype")
    share = total_over_active(rows)
    above = [r.convention.id for r in rows if r.mfu > 1 and (share == 1 or r.convention.id != "six_n_total")]
    if above and needed.mfu <= 1:
        found.append(
            f"over 100 % by {' and '.join(above)}: they count FLOPs that the model can do without; go by matmul_causal"
        )
    if share > 1:
        found.append(
            f"six_n_total overstates: 6N over all parameters counts {share:.3g} times those that a token uses; go by six_n_active"
        )
    return found


def total_over_active(rows: list[Utilisation]) -> float:
    """All parameters over those that a token uses: 1 for a dense model, above 1 for a mixture of experts."""
    per_token = {row.convention.id: row.convention.flops_per_token for row in rows}
    return per_token["six_n_total"] / per_token["six_n_active"]
