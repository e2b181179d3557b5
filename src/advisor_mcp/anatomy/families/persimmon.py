"""Persimmon: one q-k-v matrix with biases, q and k normalised per head, a plain squared-ReLU MLP."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Names, Projected, decoder, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture

MODEL_TYPES = ("persimmon",)
NAMES = Names("model.embed_tokens.weight", None, "model.layers.{layer}.", "model.final_layernorm")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' PersimmonConfig."""
    sizes = heads_of(c) | {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    normed = ("q_layernorm", "k_layernorm") if c.flag("qk_layernorm", default=True) else None
    layer = Layer(
        Projected(names=("", "", "", "dense"), fused="query_key_value", rope=True, qk_norm=normed),
        Matrices(names=("dense_h_to_4h", "dense_4h_to_h")),
        ("input_layernorm", "post_attention_layernorm"),
    )
    return decoder(c, "persimmon", layer, sizes, c.layers(), names=NAMES, tied=c.flag("tie_word_embeddings"))
