"""Granite 3, dense: Llama's layer with multipliers (no parameters); the windowed kind alternates spans and has sinks."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated
from advisor_mcp.anatomy.variants import LAYER_KINDS, Heads, axes_of, dense, spans_of, with_ffn

MODEL_TYPES = ("granite", "granite_swa")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' GraniteConfig or GraniteSWAConfig."""
    family, feed = c.text("model_type") or "granite", Gated(bias=c.flag("mlp_bias"))
    if family == "granite":
        return dense(c, family, attention(c), feed, with_ffn(c, axes_of(c)), tied=c.flag("tie_word_embeddings"))
    sizes = with_ffn(c, axes_of(c, "GraniteSWAConfig", kv_heads=4))
    spans, tied = spans_of(c, 128, "GraniteSWAConfig"), c.flag("tie_word_embeddings", default=True)
    return dense(c, family, attention(c, sinks=True), feed, sizes, tied=tied, spans=spans, kinds=windows(c))


def attention(c: Config, sinks: bool = False) -> Heads:
    """Granite's attention: all four projections are biased, or none is."""
    bias = c.flag("attention_bias")
    return Heads(q_bias=bias, kv_bias=bias, o_bias=bias, sinks=sinks)


def windows(c: Config) -> list[str]:
    """Layers 0, 4, 8, ... see everything, unless the file lists the layers."""
    layers = c.layers()
    listed = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    return listed or ["sliding" if index % 4 else "full" for index in range(layers)]
