"""gpt-oss: biased grouped-query attention with learned sinks, windowed and full in turn, and biased stacked experts."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Experts,
    Grouped,
    Mixture,
    assemble,
    by_kind,
    embedding_block,
    expert_axes,
    head_block,
    pre_norm_layer,
)
from advisor_mcp.anatomy.variants import LAYER_KINDS, axes_of, spans_of

MODEL_TYPES = ("gpt_oss",)
EXPERTS = Experts(router="mlp.router", router_bias=True, prefix="mlp.experts.", layout="stacked", bias=True)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' GptOssConfig; its intermediate_size is the width of one expert."""
    layers = c.layers()
    kinds = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    if kinds is None:
        kinds = ["full" if index % 2 else "sliding" for index in range(layers)]
    spans = spans_of(c, 128, "GptOssConfig")
    bias = c.flag("attention_bias", default=True)
    attention = Grouped(q_bias=bias, kv_bias=bias, o_bias=bias, sinks=True)

    def layer(b: Draft, kind: str) -> None:
        pre_norm_layer(b, attention, Mixture(EXPERTS), spans[kind])

    tied = c.flag("tie_word_embeddings")
    sizes = axes_of(c, "GptOssConfig", kv_heads=8, head_dim=64)
    sizes |= expert_axes(c, "num_local_experts", width="intermediate_size")
    derived = GROUPED_DERIVED | {"gate_up": ((2, ("moe_ffn",)),)}
    blocks = [embedding_block(), *by_kind(kinds, layer), head_block("model.embed_tokens.weight", tied)]
    return assemble(c, "gpt_oss", blocks, sizes, derived, tied, [spans[kind] for kind in dict.fromkeys(kinds)])
