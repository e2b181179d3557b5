"""TeleChat 1 and 2: keys and values in one matrix, and biases on the two projections that end attention and MLP."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.variants import GatedFeed, Heads, Names, dense
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = ("telechat",)
NAMES = Names("transformer.word_embeddings.weight", "transformer.h.{layer}.", "transformer.ln_f")
ATTENTION = Heads(o_bias=True, fused_kv="key_value", names=("query", "", "", "dense"), prefix="self_attention.")
FEED = GatedFeed(down_bias=True)


def describe(c: Config) -> Architecture:
    """A configuration of TeleAI's TelechatConfig, which ties the embeddings where the file does not say."""
    if c.flag("embed_layernorm"):
        raise CannotAnswer("embed_layernorm is true, and a norm of the embeddings is not described for TeleChat")
    h, heads = c.number("n_embed", "hidden_size"), c.number("n_head", "num_attention_heads")
    kv = c.number("num_key_value_heads", default=heads)
    c.divides(heads, kv, "the KV heads do not divide the attention heads")
    sizes = {
        "h": h, "qh": heads, "kvh": kv, "hd": c.divides(h, heads, "the heads do not divide hidden_size"),
        "ffn": c.number("ffn_hidden_size", "intermediate_size"), "vocab": c.number("vocab_size"),
    }  # fmt: skip
    kinds = ["full"] * c.layers("n_layer", "num_hidden_layers")
    tied = c.flag("tie_word_embeddings", default=True)
    return dense(c, "telechat", ATTENTION, FEED, sizes, names=NAMES, tied=tied, kinds=kinds)
