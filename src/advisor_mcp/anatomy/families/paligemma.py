"""PaliGemma 1 and 2: a Gemma decoder behind a SigLIP tower and one matrix."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import joined
from advisor_mcp.anatomy.nested import INSIDE, decoder, text_part, tie, vision_part
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.towers import PATCHES, encoder

MODEL_TYPES = ("paligemma",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' PaliGemmaConfig."""
    inner = decoder(c, "gemma", tie(c, text_part(c), default=True))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        towers = encoder(vision, "siglip_vision_model", sizes)
        b = Draft("vision-projector", "", PATCHES)
        sizes["vision.out"] = c.number("projection_dim", default=2048, of="PaliGemmaConfig")
        b.linear("multi_modal_projector.linear", "n", "soft", ("vision.out", "vision.h"), "vision", bias=True)
        towers.append(b.block((0,), "vision"))
    return joined(c, "paligemma", inner, towers, sizes, INSIDE, missing)
