"""EXAONE 3 and 3.5: Llama's layer under GPT-2's names."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.variants import GatedFeed, Heads, Names, Order, axes_of, dense, with_ffn

MODEL_TYPES = ("exaone",)
ORDER = Order(before_attention="ln_1", before_feed="ln_2")
NAMES = Names("transformer.wte.weight", "transformer.h.{layer}.", "transformer.ln_f")
ATTENTION = Heads(names=("q_proj", "k_proj", "v_proj", "out_proj"), prefix="attn.attention.")
FEED = GatedFeed(names=("c_fc_0", "c_fc_1", "c_proj"))


def describe(c: Config) -> Architecture:
    """A configuration of LG AI Research's ExaoneConfig, which ties the embeddings where the file does not say."""
    sizes, tied = with_ffn(c, axes_of(c)), c.flag("tie_word_embeddings", default=True)
    kinds = ["full"] * c.layers("num_layers", "num_hidden_layers")
    return dense(c, "exaone", ATTENTION, FEED, sizes, order=ORDER, names=NAMES, tied=tied, kinds=kinds)
