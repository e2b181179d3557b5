"""GPT-NeoX and Pythia: one q-k-v matrix, rotary positions, attention and MLP side by side after a LayerNorm each."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Names, Projected, decoder, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture

MODEL_TYPES = ("gpt_neox",)
NAMES = Names(
    "gpt_neox.embed_in.weight", layer="gpt_neox.layers.{layer}.", norm="gpt_neox.final_layer_norm", head="embed_out"
)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' GPTNeoXConfig."""
    bias = c.flag("attention_bias", default=True)
    sizes = heads_of(c) | {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    layer = Layer(
        Projected("attention.", ("", "", "", "dense"), "query_key_value", bias, bias, rope=True),
        Matrices(names=("dense_h_to_4h", "dense_4h_to_h")),
        ("input_layernorm", "post_attention_layernorm"),
        "parallel" if c.flag("use_parallel_residual", default=True) else "pre",
    )
    return decoder(c, "gpt_neox", layer, sizes, c.layers(), names=NAMES, tied=c.flag("tie_word_embeddings"))
