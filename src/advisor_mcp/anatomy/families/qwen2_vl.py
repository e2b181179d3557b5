"""Qwen2-VL and Qwen2.5-VL: a Qwen2 decoder behind a vision tower that takes images of any size."""

from __future__ import annotations

from typing import Any

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.qwen2 import describe as qwen2
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import NO_VISION, decoder_config, joined, with_fields
from advisor_mcp.anatomy.towers_qwen import qwen2_5_tower, qwen2_tower

MODEL_TYPES = ("qwen2_vl", "qwen2_5_vl")
TEXT_DEFAULTS: dict[str, Any] = {"vocab_size": 152064, "num_key_value_heads": 8}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Qwen2VLConfig or Qwen2_5_VLConfig, whose decoder may stand at the top level."""
    family = c.text("model_type") or "qwen2_vl"
    text = decoder_config(c, "Qwen2VLTextConfig", TEXT_DEFAULTS)
    tied = c.flag("tie_word_embeddings") or text.flag("tie_word_embeddings")
    decoder = qwen2(qwen2_text(text, tied, last=80))
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if (vision := c.part("vision_config")) is not None:
        towers = qwen2_tower(vision, sizes) if family == "qwen2_vl" else qwen2_5_tower(vision, sizes)
    return joined(c, family, decoder, towers, sizes, missing=() if towers else (NO_VISION,))


def qwen2_text(text: Config, tied: bool, last: int) -> Config:
    """The decoder read as a Qwen2: q, k, v biased, heads of h / heads, no window where the file has none."""
    sliding = text.flag("use_sliding_window") and text.data.get("sliding_window", 4096) is not None
    fields = {
        "use_sliding_window": sliding,
        "max_window_layers": text.number("max_window_layers", default=last, least=0),
    }
    fixed = {"model_type": "qwen2", "qkv_bias": True, "head_dim": None, "tie_word_embeddings": tied}
    return with_fields(text, **fields, **fixed)
