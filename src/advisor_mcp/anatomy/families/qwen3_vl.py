"""Qwen3-VL, dense and with experts: a Qwen3 decoder, and a vision tower whose early layers also feed its first layers."""

from __future__ import annotations

from typing import Any

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.qwen2 import describe as qwen3
from advisor_mcp.anatomy.families.qwen3_moe import decoder as qwen3_moe
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, NO_VISION, decoder_config, joined, with_fields
from advisor_mcp.anatomy.parts import Experts
from advisor_mcp.anatomy.towers_qwen import qwen3_tower

MODEL_TYPES = ("qwen3_vl", "qwen3_vl_moe")
TEXT_DEFAULTS: dict[str, Any] = {"vocab_size": 151936, "num_key_value_heads": 32}
EXPERT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 151936, "num_key_value_heads": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 1408
}  # fmt: skip
EXPERTS = Experts(prefix="mlp.experts.", layout="stacked")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Qwen3VLConfig or Qwen3VLMoeConfig; only the top level says whether the head is tied."""
    family = c.text("model_type") or "qwen3_vl"
    sparse = family == "qwen3_vl_moe"
    of = "Qwen3VLMoeTextConfig" if sparse else "Qwen3VLTextConfig"
    text = decoder_config(c, of, EXPERT_DEFAULTS if sparse else TEXT_DEFAULTS)
    text = with_fields(
        text, model_type="qwen3", use_sliding_window=False, tie_word_embeddings=c.flag("tie_word_embeddings")
    )
    decoder = qwen3_moe(text, "qwen3_moe", EXPERTS) if sparse else qwen3(text)
    sizes: dict[str, int] = {}
    vision = c.part("vision_config")
    towers = qwen3_tower(vision, sizes) if vision is not None else []
    return joined(c, family, decoder, towers, sizes, LANGUAGE_MODEL, missing=() if towers else (NO_VISION,))
