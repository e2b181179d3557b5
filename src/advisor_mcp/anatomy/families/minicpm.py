"""MiniCPM 1, 2 and 4: Llama's layer with multipliers (no parameters), tied, dense or with experts."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import Experts, Feed, Gated, Mixture, expert_axes
from advisor_mcp.anatomy.variants import Heads, axes_of, decoder, with_ffn

MODEL_TYPES = ("minicpm",)
EXPERTS = Experts(names=("w1", "w3", "w2"))


def describe(c: Config) -> Architecture:
    """A configuration of OpenBMB's MiniCPMConfig; with experts, `intermediate_size` is the width of one.

    MiniCPM 4's sparse attention selects among the cached keys and adds no parameters.
    """
    experts = c.optional("num_experts", least=0)
    sizes = axes_of(c)
    sizes = sizes | expert_axes(c, "num_experts", "intermediate_size") if experts else with_ffn(c, sizes)
    bias = c.flag("attention_bias")
    attention = Heads(q_bias=bias, kv_bias=bias, o_bias=bias)
    feed: Feed = Mixture(EXPERTS) if experts else Gated()
    kinds, tied = ["layer-full"] * c.layers(), c.flag("tie_word_embeddings", default=True)
    return decoder(c, "minicpm", kinds, {"full": Span()}, attention, {"layer": feed}, sizes, tied=tied)
