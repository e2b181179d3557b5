"""Mellum 2: normalised queries and keys, experts in the sparse layers, a window in the layers that the file lists."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Experts, Feed, Gated, Mixture, expert_axes
from advisor_mcp.anatomy.variants import LAYER_KINDS, Heads, axes_of, decoder, spans_of

MODEL_TYPES = ("mellum",)
CLASS = "MellumConfig"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MellumConfig; its prediction layer, which no class describes, is named only."""
    layers, bias = c.layers(), c.flag("attention_bias")
    reach = c.layer_kinds("layer_types", layers, LAYER_KINDS) or ["full"] * layers
    mlp = c.layer_kinds("mlp_layer_types", layers, {"sparse": "moe", "dense": "dense"}) or ["moe"] * layers
    sizes = axes_of(c, CLASS, kv_heads=4, head_dim=128)
    feeds: dict[str, Feed] = {"dense": Gated(), "moe": Mixture(Experts())}
    if "moe" in mlp:
        sizes |= expert_axes(c, "num_local_experts")
    if "dense" in mlp:
        sizes["ffn"] = c.number("intermediate_size")
    attention = Heads(q_bias=bias, kv_bias=bias, o_bias=bias, qk_norm="head")
    kinds = [f"{feed}-{span}" for feed, span in zip(mlp, reach, strict=True)]
    spans, tied = spans_of(c, 1024, CLASS), c.flag("tie_word_embeddings")
    return decoder(c, "mellum", kinds, spans, attention, feeds, sizes, tied=tied, not_described=_beside(c))


def _beside(c: Config) -> tuple[str, ...]:
    found = c.number("num_nextn_predict_layers", "num_mtp_layers", default=0, least=0)
    return (
        (f"{found} prediction layer(s), stored in the checkpoint beside the model, are not counted",) if found else ()
    )
