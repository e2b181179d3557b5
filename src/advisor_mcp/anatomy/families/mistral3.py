"""Mistral Small 3.1 and Ministral 3 with images: a Mistral decoder behind a Pixtral vision tower."""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy import towers
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.mistral import describe as mistral
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = ("mistral3",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Mistral3Config."""
    text, vision = c.part("text_config"), c.part("vision_config")
    if text is None:
        raise CannotAnswer("the configuration has no text_config, which this model type needs", needs=["text_config"])
    decoder = mistral(text)
    if vision is None:
        return decoder
    sizes: dict[str, int] = {}
    merge = c.number("spatial_merge_size", default=2)
    blocks = towers.pixtral(vision, decoder.sizes["h"], merge, c.flag("multimodal_projector_bias"), sizes)
    return replace(
        decoder,
        family="mistral3",
        blocks=(*blocks, *decoder.blocks),
        sizes={**decoder.sizes, **sizes},
        notes=tuple(c.notes),
    )
