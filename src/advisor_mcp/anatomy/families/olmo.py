"""OLMo 1 to 3: norms without parameters at first, then norms after attention and MLP and over the full width of q and k."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated
from advisor_mcp.anatomy.variants import POST_NORM, Heads, Order, axes_of, dense, every, spans_of, with_ffn

MODEL_TYPES = ("olmo", "olmo2", "olmo3")
UNWEIGHTED = Order(kind="none")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' OlmoConfig, Olmo2Config or Olmo3Config (every fourth layer sees everything)."""
    family, bias = c.text("model_type") or "olmo", c.flag("attention_bias")
    tied = c.flag("tie_word_embeddings")
    sizes = with_ffn(c, axes_of(c))
    if family == "olmo":
        plain = Heads(q_bias=bias, kv_bias=bias, o_bias=bias)
        return dense(c, family, plain, Gated(), sizes, order=UNWEIGHTED, tied=tied)
    attention = Heads(q_bias=bias, kv_bias=bias, o_bias=bias, qk_norm="width")
    if family == "olmo2":
        return dense(c, family, attention, Gated(), sizes, order=POST_NORM, tied=tied)
    spans = spans_of(c, 4096, "Olmo3Config")
    return dense(c, family, attention, Gated(), sizes, order=POST_NORM, tied=tied, spans=spans, kinds=every(c, 4))
