"""Qwen3-ASR: a Qwen3 decoder behind Qwen3-Omni's audio encoder."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, filled, joined, renamed
from advisor_mcp.anatomy.nested import NO_AUDIO, decoder
from advisor_mcp.anatomy.towers_qwen import qwen3_audio_tower

MODEL_TYPES = ("qwen3_asr",)
ENCODER = {
    "num_mel_bins": 128, "encoder_layers": 24, "encoder_attention_heads": 16, "encoder_ffn_dim": 4096, "d_model": 1024,
    "output_dim": 3584, "downsample_hidden_size": 480,
}  # fmt: skip
ALIASES = {
    "encoder_layers": "num_hidden_layers", "d_model": "hidden_size", "encoder_attention_heads": "num_attention_heads",
    "encoder_ffn_dim": "intermediate_size",
}  # fmt: skip
PROJECTOR = {
    f"model.audio_tower.proj{index}.": f"model.multi_modal_projector.linear_{index}." for index in (1, 2)
}  # fmt: skip


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Qwen3ASRConfig; the head is tied unless the top level denies it."""
    inner = decoder(c, "qwen3", c.flag("tie_word_embeddings", default=True))
    audio = c.part("audio_config")
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if audio is not None:
        absent = {field: value for field, value in ENCODER.items() if ALIASES.get(field) not in audio.data}
        audio = filled(audio, "Qwen3ASREncoderConfig", absent)
        towers = [renamed(block, PROJECTOR) for block in qwen3_audio_tower(audio, sizes, "model.audio_tower.")]
    return joined(c, "qwen3_asr", inner, towers, sizes, LANGUAGE_MODEL, () if audio else (NO_AUDIO,))
