"""Llava and Llava-NeXT: any decoder behind CLIP, SigLIP or Pixtral and a projector of two matrices."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import joined
from advisor_mcp.anatomy.nested import INSIDE, decoder, text_part, tie, vision_part
from advisor_mcp.anatomy.towers import encoder, features_of, two_matrices

MODEL_TYPES = ("llava", "llava_next")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' LlavaConfig (which Pixtral-12B uses too) or LlavaNextConfig."""
    family = c.text("model_type") or "llava"
    inner = decoder(c, "llama", _tied(c, family))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        extra = ("image_newline",) if family == "llava_next" else ()
        bias = c.flag("multimodal_projector_bias", default=True)
        towers = encoder(vision, "clip_vision_model", sizes)
        towers.append(two_matrices(sizes, inner.sizes["h"], features_of(c), bias, extra))
    return joined(c, family, inner, towers, sizes, INSIDE, missing)


def _tied(c: Config, family: str) -> bool:
    text = text_part(c)
    if family == "llava" and text.flag("tie_word_embeddings"):
        return True  # LlavaConfig passes the decoder's word on
    return tie(c, text, default=False)
