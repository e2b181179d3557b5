"""Phi-3.5-MoE and Phi-mini/tiny-MoE: sixteen experts in every layer, LayerNorm, biases in attention and head where set."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import LLAMA_NAMES, Layer, Projected, decoder, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.mixtral import EXPERTS
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Mixture, expert_axes

MODEL_TYPES = ("phimoe",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' PhimoeConfig; its intermediate_size is the width of one expert."""
    kv_heads = c.number("num_key_value_heads", default=8, of="PhimoeConfig")
    sizes = heads_of(c, kv_heads=kv_heads, head_dim=c.optional("head_dim"))
    sizes |= expert_axes(c, "num_local_experts", width="intermediate_size") | {"vocab": c.number("vocab_size")}
    bias = c.flag("attention_bias")
    attention = Projected(bias=bias, o_bias=bias, rope=True)
    layer = Layer(attention, Mixture(EXPERTS), ("input_layernorm", "post_attention_layernorm"))
    return decoder(
        c, "phimoe", layer, sizes, c.layers(), names=LLAMA_NAMES, tied=c.flag("tie_word_embeddings"),
        head_bias=c.flag("lm_head_bias"), window=c.optional("sliding_window"),
    )  # fmt: skip
