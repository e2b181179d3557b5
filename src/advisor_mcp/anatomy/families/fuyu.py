"""Fuyu: a Persimmon decoder that reads patches of pixels through one matrix, without a tower."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.persimmon import describe as persimmon
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.multimodal import decoder_config, joined, with_fields
from advisor_mcp.anatomy.nested import INSIDE
from advisor_mcp.anatomy.parts import Draft

MODEL_TYPES = ("fuyu",)
TEXT = {
    "vocab_size": 262144, "intermediate_size": 16384, "num_hidden_layers": 36, "num_attention_heads": 64
}  # fmt: skip


def describe(c: Config) -> Architecture:
    """A configuration of transformers' FuyuConfig, whose decoder stands at the top level of older files."""
    text = decoder_config(c, "PersimmonConfig", TEXT)
    inner = persimmon(with_fields(text, model_type="persimmon", tie_word_embeddings=c.flag("tie_word_embeddings")))
    side = c.number("patch_size", default=30, of="FuyuConfig")
    pixels = side * side * c.number("num_channels", default=3)
    b = Draft("vision-embedding", "", ("images", "vision.patches"))
    b.linear("vision_embed_tokens", "pixels", "soft", (inner.sizes["h"], "vision.pixels"), "vision", bias=True)
    return joined(c, "fuyu", inner, [b.block((0,), "vision")], {"vision.pixels": pixels}, INSIDE)
