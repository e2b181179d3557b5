"""Mistral Small 3.1 and later and Ministral 3 with images: a Mistral decoder behind a Pixtral vision tower."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.multimodal import joined
from advisor_mcp.anatomy.nested import INSIDE, decoder, text_part, tie, vision_part
from advisor_mcp.anatomy.towers import features_of, pixtral, tower_config

MODEL_TYPES = ("mistral3",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Mistral3Config.

    Its class ties the head where neither level says otherwise; the files that say nothing hold one of their own.
    """
    inner = decoder(c, "mistral", tie(c, text_part(c), default=False))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    blocks = []
    if vision is not None:
        merge = c.number("spatial_merge_size", default=2, of="Mistral3Config")
        bias = c.flag("multimodal_projector_bias")
        blocks = pixtral(tower_config(vision, "pixtral"), inner.sizes["h"], merge, bias, sizes, features_of(c))
    return joined(c, "mistral3", inner, blocks, sizes, INSIDE, missing)
