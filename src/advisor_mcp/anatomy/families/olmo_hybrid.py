"""OLMo Hybrid: three layers of Gated DeltaNet, normalised before, to one of attention, normalised after as in OLMo 2."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.qwen3_next import LAYER_KINDS
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Gated,
    assemble,
    by_kind,
    embedding_block,
    grouped_axes,
    head_block,
)
from advisor_mcp.anatomy.recurrent_delta import DERIVED as DELTA_DERIVED
from advisor_mcp.anatomy.recurrent_delta import GatedDelta, delta_axes, state_dtype
from advisor_mcp.anatomy.variants import POST_NORM, Heads, Order
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("olmo_hybrid",)
# the checkpoint's own names; transformers loads them as input_layernorm and post_attention_layernorm
PRE_NORM = Order(before_attention="attention_layer_norm", before_feed="feedforward_layer_norm")
FULL_EVERY = 4


def describe(c: Config) -> Architecture:
    """A configuration of transformers' OlmoHybridConfig."""
    bias = c.flag("attention_bias")
    attention = Heads(q_bias=bias, kv_bias=bias, o_bias=bias, qk_norm="width")
    delta = GatedDelta("separate", state_dtype(c))

    def layer(b: Draft, kind: str) -> None:
        if kind == "linear":
            PRE_NORM.write(b, delta, Gated(), Span())
        else:
            POST_NORM.write(b, attention, Gated(), Span())

    tied = c.flag("tie_word_embeddings")
    blocks = [embedding_block(), *by_kind(_kinds(c), layer), head_block("model.embed_tokens.weight", tied)]
    return assemble(c, "olmo_hybrid", blocks, _axes(c), GROUPED_DERIVED | DELTA_DERIVED, tied)


def _kinds(c: Config) -> list[str]:
    """The mixers as listed, or every fourth layer full; a short stack has attention in its last layer. Both kinds occur."""
    layers = c.layers()
    kinds = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    if kinds is None:
        kinds = ["linear" if (index + 1) % FULL_EVERY else "full" for index in range(layers)]
        if "full" not in kinds:
            kinds[-1] = "full"
    if len(set(kinds)) < len(LAYER_KINDS):
        raise UsageError("the configuration contradicts itself: OLMo Hybrid has layers of linear and of full attention")
    return kinds


def _axes(c: Config) -> dict[str, int]:
    sizes = grouped_axes(c) | {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    key_heads = c.number("linear_num_key_heads", default=sizes["qh"])
    # absent widths are those of the class: three quarters of hidden_size over the key heads, and twice that for values
    key_dim = c.number("linear_key_head_dim", default=max(1, 3 * sizes["h"] // (4 * key_heads)))
    return sizes | delta_axes(
        c,
        key_heads=key_heads,
        value_heads=c.number("linear_num_value_heads", default=sizes["qh"]),
        key_dim=key_dim,
        value_dim=c.number("linear_value_head_dim", default=2 * key_dim),
        kernel=c.number("linear_conv_kernel_dim", default=4, of="OlmoHybridConfig"),
    )
