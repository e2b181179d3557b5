"""MiniMax M2: grouped-query attention with norms over the whole width of queries and keys, and experts in every layer."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Experts, grouped_axes
from advisor_mcp.anatomy.sparse import Beside, Filled, Layer, Varied, mixture, mixture_axes, stack, varied_derived
from advisor_mcp.errors import CannotAnswer, shown

MODEL_TYPES = ("minimax_m2",)
MOE = "block_sparse_moe."
EXPERTS = Experts(f"{MOE}gate", prefix=f"{MOE}experts.{{expert}}.", names=("w1", "w3", "w2"))
DEFAULTS = {
    "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128, "num_local_experts": 256, "num_experts_per_tok": 8,
    "intermediate_size": 1536,
}  # fmt: skip


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MiniMaxM2Config (5.23.0); its intermediate_size is the width of one expert.

    Its num_mtp_modules name prediction layers that the published checkpoints do not hold.
    """
    f = Filled(c, "MiniMaxM2Config", DEFAULTS)
    layers = f.layers()
    _refuse_variants(f, layers)
    sizes = grouped_axes(f, head_dim=DEFAULTS["head_dim"]) | {"vocab": f.number("vocab_size")}
    sizes |= mixture_axes(f, "num_local_experts", None, "intermediate_size")
    table = {"moe": Layer(Varied(qk_norm="width"), mixture(sizes, EXPERTS))}
    beside = Beside(f"{MOE}e_score_correction_bias")
    return stack(c, "minimax_m2", ["moe"] * layers, table, sizes, varied_derived(), beside=beside)


def _refuse_variants(f: Filled, layers: int) -> None:
    kinds = f.entries("attn_type_list", length=layers) or []
    if any(kind != 1 for kind in kinds):
        raise CannotAnswer(f"attn_type_list names attention other than kind 1 ({shown(kinds)}), which is not described")
    if not f.flag("use_qk_norm", default=True) or f.number("shared_intermediate_size", default=0, least=0):
        raise CannotAnswer("MiniMax M2 is described with use_qk_norm and without shared experts")
