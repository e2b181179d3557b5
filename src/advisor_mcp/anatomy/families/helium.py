"""Helium: Llama's layer with an output projection as wide as the hidden size and never biased."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated
from advisor_mcp.anatomy.variants import Heads, axes_of, dense, heads_fill_hidden, with_ffn

MODEL_TYPES = ("helium",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' HeliumConfig."""
    bias = c.flag("attention_bias")
    sizes = with_ffn(c, axes_of(c, "HeliumConfig", kv_heads=20, head_dim=128))
    heads_fill_hidden(sizes)
    attention = Heads(q_bias=bias, kv_bias=bias)
    return dense(c, "helium", attention, Gated(bias=c.flag("mlp_bias")), sizes, tied=c.flag("tie_word_embeddings"))
