"""Phi-4 Multimodal: a Phi-3 decoder behind SigLIP for images and a conformer for sound."""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.phi3 import describe as phi3
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import filled, joined, with_fields
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.towers import PATCHES, siglip_encoder
from advisor_mcp.anatomy.towers_phi4 import audio_tower, statistics

MODEL_TYPES = ("phi4_multimodal",)
TEXT = {
    "vocab_size": 200064, "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8,
}  # fmt: skip
VISION = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16, "image_size": 448,
    "patch_size": 14,
}  # fmt: skip
ROOT = "model.embed_tokens_extend."
ADAPTERS = "the low-rank adapters that the checkpoint adds to the decoder for images and for sound are not counted"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Phi4MultimodalConfig, whose class always has both towers."""
    c.number("hidden_size")
    text = filled(c, "Phi4MultimodalConfig", TEXT)
    inner = phi3(with_fields(text, model_type="phi3", head_dim=c.optional("head_dim")))
    width = inner.sizes["h"]
    sizes: dict[str, int] = {}
    vision = c.part("vision_config") or Config({}, "vision_config.", c.notes)
    audio = c.part("audio_config") or Config({}, "audio_config.", c.notes)
    root = f"{ROOT}image_embed.img_processor."
    towers = siglip_encoder(filled(vision, "Phi4MultimodalVisionConfig", VISION), sizes, root, head=True)
    towers += [_image_projector(width), *audio_tower(audio, sizes, f"{ROOT}audio_embed.", width)]
    found = joined(c, "phi4_multimodal", inner, towers, sizes, missing=(ADAPTERS,))
    return replace(found, beside=(*found.beside, statistics(f"{ROOT}audio_embed.")))


def _image_projector(width: int) -> Block:
    """Two matrices, and learned vectors between an image and its crops."""
    b = Draft("vision-projector", f"{ROOT}image_embed.", PATCHES)
    b.tensor("global_img_feature_extensor", (1, 1, "vision.h"), "vision")
    b.tensor("sub_img_feature_extensor", (1, 1, 1, "vision.h"), "vision")
    b.linear("img_projection_up", "x", "up", (width, "vision.h"), "vision", bias=True)
    b.op("activation", ("up",), "act", (*PATCHES, width))
    b.linear("img_projection_down", "act", "soft", (width, width), "vision", bias=True)
    return b.block((0,), "vision")
