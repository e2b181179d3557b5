"""Qwen2-Audio: a Qwen2 decoder behind Whisper's encoder and one projection."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.qwen2 import describe as qwen2
from advisor_mcp.anatomy.families.qwen2_vl import qwen2_text
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.multimodal import decoder_config, joined
from advisor_mcp.anatomy.towers_qwen import audio_projector, audio_tower
from advisor_mcp.errors import CannotAnswer, shown

MODEL_TYPES = ("qwen2_audio",)
NAMES = {"model.": "language_model.model.", "lm_head": "language_model.lm_head"}
# files of the time leave out of text_config what Qwen2Config fills in
TEXT_DEFAULTS = {
    "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32,
}  # fmt: skip


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Qwen2AudioConfig; its head is never tied."""
    part, audio = c.part("text_config"), c.part("audio_config")
    if part is None or audio is None:
        name = "audio_config" if part is not None else "text_config"
        raise CannotAnswer(f"the configuration has no {name}, which this model type needs", needs=[name])
    if (kind := part.text("model_type")) not in (None, "qwen2"):
        raise CannotAnswer(f"text_config.model_type is {shown(kind)}; Qwen2-Audio is described with a qwen2 decoder")
    text = decoder_config(c, "Qwen2Config", TEXT_DEFAULTS)
    decoder = qwen2(qwen2_text(text, tied=False, last=28))
    sizes: dict[str, int] = {}
    towers = audio_tower(audio, sizes, "audio_tower.", "qwen2_audio")
    towers.append(audio_projector("multi_modal_projector.", decoder.sizes["h"]))
    return joined(c, "qwen2_audio", decoder, towers, sizes, NAMES)
