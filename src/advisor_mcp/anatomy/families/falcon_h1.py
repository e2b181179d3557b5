"""Falcon-H1: attention and a Mamba 2 mixer side by side in every layer, reading one norm, their outputs added."""

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
from advisor_mcp.anatomy.recurrent import MAMBA2_DERIVED, Mamba2, mixer_layer, prefixed_axes

MODEL_TYPES = ("falcon_h1",)
OF = "FalconH1Config"
EMBEDDINGS = "model.embed_tokens.weight"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' FalconH1Config; mamba_d_ssm is the mixer's width, unless it is null."""
    sizes = grouped_axes(c, OF, kv_heads=None if "num_key_value_heads" in c.data else 8)
    sizes |= prefixed_axes(c, sizes["h"], OF, inner=_width(c))
    sizes |= {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    bias = c.flag("attention_bias")
    attention = Grouped(q_bias=bias, kv_bias=bias, o_bias=bias)
    mamba = Mamba2(
        c.flag("mamba_proj_bias"),
        c.flag("projectors_bias"),
        c.flag("mamba_conv_bias", default=True),
        norm=c.flag("mamba_rms_norm"),
    )
    feed = partial(Gated(bias=c.flag("mlp_bias")).write, prefix="feed_forward.")

    def both(b: Draft, source: str) -> None:
        mamba.write(b, source, "mamba.", out="ssm")
        attention.write(b, source, Span())
        b.add("ssm", "o", "mixed")

    def layer(b: Draft, kind: str) -> None:
        mixer_layer(b, both, "input_layernorm", feed, "pre_ff_layernorm", mixed="mixed")

    tied = c.flag("tie_word_embeddings")
    blocks = [
        embedding_block(EMBEDDINGS),
        *by_kind(["hybrid"] * c.layers(), layer),
        head_block(EMBEDDINGS, tied, "model.final_layernorm"),
    ]
    return assemble(c, "falcon_h1", blocks, sizes, GROUPED_DERIVED | MAMBA2_DERIVED, tied)


def _width(c: Config) -> int | None:
    if "mamba_d_ssm" in c.data:
        return c.optional("mamba_d_ssm")
    return c.number("mamba_d_ssm", default=1024, of=OF)
