"""Qwen2.5-Omni and Qwen3-Omni: the thinker, a decoder that sees and hears; what makes speech is named, not counted."""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.qwen2 import describe as qwen2
from advisor_mcp.anatomy.families.qwen2_vl import qwen2_text
from advisor_mcp.anatomy.families.qwen3_moe import decoder as qwen3_moe
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import decoder_config, joined, with_fields
from advisor_mcp.anatomy.towers_qwen import QWEN3_OMNI, audio_tower, qwen2_5_tower, qwen3_audio_tower, qwen3_tower
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = ("qwen2_5_omni", "qwen2_5_omni_thinker", "qwen3_omni_moe", "qwen3_omni_moe_thinker")
TEXT_DEFAULTS = {
    "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4,
}  # fmt: skip
EXPERT_DEFAULTS = {
    "vocab_size": 3584, "hidden_size": 2048, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
}  # fmt: skip
SPEECH = "the talker and the vocoder, which answer in speech, are not counted"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Qwen2_5OmniConfig or Qwen3OmniMoeConfig (its thinker), or of the thinker alone."""
    family = c.text("model_type") or "qwen2_5_omni_thinker"
    whole, third = not family.endswith("_thinker"), family.startswith("qwen3")
    thinker, root = (_needed(c, "thinker_config"), "thinker.") if whole else (c, "")
    _needed(thinker, "text_config")
    sizes: dict[str, int] = {}
    towers = (_towers_3 if third else _towers_2_5)(thinker, sizes, root)
    decoder = (_decoder_3 if third else _decoder_2_5)(thinker)
    speaks = whole and c.flag("enable_audio_output", default=True)
    names = {"model.": f"{root}model.", "lm_head": f"{root}lm_head"}
    return joined(c, family, decoder, towers, sizes, names, missing=(SPEECH,) if speaks else ())


def _decoder_2_5(thinker: Config) -> Architecture:
    text = decoder_config(thinker, "Qwen2_5OmniTextConfig", TEXT_DEFAULTS)
    return qwen2(qwen2_text(text, thinker.flag("tie_word_embeddings"), last=28))


def _decoder_3(thinker: Config) -> Architecture:
    text = decoder_config(thinker, "Qwen3OmniMoeTextConfig", EXPERT_DEFAULTS)
    tied = thinker.flag("tie_word_embeddings")
    return qwen3_moe(with_fields(text, use_sliding_window=False, tie_word_embeddings=tied), "qwen3_moe")


def _towers_2_5(thinker: Config, sizes: dict[str, int], root: str) -> list[Block]:
    vision, audio = _needed(thinker, "vision_config"), _needed(thinker, "audio_config")
    found = qwen2_5_tower(vision, sizes, f"{root}visual.")
    return found + audio_tower(audio, sizes, f"{root}audio_tower.", "qwen2_5_omni")


def _towers_3(thinker: Config, sizes: dict[str, int], root: str) -> list[Block]:
    vision, audio = _needed(thinker, "vision_config"), _needed(thinker, "audio_config")
    found = qwen3_tower(vision, sizes, replace(QWEN3_OMNI, root=f"{root}visual."))
    return found + qwen3_audio_tower(audio, sizes, f"{root}audio_tower.")


def _needed(c: Config, name: str) -> Config:
    found = c.part(name)
    if found is None:
        full = f"{c.prefix}{name}"
        raise CannotAnswer(f"the configuration has no {full}, which this model type needs", needs=[full])
    return found
