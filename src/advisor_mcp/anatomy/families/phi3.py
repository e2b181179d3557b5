"""Phi-3, Phi-3.5 and Phi-4 (also mini): Llama's layer with q-k-v in one matrix and gate and up in another."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import LLAMA_NAMES, Layer, Matrices, Projected, decoder, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture

MODEL_TYPES = ("phi3",)
LAYER = Layer(
    Projected(fused="qkv_proj", bias=False, o_bias=False, rope=True),
    Matrices(names=("gate_up_proj", "down_proj"), bias=False, gated=True),
    ("input_layernorm", "post_attention_layernorm"),
    norm="rms",
)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Phi3Config; a window, where one is set, is over every layer."""
    sizes = heads_of(c, kv_heads=c.optional("num_key_value_heads"), head_dim=c.optional("head_dim"))
    sizes |= {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    tied, window = c.flag("tie_word_embeddings"), c.optional("sliding_window")
    return decoder(c, "phi3", LAYER, sizes, c.layers(), names=LLAMA_NAMES, tied=tied, window=window)
