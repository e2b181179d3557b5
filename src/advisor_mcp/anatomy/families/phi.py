"""Phi-1, 1.5 and 2: attention and MLP side by side after one LayerNorm, biases everywhere, in the head too."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Names, Projected, decoder, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture

MODEL_TYPES = ("phi",)
NAMES = Names("model.embed_tokens.weight", None, "model.layers.{layer}.", "model.final_layernorm")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' PhiConfig."""
    sizes = heads_of(c, kv_heads=c.optional("num_key_value_heads"), head_dim=c.optional("head_dim"))
    sizes |= {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    normed = ("q_layernorm", "k_layernorm") if c.flag("qk_layernorm") else None
    attention = Projected(names=("q_proj", "k_proj", "v_proj", "dense"), rope=True, qk_norm=normed)
    layer = Layer(attention, Matrices(), ("input_layernorm",), "parallel")
    tied = c.flag("tie_word_embeddings")
    return decoder(c, "phi", layer, sizes, c.layers(), names=NAMES, tied=tied, head_bias=True)
