"""DeepSeek-VL: a Llama decoder behind SigLIP; the hybrid also reads a larger picture of the image through SAM's tower."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, joined
from advisor_mcp.anatomy.nested import decoder, vision_part
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.projectors import Projector, rooted
from advisor_mcp.anatomy.towers import PATCHES, convolve, encoder
from advisor_mcp.anatomy.towers_sam import neck, sam_tower
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("deepseek_vl", "deepseek_vl_hybrid")
NO_HIGH = "the configuration has no high_res_vision_config, so the tower of the larger picture is not counted"
ALIGNER = Projector("model.aligner.", ("linear1", "linear2"))


def describe(c: Config) -> Architecture:
    """A configuration of transformers' DeepseekVLConfig or DeepseekVLHybridConfig; tied unless the top level denies it."""
    family = c.text("model_type") or "deepseek_vl"
    inner = decoder(c, "llama", c.flag("tie_word_embeddings", default=True))
    width = inner.sizes["h"]
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        towers = rooted(
            encoder(vision, "siglip_vision_model", sizes), "vision_tower.vision_model.", "model.vision_model."
        )
        if family == "deepseek_vl":
            towers.append(ALIGNER.block(sizes, sizes["vision.h"], width, width, PATCHES))
    if family == "deepseek_vl_hybrid" and vision is not None:
        high = c.part("high_res_vision_config")
        missing = missing if high else (*missing, NO_HIGH)
        towers += _hybrid(high, sizes, width) if high else []
    return joined(c, family, inner, towers, sizes, LANGUAGE_MODEL, missing)


def _hybrid(high: Config, sizes: dict[str, int], width: int) -> list[Block]:
    """SAM's tower; a neck of its shapes that reads an earlier layer; two convolutions and a matrix for either picture."""
    towers = sam_tower(high, sizes, "model.high_res_vision_model.")
    if width % 2:
        raise UsageError(f"the configuration contradicts itself: the decoder's hidden_size {width} is not even")
    sizes |= {"vision.soft_half": width // 2, "sam.twice": 2 * sizes["sam.out"], "sam.joined": 4 * sizes["sam.out"]}
    b = Draft("vision-aligner", "model.", PATCHES)
    neck(b, "high_res_vision_neck.", "mid", "nm")
    once: Axes = ("images", "sam.patches")
    convolve(b, "high_res_vision_proj.conv1", "nm", "c1", ("sam.twice", "sam.out", 3, 3), "vision", once)
    convolve(b, "high_res_vision_proj.conv2", "c1", "hp", ("sam.joined", "sam.twice", 3, 3), "vision", once)
    b.tensor("high_res_vision_alpha", (1,), "vision")
    b.linear("aligner.vision_proj", "n", "low", ("vision.soft_half", "vision.h"), "vision", bias=True)
    b.linear("aligner.high_res_vision_proj", "hp", "high", ("vision.soft_half", "sam.joined"), "vision", bias=True)
    b.op("activation", ("low", "high"), "both", (*PATCHES, width))
    b.linear("aligner.proj", "both", "soft", (width, width), "vision", bias=True)
    return [*towers, b.block((0,), "vision")]
