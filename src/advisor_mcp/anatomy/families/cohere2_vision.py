"""Command A Vision and Aya Vision: a Cohere 2 decoder behind SigLIP, its patches joined and projected through a gate."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import joined
from advisor_mcp.anatomy.nested import INSIDE, decoder, vision_part
from advisor_mcp.anatomy.projectors import Projector
from advisor_mcp.anatomy.towers import encoder

MODEL_TYPES = ("cohere2_vision", "aya_vision")
PROJECTORS = {"cohere2_vision": Projector(gated=True), "aya_vision": Projector(gated=True, norm="layernorm")}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Cohere2VisionConfig or AyaVisionConfig; both tie the head unless the top level denies it."""
    family = c.text("model_type") or "cohere2_vision"
    inner = decoder(c, "cohere2", c.flag("tie_word_embeddings", default=True))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        towers = encoder(vision, "siglip_vision_model", sizes)
        width = inner.sizes["h"]
        between = _between(c, family, width)
        joined_width = sizes["vision.h"] * c.number("downsample_factor", default=2) ** 2
        towers.append(PROJECTORS[family].block(sizes, joined_width, between, width))
    return joined(c, family, inner, towers, sizes, INSIDE, missing)


def _between(c: Config, family: str, width: int) -> int:
    if family == "aya_vision":
        return c.number("alignment_intermediate_size", default=width, least=2)
    return c.number("alignment_intermediate_size", default=36864, of="Cohere2VisionConfig", least=2)
