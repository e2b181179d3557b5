"""SmolLM3: Llama's layer, tied, without rotary positions in every fourth layer (and there a window, where it is used)."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated
from advisor_mcp.anatomy.variants import LAYER_KINDS, Heads, axes_of, dense, spans_of, with_ffn

MODEL_TYPES = ("smollm3",)
CLASS = "SmolLM3Config"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' SmolLM3Config."""
    bias = c.flag("attention_bias")
    attention, feed = Heads(q_bias=bias, kv_bias=bias, o_bias=bias), Gated(bias=c.flag("mlp_bias"))
    sizes, tied = with_ffn(c, axes_of(c, CLASS, kv_heads=4)), c.flag("tie_word_embeddings", default=True)
    spans = spans_of(c, None, CLASS)
    return dense(c, "smollm3", attention, feed, sizes, tied=tied, spans=spans, kinds=_windows(c))


def _windows(c: Config) -> list[str]:
    """Only with `use_sliding_window` are there any: those listed, or the layers without rotary positions."""
    layers = c.layers()
    listed = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    if not c.flag("use_sliding_window"):
        return ["full"] * layers
    if listed is not None:
        return listed
    rotary = c.entries("no_rope_layers", length=layers)
    if rotary is None:
        step = c.number("no_rope_layer_interval", default=4)
        rotary = [(index + 1) % step for index in range(layers)]
    return ["full" if turned else "sliding" for turned in rotary]
