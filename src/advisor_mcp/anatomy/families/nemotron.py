"""Decoders with an MLP of two matrices: Nemotron-4 and Minitron, Arcee's AFM, Jais 2."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Plain
from advisor_mcp.anatomy.variants import PRE_NORM, Heads, Order, axes_of, dense, with_ffn

MODEL_TYPES = ("nemotron", "arcee", "jais2")
LAYER_NORM = Order(kind="layer")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' NemotronConfig, ArceeConfig (RMSNorm) or Jais2Config (biased unless told not to)."""
    family = c.text("model_type") or "nemotron"
    biased = family == "jais2"
    bias = c.flag("attention_bias", default=biased)
    attention = Heads(q_bias=bias, kv_bias=bias, o_bias=bias)
    feed = Plain(bias=c.flag("mlp_bias", default=biased))
    order = PRE_NORM if family == "arcee" else LAYER_NORM
    return dense(c, family, attention, feed, with_ffn(c, axes_of(c)), order=order, tied=c.flag("tie_word_embeddings"))
