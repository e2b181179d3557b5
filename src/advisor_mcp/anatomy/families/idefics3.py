"""Idefics 3 and SmolVLM: a Llama decoder behind a SigLIP tower whose patches are shuffled into fewer, wider ones."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import filled, joined
from advisor_mcp.anatomy.nested import decoder, text_part, tie, vision_part
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.towers import siglip_encoder

MODEL_TYPES = ("idefics3", "smolvlm")
CLASSES = {"idefics3": "Idefics3", "smolvlm": "SmolVLM"}
VISION = {
    "hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 16, "image_size": 224,
    "patch_size": 32,
}  # fmt: skip


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Idefics3Config or SmolVLMConfig."""
    family = c.text("model_type") or "idefics3"
    of = CLASSES[family]
    inner = decoder(c, "llama", tie(c, text_part(c), default=False))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        towers = siglip_encoder(filled(vision, f"{of}VisionConfig", VISION), sizes, "model.vision_model.")
        towers.append(_connector(c.number("scale_factor", default=2, of=f"{of}Config"), inner.sizes["h"], sizes))
    return joined(c, family, inner, towers, sizes, {"model.": "model.text_model."}, missing)


def _connector(factor: int, text_width: int, sizes: dict[str, int]) -> Block:
    """`factor` x `factor` patches side by side, and one matrix."""
    sizes["vision.joined"] = sizes["vision.h"] * factor**2
    b = Draft("vision-projector", "model.connector.modality_projection.", ("images", "vision.shuffled"))
    b.linear("proj", "n", "soft", (text_width, "vision.joined"), "vision")
    return b.block((0,), "vision")
