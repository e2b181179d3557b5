"""Orion: Llama's layer with LayerNorm."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated
from advisor_mcp.anatomy.variants import Heads, Order, axes_of, dense, with_ffn

MODEL_TYPES = ("orion",)


def describe(c: Config) -> Architecture:
    """A configuration of OrionStar's OrionConfig."""
    order, tied = Order(kind="layer"), c.flag("tie_word_embeddings")
    return dense(c, "orion", Heads(), Gated(), with_ffn(c, axes_of(c)), order=order, tied=tied)
