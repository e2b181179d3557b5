"""XGLM: OPT's layer with sinusoidal positions, which are computed and not stored."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import (
    Layer,
    Matrices,
    Names,
    Projected,
    decoder,
    heads_of,
    without_cross_attention,
)
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture

MODEL_TYPES = ("xglm",)
NAMES = Names("model.embed_tokens.weight", None, "model.layers.{layer}.", "model.layer_norm")
LAYER = Layer(
    Projected(names=("q_proj", "k_proj", "v_proj", "out_proj")),
    Matrices(""),
    ("self_attn_layer_norm", "final_layer_norm"),
)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' XGLMConfig."""
    without_cross_attention(c)
    sizes = heads_of(c, ("hidden_size", "d_model"), ("num_attention_heads", "attention_heads"))
    sizes |= {"ffn": c.number("ffn_dim"), "vocab": c.number("vocab_size")}
    layers = c.layers("num_hidden_layers", "num_layers")
    tied = c.flag("tie_word_embeddings", default=True)
    return decoder(c, "xglm", LAYER, sizes, layers, names=NAMES, tied=tied)
