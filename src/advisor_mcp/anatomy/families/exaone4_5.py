"""EXAONE 4.5: an EXAONE 4 decoder behind Qwen2.5-VL's tower with fewer heads for keys and values."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, joined, with_fields
from advisor_mcp.anatomy.nested import decoder, text_part, vision_part
from advisor_mcp.anatomy.towers_qwen import qwen2_5_tower

MODEL_TYPES = ("exaone4_5",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Exaone4_5_Config; only the top level says whether the head is tied."""
    text = text_part(c)
    if text.text("model_type") == "exaone4_5_text":
        c = with_fields(c, text_config={**text.data, "model_type": "exaone4"})
    inner = decoder(c, "exaone4", c.flag("tie_word_embeddings"))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        towers = qwen2_5_tower(vision, sizes, "model.visual.")
        kv_heads = vision.number("num_key_value_heads", default=8, of="Exaone4_5_VisionConfig")
        vision.divides(sizes["vision.heads"], kv_heads, "the vision KV heads do not divide its heads")
        sizes["vision.qkv"] = sizes["vision.h"] + 2 * kv_heads * sizes["vision.hd"]
    return joined(c, "exaone4_5", inner, towers, sizes, LANGUAGE_MODEL, missing)
