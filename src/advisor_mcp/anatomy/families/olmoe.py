"""OLMoE and FlexOlmo: experts in every layer, queries and keys normalised over their full width."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import Experts, Mixture, expert_axes
from advisor_mcp.anatomy.variants import POST_NORM, PRE_NORM, Heads, axes_of, decoder, heads_fill_hidden

MODEL_TYPES = ("olmoe", "flex_olmo")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' OlmoeConfig or FlexOlmoConfig (OLMo 2's norms); `intermediate_size` is one expert's."""
    family, bias = c.text("model_type") or "olmoe", c.flag("attention_bias")
    sizes = axes_of(c) | expert_axes(c, "num_experts", "intermediate_size")
    if family == "olmoe":
        heads_fill_hidden(sizes)
    attention = Heads(q_bias=bias, kv_bias=bias, o_bias=bias, qk_norm="width")
    order = POST_NORM if family == "flex_olmo" else PRE_NORM
    kinds = ["moe-full"] * c.layers()
    feeds = {"moe": Mixture(Experts())}
    tied = c.flag("tie_word_embeddings")
    return decoder(c, family, kinds, {"full": Span()}, attention, feeds, sizes, order=order, tied=tied)
