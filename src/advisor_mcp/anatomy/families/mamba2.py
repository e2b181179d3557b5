"""Mamba 2 and Codestral Mamba: nothing but norms and state spaces with one decay per head."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Draft, assemble, by_kind, embedding_block, head_block
from advisor_mcp.anatomy.recurrent import MAMBA2_DERIVED, Mamba2, expanded, mamba2_axes, mixer_layer

MODEL_TYPES = ("mamba2",)
OF = "Mamba2Config"
EMBEDDINGS = "backbone.embeddings.weight"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Mamba2Config; its class has the gated norm whatever rms_norm says."""
    h = c.number("hidden_size")
    sizes = {"h": h, "vocab": c.number("vocab_size")} | mamba2_axes(
        c,
        c.number("num_heads", default=128, of=OF),
        c.number("head_dim", default=64, of=OF),
        c.number("n_groups", default=8, of=OF),
        c.number("state_size", default=128, of=OF),
        c.number("conv_kernel", default=4, of=OF),
        expanded(c, h, OF),
    )
    bias = c.flag("use_bias")
    mixer = Mamba2(bias, bias, c.flag("use_conv_bias", default=True))

    def layer(b: Draft, kind: str) -> None:
        mixer_layer(b, mixer.write, "norm")

    tied = c.flag("tie_word_embeddings")
    blocks = [
        embedding_block(EMBEDDINGS),
        *by_kind(["mamba"] * c.layers(), layer, "backbone.layers.{layer}."),
        head_block(EMBEDDINGS, tied, "backbone.norm_f"),
    ]
    return assemble(c, "mamba2", blocks, sizes, MAMBA2_DERIVED, tied, spans=())
