"""LFM2-VL: an LFM2 decoder behind SigLIP 2 for images of any size, and two matrices over joined patches."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, joined, with_fields
from advisor_mcp.anatomy.nested import decoder, vision_part
from advisor_mcp.anatomy.projectors import Projector, siglip2
from advisor_mcp.errors import CannotAnswer, shown

MODEL_TYPES = ("lfm2_vl",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Lfm2VlConfig; the head is tied unless the top level denies it."""
    tied = c.flag("tie_embedding", "tie_word_embeddings", default=True)
    text = c.part("text_config")
    if text is not None:  # the decoder's own older name of the field does not matter here
        c = with_fields(c, text_config={**text.data, "tie_embedding": tied})
    inner = decoder(c, "lfm2", tied)
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        kind = vision.text("model_type")
        if kind not in (None, "siglip2_vision_model"):
            raise CannotAnswer(f"vision_config.model_type is {shown(kind)}; described here is siglip2_vision_model")
        towers = siglip2(vision, sizes, "model.vision_tower.vision_model.")
        towers.append(_projector(c, sizes, inner.sizes["h"]))
    return joined(c, "lfm2_vl", inner, towers, sizes, LANGUAGE_MODEL, missing)


def _projector(c: Config, sizes: dict[str, int], width: int) -> Block:
    norm = "layer_norm" if c.flag("projector_use_layernorm", default=True) else ""
    projector = Projector("model.multi_modal_projector.", bias=c.flag("projector_bias", default=True), norm=norm)
    between = c.number("projector_hidden_size", default=2560, of="Lfm2VlConfig")
    return projector.block(sizes, sizes["vision.h"] * c.number("downsample_factor", default=2) ** 2, between, width)
