"""VaultGemma: Gemma 2 without the norms after attention and MLP."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated
from advisor_mcp.anatomy.variants import Heads, Order, axes_of, dense, every, spans_of, with_ffn

MODEL_TYPES = ("vaultgemma",)
CLASS = "VaultGemmaConfig"
ORDER = Order(before_feed="pre_feedforward_layernorm")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' VaultGemmaConfig: a window in every other layer."""
    bias = c.flag("attention_bias")
    attention = Heads(q_bias=bias, kv_bias=bias, o_bias=bias)
    sizes = with_ffn(c, axes_of(c, CLASS, kv_heads=4, head_dim=256))
    spans, tied = spans_of(c, 4096, CLASS), c.flag("tie_word_embeddings", default=True)
    return dense(c, "vaultgemma", attention, Gated(), sizes, order=ORDER, tied=tied, spans=spans, kinds=every(c, 2))
