"""Voxtral: a Llama decoder behind Whisper's encoder."""

from __future__ import annotations

from advisor_mcp.anatomy import towers_audio
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.multimodal import joined
from advisor_mcp.anatomy.nested import INSIDE, NO_AUDIO, decoder

MODEL_TYPES = ("voxtral",)
PRESET = {
    "vocab_size": 131_072, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 30, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128,
}  # fmt: skip


def describe(c: Config) -> Architecture:
    """A configuration of transformers' VoxtralConfig, whose class never ties the head."""
    inner = decoder(c, "llama", tied=False, preset=("VoxtralConfig", PRESET))
    audio = c.part("audio_config")
    sizes: dict[str, int] = {}
    towers = towers_audio.voxtral(audio, inner.sizes["h"], sizes) if audio else []
    return joined(c, "voxtral", inner, towers, sizes, INSIDE, () if audio else (NO_AUDIO,))
