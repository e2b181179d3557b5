"""Gemma 1: Llama's layer with a head size of its own, a GELU gate and the embedding as head."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.llama import dense
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.multimodal import with_fields
from advisor_mcp.anatomy.parts import Gated, Grouped

MODEL_TYPES = ("gemma",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' GemmaConfig."""
    bias = c.flag("attention_bias")
    c = with_fields(
        c,
        num_key_value_heads=c.number("num_key_value_heads", default=16, of="GemmaConfig"),
        head_dim=c.number("head_dim", default=256, of="GemmaConfig"),
        tie_word_embeddings=c.flag("tie_word_embeddings", default=True),
    )
    return dense(c, "gemma", Grouped(q_bias=bias, kv_bias=bias, o_bias=bias), Gated())
