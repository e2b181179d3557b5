"""InternLM 1: Llama's layer with biased attention projections, where the file does not say otherwise."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated
from advisor_mcp.anatomy.variants import Heads, axes_of, dense, with_ffn

MODEL_TYPES = ("internlm",)


def describe(c: Config) -> Architecture:
    """A configuration of Shanghai AI Laboratory's InternLMConfig."""
    bias = c.flag("bias", default=True)
    attention = Heads(q_bias=bias, kv_bias=bias, o_bias=bias)
    return dense(c, "internlm", attention, Gated(), with_ffn(c, axes_of(c)), tied=c.flag("tie_word_embeddings"))
