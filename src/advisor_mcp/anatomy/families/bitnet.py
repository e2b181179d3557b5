"""BitNet b1.58: Llama's layer with a norm before each output projection; the weights' three values are a matter of storage."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.variants import GatedFeed, Heads, axes_of, dense, heads_fill_hidden, with_ffn

MODEL_TYPES = ("bitnet",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' BitNetConfig."""
    bias = c.flag("attention_bias")
    attention = Heads(q_bias=bias, kv_bias=bias, o_bias=bias, sub_norm="attn_sub_norm")
    sizes = with_ffn(c, axes_of(c, "BitNetConfig", kv_heads=5))
    heads_fill_hidden(sizes)
    feed, tied = GatedFeed(sub_norm="ffn_sub_norm"), c.flag("tie_word_embeddings")
    return dense(c, "bitnet", attention, feed, sizes, tied=tied)
