"""LLaVA-OneVision, LLaVA-NeXT-Video, Video-LLaVA and VipLLaVA: Llava's projector with what each adds for videos or for layers."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import joined, with_fields
from advisor_mcp.anatomy.nested import INSIDE, decoder, text_part, vision_part
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.projectors import Projector, rooted, tied_either
from advisor_mcp.anatomy.towers import PATCHES, convolve, encoder, features_of, two_matrices
from advisor_mcp.errors import CannotAnswer, shown

MODEL_TYPES = ("llava_onevision", "llava_next_video", "video_llava", "vipllava")
VIP_LAYERS = [-2, -5, -8, -11, 6]
VIP = Projector(norm="projector_layernorm")


@dataclass(frozen=True, slots=True)
class Release:
    """A model type: its decoder and tower where the file names none, and whether the decoder's part may say that it is tied."""

    decoder: str
    tower: str
    either: bool


RELEASES = {
    "llava_onevision": Release("qwen2", "siglip_vision_model", True),
    "llava_next_video": Release("llama", "clip_vision_model", True),
    "video_llava": Release("llama", "clip_vision_model", False),
    "vipllava": Release("llama", "clip_vision_model", False),
}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' LlavaOnevisionConfig, LlavaNextVideoConfig, VideoLlavaConfig or VipLlavaConfig."""
    family = c.text("model_type") or "llava_onevision"
    release = RELEASES[family]
    text = text_part(c)
    tied = tied_either(c, text) if release.either else c.flag("tie_word_embeddings")
    inner = decoder(c, release.decoder, tied)
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        towers = encoder(vision, release.tower, sizes)
        if family == "video_llava":
            towers = [*_named(towers, "image_tower."), *_named(towers, "video_tower.")]
        towers += _between(c, family, sizes, inner.sizes["h"])
    return joined(c, family, inner, towers, sizes, INSIDE, missing)


def _named(towers: list[Block], root: str) -> list[Block]:
    return rooted(towers, "vision_tower.", root)


def _between(c: Config, family: str, sizes: dict[str, int], width: int) -> list[Block]:
    if family == "vipllava":
        name = next((n for n in ("vision_feature_layers", "vision_feature_layer") if c.given(n)), "")
        features = features_of(c, name) if name else features_of(with_fields(c, layers=VIP_LAYERS), "layers")
        return [VIP.block(sizes, sizes["vision.h"] * features, width, width, PATCHES)]
    bias = c.flag("multimodal_projector_bias", default=True)
    extra = () if family == "video_llava" else ("image_newline",)
    found = [two_matrices(sizes, width, features_of(c), bias, extra)]
    return found + (_pooling(c, sizes) if family == "llava_next_video" else [])


def _pooling(c: Config, sizes: dict[str, int]) -> list[Block]:
    """Frames are made smaller by averages or maxima, which hold no parameters, or by a convolution."""
    mode = c.text("spatial_pool_mode") or "average"
    if mode in ("average", "max"):
        return []
    if mode != "conv":
        raise CannotAnswer(f"spatial_pool_mode is {shown(mode)}; described here are average, max and conv", [mode])
    side = c.number("spatial_pool_stride", default=2)
    sizes["vision.pooled"] = c.number("spatial_pool_out_channels", default=sizes["vision.h"])
    b = Draft("vision-pool", "vision_resampler.", ("images", "vision.pooled_patches"))
    convolve(b, "pool", "x", "p", ("vision.pooled", "vision.h", side, side), "vision", b.tokens, bias=True)
    return [b.block((0,), "vision")]
