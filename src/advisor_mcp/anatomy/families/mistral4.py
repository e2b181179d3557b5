"""Mistral Small 4: latent attention and stacked experts, all layers alike unless the first ones are dense."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Experts, Gated, Latent
from advisor_mcp.anatomy.sparse import (
    LATENT_DERIVED,
    Filled,
    Layer,
    dense_first,
    latent_axes,
    mixture,
    mixture_axes,
    stack,
)

MODEL_TYPES = ("mistral4",)
DEFAULTS = {
    "q_lora_rank": 1024, "kv_lora_rank": 256, "qk_rope_head_dim": 64, "qk_nope_head_dim": 64, "v_head_dim": 128,
    "moe_intermediate_size": 2048, "n_shared_experts": 1, "n_routed_experts": 128, "num_experts_per_tok": 4,
    "first_k_dense_replace": 0,
}  # fmt: skip
EXPERTS = Experts(prefix="mlp.experts.", layout="stacked_out_in")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Mistral4Config."""
    f = Filled(c, "Mistral4Config", DEFAULTS)
    q_rank = f.unless_null("q_lora_rank")
    sizes = latent_axes(f, q_rank) | {"vocab": f.number("vocab_size")}
    kinds = dense_first(f, f.number("first_k_dense_replace", least=0))
    attention = Latent(q_compressed=q_rank is not None, bias=f.flag("attention_bias"))
    table, derived = {"dense": Layer(attention, Gated())}, LATENT_DERIVED
    if "dense" in kinds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in kinds:
        sizes |= mixture_axes(f)
        table["moe"] = Layer(attention, mixture(sizes, EXPERTS))
        derived = LATENT_DERIVED | {"gate_up": ((2, ("moe_ffn",)),)}
    return stack(c, "mistral4", kinds, table, sizes, derived)
