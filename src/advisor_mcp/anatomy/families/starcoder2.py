"""StarCoder2: grouped-query attention and a plain GELU MLP with biases, LayerNorm, a window over every layer where one is set."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import LLAMA_NAMES, Layer, Matrices, Projected, decoder, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture

MODEL_TYPES = ("starcoder2",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Starcoder2Config, whose embeddings are tied unless the file says otherwise."""
    kv_heads = c.number("num_key_value_heads", default=2, of="Starcoder2Config")
    sizes = heads_of(c, kv_heads=kv_heads, head_dim=c.optional("head_dim"))
    sizes |= {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    bias = c.flag("use_bias", default=True)
    layer = Layer(
        Projected(bias=bias, o_bias=bias, rope=True),
        Matrices(names=("c_fc", "c_proj"), bias=bias),
        ("input_layernorm", "post_attention_layernorm"),
    )
    tied, window = c.flag("tie_word_embeddings", default=True), c.optional("sliding_window")
    if not c.given("tie_word_embeddings"):
        c.notes.append("tie_word_embeddings is absent: true, the default of Starcoder2Config")
    return decoder(c, "starcoder2", layer, sizes, c.layers(), names=LLAMA_NAMES, tied=tied, window=window)
