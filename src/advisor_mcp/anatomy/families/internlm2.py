"""InternLM 2 and 2.5: Llama's layer with one fused q-k-v matrix, under other names."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.variants import GatedFeed, Heads, Names, Order, axes_of, dense, with_ffn

MODEL_TYPES = ("internlm2",)
ORDER = Order(before_attention="attention_norm", before_feed="ffn_norm")
NAMES = Names("model.tok_embeddings.weight", head="output")
FEED = GatedFeed(names=("w1", "w3", "w2"), prefix="feed_forward.")


def describe(c: Config) -> Architecture:
    """A configuration of Shanghai AI Laboratory's InternLM2Config; its `bias` is that of the attention alone."""
    bias = c.flag("bias", default=True)
    attention = Heads(q_bias=bias, o_bias=bias, fused="wqkv", names=("", "", "", "wo"), prefix="attention.")
    sizes, tied = with_ffn(c, axes_of(c)), c.flag("tie_word_embeddings")
    return dense(c, "internlm2", attention, FEED, sizes, order=ORDER, names=NAMES, tied=tied)
