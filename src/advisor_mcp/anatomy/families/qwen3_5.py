"""Qwen3.5 and 3.6, dense and with experts: Qwen3-Next's hybrid decoder, alone or behind Qwen3-VL's tower."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.qwen3_next import Hybrid
from advisor_mcp.anatomy.families.qwen3_next import decoder as hybrid_decoder
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, NO_VISION, decoder_config, joined
from advisor_mcp.anatomy.parts import Experts
from advisor_mcp.anatomy.towers_qwen import QWEN3_5, qwen3_tower

MODEL_TYPES = ("qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text")
EXPERTS = Experts(prefix="mlp.experts.", layout="stacked_out_in")
VOCABULARY = {"vocab_size": 248320}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Qwen3_5Config, Qwen3_5MoeConfig, or the text configuration of either.

    Only the top level says whether the head is tied; a tower that an older file lists deepstack layers for has none.
    """
    family = c.text("model_type") or "qwen3_5"
    sparse = family.startswith("qwen3_5_moe")
    of = "Qwen3_5MoeTextConfig" if sparse else "Qwen3_5TextConfig"
    text = decoder_config(c, of, VOCABULARY)
    hybrid = Hybrid(of, 16, 2 if sparse else 4, "split", (sparse,) * text.layers(), EXPERTS)
    decoder = hybrid_decoder(text, family, hybrid, c.flag("tie_word_embeddings"))
    if family.endswith("_text"):
        return decoder
    sizes: dict[str, int] = {}
    vision = c.part("vision_config")
    towers = qwen3_tower(vision, sizes, QWEN3_5) if vision is not None else []
    return joined(c, family, decoder, towers, sizes, LANGUAGE_MODEL, missing=() if towers else (NO_VISION,))
