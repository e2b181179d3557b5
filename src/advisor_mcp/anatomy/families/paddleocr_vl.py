"""PaddleOCR-VL: an ERNIE 4.5 decoder behind SigLIP, whose patches are normalised, joined and projected."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.ernie4_5 import describe as ernie
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, decoder_config, filled, joined, with_fields
from advisor_mcp.anatomy.nested import vision_part
from advisor_mcp.anatomy.projectors import Projector, tied_either
from advisor_mcp.anatomy.towers import siglip_encoder

MODEL_TYPES = ("paddleocr_vl",)
TEXT = {
    "vocab_size": 103424, "intermediate_size": 3072, "num_hidden_layers": 18, "num_attention_heads": 16,
    "num_key_value_heads": 2, "head_dim": 128,
}  # fmt: skip
VISION = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16, "image_size": 384,
    "patch_size": 14, "spatial_merge_size": 2,
}  # fmt: skip
PROJECTOR = Projector("model.projector.", norm="pre_norm", norm_axis="vision.h")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' PaddleOCRVLConfig, whose decoder stands at the top level of published files."""
    text = decoder_config(c, "PaddleOCRTextConfig", TEXT)
    tied = tied_either(c, text, default=True)
    inner = ernie(with_fields(text, model_type="ernie4_5", tie_word_embeddings=tied))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        vision = filled(vision, "PaddleOCRVisionConfig", VISION)
        towers = siglip_encoder(vision, sizes, "model.visual.vision_model.")
        wide = sizes["vision.h"] * vision.number("spatial_merge_size") ** 2
        towers.append(PROJECTOR.block(sizes, wide, wide, inner.sizes["h"]))
    return joined(c, "paddleocr_vl", inner, towers, sizes, LANGUAGE_MODEL, missing)
