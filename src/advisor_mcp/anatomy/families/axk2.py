"""SKT's A.X K2: DeepSeek-V3.2's sparse latent attention with an output gate, and norms scaled by a gate of low rank."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.axk1 import PREDICTION, feeds
from advisor_mcp.anatomy.inventory import Architecture, Cache, Span, Terms
from advisor_mcp.anatomy.parts import Draft, Gated, attend
from advisor_mcp.anatomy.sparse import (
    INDEX_DERIVED,
    LATENT_DERIVED,
    Beside,
    Filled,
    Layer,
    index_axes,
    indexer,
    latent_axes,
    mixture,
    mixture_axes,
    prediction_layers,
    stack,
)
from advisor_mcp.anatomy.variants import Order

MODEL_TYPES = ("axk2",)
DEFAULTS = {
    "num_attention_heads": 32, "kv_lora_rank": 128, "q_lora_rank": 384, "qk_rope_head_dim": 32, "v_head_dim": 64,
    "qk_nope_head_dim": 64, "index_topk": 2048, "index_head_dim": 128, "index_n_heads": 16, "gated_norm_rank": 16,
    "n_routed_experts": 128, "n_shared_experts": 1, "num_experts_per_tok": 8, "moe_intermediate_size": 512,
}  # fmt: skip
DENSE = Order(gated=("input_layernorm",))
SPARSE = Order(gated=("input_layernorm", "post_attention_layernorm"))
DERIVED: dict[str, Terms] = (
    LATENT_DERIVED
    | INDEX_DERIVED
    | {
        "q_twice": ((2, ("q_rank",)),),
        "q_and_gate": ((1, ("qh", "nope_dim")), (1, ("qh", "rope_dim")), (1, ("qh", "v_dim"))),
    }
)


@dataclass(frozen=True, slots=True)
class GatedLatent:
    """Latent attention over the positions that an indexer picks.

    Queries and the gate of the output come of one product, which reads the compressed queries before and after their norm.
    """

    bias: bool

    def write(self, b: Draft, source: str, span: Span, prefix: str = "self_attn.") -> None:
        """Add the projections, the indexer, the attention over what it picked, its gate, and both caches."""
        b.linear(f"{prefix}q_a_proj", source, "qa", ("q_rank", "h"), "attention", self.bias)
        b.norm(f"{prefix}q_a_layernorm", "qa", "qan", axis="q_rank")
        b.op("concatenate", ("qan", "qa"), "qa2", (*b.tokens, "q_twice"))
        b.linear(f"{prefix}q_b_proj", "qa2", "qg", ("q_and_gate", "q_twice"), "attention")
        b.linear(f"{prefix}kv_a_proj_with_mqa", source, "kva", ("latent", "h"), "attention", self.bias)
        b.norm(f"{prefix}kv_a_layernorm", "kva", "kvan", axis="kv_rank")
        b.linear(f"{prefix}kv_b_proj", "kvan", "kvb", ("kv_up", "kv_rank"), "attention")
        b.op("rope", ("qg", "kva"), "qr", (*b.tokens, "q"))
        indexer(b, source, f"{prefix}indexer.")
        attend(b, span, key_dim="qk_dim", value_dim="v_dim", reads=("qr", "kva", "kvb", "picked"))
        b.caches.append(Cache("full", entry=((1, ("index_hd",)),)))
        b.caches.append(Cache("latent", entry=((1, ("latent",)),)))
        b.op("gate", ("att", "qg"), "gated", (*b.tokens, "v"))
        b.linear(f"{prefix}o_proj", "gated", "o", ("h", "v"), "attention", self.bias)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' AXK2Config (5.23.0); tensor names are those of the published checkpoints."""
    f = Filled(c, "AXK2Config", DEFAULTS)
    sizes = latent_axes(f, f.number("q_lora_rank")) | index_axes(f) | {"vocab": f.number("vocab_size")}
    sizes["gate_rank"] = f.number("gated_norm_rank")
    kinds, attention = feeds(f), GatedLatent(f.flag("attention_bias"))
    picked = Span(window=sizes["index_topk"])
    table = {"dense": Layer(attention, Gated(), picked, DENSE)}
    if "dense" in kinds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in kinds:
        sizes |= mixture_axes(f)
        table["moe"] = Layer(attention, mixture(sizes), picked, SPARSE)
    missing = (PREDICTION,) if prediction_layers(f) else ()
    beside = Beside()
    return stack(f, "axk2", kinds, table, sizes, DERIVED, beside=beside, spans=[Span()], not_described=missing)
