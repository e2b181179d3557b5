"""Llama's layer under another name, and what the defaults of those classes are: IQuest-Coder, InternLM 3."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated
from advisor_mcp.anatomy.variants import Heads, axes_of, dense, with_ffn

MODEL_TYPES = ("iquestcoder", "internlm3")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' IQuestCoderConfig or InternLM3Config (`qkv_bias`, and `bias` for all others)."""
    family = c.text("model_type") or "iquestcoder"
    tied = c.flag("tie_word_embeddings")
    if family == "internlm3":
        qkv, rest = c.flag("qkv_bias", "attention_bias"), c.flag("bias", "mlp_bias")
        sizes = with_ffn(c, axes_of(c, "InternLM3Config", kv_heads=2, head_dim=128))
        return dense(c, family, Heads(q_bias=qkv, kv_bias=qkv, o_bias=rest), Gated(bias=rest), sizes, tied=tied)
    bias = c.flag("attention_bias")
    sizes = with_ffn(c, axes_of(c, "IQuestCoderConfig", kv_heads=8, head_dim=128))
    attention = Heads(q_bias=bias, kv_bias=bias, o_bias=bias)
    return dense(c, family, attention, Gated(bias=c.flag("mlp_bias")), sizes, tied=tied)
