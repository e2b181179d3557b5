"""Bamba: Mamba 2 layers with full attention at a few places, and a gated MLP in every layer."""

from __future__ import annotations

from functools import partial

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Gated,
    Grouped,
    assemble,
    by_kind,
    embedding_block,
    grouped_axes,
    head_block,
)
from advisor_mcp.anatomy.recurrent import MAMBA2_DERIVED, Mamba2, Write, layer_numbers, mixer_layer, prefixed_axes

MODEL_TYPES = ("bamba",)
OF = "BambaConfig"
EMBEDDINGS = "model.embed_tokens.weight"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' BambaConfig; without attn_layer_indices every layer is a Mamba layer."""
    kinds = _kinds(c)
    sizes = grouped_axes(c, OF, kv_heads=None if "num_key_value_heads" in c.data else 8)
    sizes |= prefixed_axes(c, sizes["h"], OF)
    sizes |= {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    bias, proj = c.flag("attention_bias"), c.flag("mamba_proj_bias")
    mixers: dict[str, Write] = {
        "attention": partial(Grouped(q_bias=bias, kv_bias=bias, o_bias=bias).write, span=Span()),
        "mamba": partial(Mamba2(proj, proj, c.flag("mamba_conv_bias", default=True)).write, prefix="mamba."),
    }
    feed = partial(Gated(bias=c.flag("mlp_bias")).write, prefix="feed_forward.")

    def layer(b: Draft, kind: str) -> None:
        mixer_layer(b, mixers[kind], "input_layernorm", feed, "pre_ff_layernorm")

    tied = c.flag("tie_word_embeddings")
    blocks = [
        embedding_block(EMBEDDINGS), *by_kind(kinds, layer), head_block(EMBEDDINGS, tied, "model.final_layernorm")
    ]  # fmt: skip
    return assemble(c, "bamba", blocks, sizes, GROUPED_DERIVED | MAMBA2_DERIVED, tied)


def _kinds(c: Config) -> list[str]:
    layers = c.layers()
    places = layer_numbers(c, "attn_layer_indices", layers) or set()
    return ["attention" if index in places else "mamba" for index in range(layers)]
