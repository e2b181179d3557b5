"""Command-R and Command-R7B/A: attention and MLP side by side behind one LayerNorm without bias, tied embeddings."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated
from advisor_mcp.anatomy.variants import Heads, Order, axes_of, dense, every, spans_of, with_ffn

MODEL_TYPES = ("cohere", "cohere2")
PARALLEL = Order(before_feed="", kind="layer_no_bias", parallel=True)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' CohereConfig (Command-R+ normalises q and k per head) or Cohere2Config."""
    family = c.text("model_type") or "cohere"
    bias = c.flag("attention_bias")
    normed = family == "cohere" and c.flag("use_qk_norm")
    attention = Heads(q_bias=bias, kv_bias=bias, o_bias=bias, qk_norm="heads" if normed else "")
    tied = c.flag("tie_word_embeddings", default=True)
    sizes = with_ffn(c, axes_of(c))
    if family == "cohere":
        return dense(c, family, attention, Gated(), sizes, order=PARALLEL, tied=tied)
    spans = spans_of(c, 4096, "Cohere2Config")
    return dense(c, family, attention, Gated(), sizes, order=PARALLEL, tied=tied, spans=spans, kinds=windows(c))


def windows(c: Config) -> list[str]:
    """Every fourth layer sees everything, unless the file lists the layers or gives another pattern."""
    return every(c, c.number("sliding_window_pattern", "_sliding_window_pattern", default=4))
