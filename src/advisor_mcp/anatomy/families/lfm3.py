"""LFM3: gated short convolutions between attention over a window and over everything, with norms before and after each part."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.lfm2 import MATRICES, ShortConvolution
from advisor_mcp.anatomy.inventory import Architecture, Span, Terms
from advisor_mcp.anatomy.parts import Draft, grouped_axes
from advisor_mcp.anatomy.sparse import Layer, Varied, stack, varied_derived
from advisor_mcp.anatomy.variants import GatedFeed, Names, Order, spans_of
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("lfm3",)
OF = "Lfm3Config"
KINDS = {"conv": "conv", "full_attention": "full", "sliding_attention": "sliding"}
PRE = Order("operator_norm", "", "ffn_norm")
SANDWICH = Order("operator_norm", "post_operator_norm", "ffn_norm", "post_ffn_norm")


@dataclass(frozen=True, slots=True)
class Convolution:
    """The short convolution where other layers have attention."""

    bias: bool

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the convolution, which sees as far as its kernel does."""
        ShortConvolution(self.bias).write(b, source)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Lfm3Config (5.23.0); tensor names are those of the published checkpoints."""
    sizes = grouped_axes(c, OF, heads=16, kv_heads=4, head_dim=128) | {"vocab": c.number("vocab_size")}
    sizes |= {"ffn": c.number("intermediate_size"), "inner": sizes["h"]}
    sizes["conv_kernel"] = c.number("conv_L_cache", default=7, of=OF)
    kinds, spans, bias = _kinds(c), spans_of(c, 256, OF), c.flag("attention_bias")
    if "sliding" in kinds and spans["sliding"].window is None:
        raise UsageError("sliding_window in the configuration is null, but some of its layers see a window")
    gate = "gate_proj" if c.flag("use_attention_gate", default=True) else ""
    attention = Varied(qkv_bias=bias, o_bias=bias, qk_norm="head", gate=gate)
    feed = GatedFeed(MATRICES, "feed_forward.")
    table = {"conv": Layer(Convolution(c.flag("conv_bias")), feed)}
    table |= {kind: Layer(attention, feed, span) for kind, span in spans.items()}
    derived: dict[str, Terms] = varied_derived() | {"b_c_x": ((3, ("inner",)),)}
    order = SANDWICH if c.flag("use_sandwich_norm", default=True) else PRE
    names = Names(norm="model.embedding_norm")
    tied = c.flag("tie_word_embeddings", default=True)
    return stack(c, "lfm3", kinds, table, sizes, derived, order=order, names=names, tied=tied)


def _kinds(c: Config) -> list[str]:
    """Listed; or of four layers one with a window (not the first), one that sees everything, and two convolutions."""
    layers = c.layers()
    pattern = ("sliding", "conv", "full", "conv")
    found = [pattern[index % 4] if index else "conv" for index in range(layers)]
    return c.layer_kinds("layer_types", layers, KINDS) or found
