"""inclusionAI's Ling and Ring, 1 and 2: q, k and v in one matrix, and experts with shared ones in all or all but first layers.

Their classes come with the checkpoints; transformers 5.23.0 has none.
"""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated, grouped_axes
from advisor_mcp.anatomy.sparse import (
    FUSED_DERIVED,
    Ahead,
    Beside,
    Fused,
    Layer,
    dense_first,
    mixture,
    mixture_axes,
    prediction_layers,
    stack,
)
from advisor_mcp.anatomy.variants import Names
from advisor_mcp.errors import CannotAnswer, shown

MODEL_TYPES = ("bailing_moe", "bailing_moe_v2")
NAMES = Names(embedding="model.word_embeddings.weight")
NORMS = ("query_layernorm", "key_layernorm")


def describe(c: Config) -> Architecture:
    """A BailingMoeConfig or BailingMoeV2Config (Ling, Ring): the second normalises q and k and may balance by a bias."""
    family = c.text("model_type") or "bailing_moe"
    if (router := c.text("router_type")) not in (None, "topN"):
        raise CannotAnswer(f"router_type is {shown(router)}; Ling is described with one router a layer (topN)")
    sizes = grouped_axes(c) | {"vocab": c.number("vocab_size")}
    kinds = dense_first(c, c.number("first_k_dense_replace", default=0, least=0))
    attention = Fused("attention.", c.flag("use_qkv_bias"), c.flag("use_bias"), NORMS if c.flag("use_qk_norm") else ())
    table = {"dense": Layer(attention, Gated())}
    if "dense" in kinds:
        sizes["ffn"] = c.number("intermediate_size")
    if "moe" in kinds:
        sizes |= mixture_axes(c, "num_experts", "num_shared_experts")
        if "shared_ffn" in sizes:
            sizes["shared_ffn"] = c.number("moe_shared_expert_intermediate_size", default=sizes["shared_ffn"])
        table["moe"] = Layer(attention, mixture(sizes))
    bias = c.flag("moe_router_enable_expert_bias", default=c.flag("use_expert_bias"))
    beside = Beside(
        "mlp.gate.expert_bias" if bias else None, prediction_layers(c), ahead=Ahead(last_norm="final_layernorm")
    )
    return stack(c, family, kinds, table, sizes, FUSED_DERIVED, names=NAMES, beside=beside)
