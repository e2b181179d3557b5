"""Audio Flamingo 3 and Music Flamingo: a Qwen2 decoder behind Whisper's encoder and two matrices."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.multimodal import filled, joined
from advisor_mcp.anatomy.nested import INSIDE, NO_AUDIO, decoder
from advisor_mcp.anatomy.projectors import Projector
from advisor_mcp.anatomy.towers_audio import ALIASES, ENCODER, whisper_encoder

MODEL_TYPES = ("audioflamingo3", "musicflamingo")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' AudioFlamingo3Config or MusicFlamingoConfig, whose classes never tie the head."""
    family = c.text("model_type") or "audioflamingo3"
    inner = decoder(c, "qwen2", tied=False)
    audio = c.part("audio_config")
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if audio is not None:
        absent = {field: value for field, value in ENCODER.items() if ALIASES.get(field) not in audio.data}
        towers = whisper_encoder(filled(audio, "AudioFlamingo3EncoderConfig", absent), sizes, "audio_tower.")
        width, projector = inner.sizes["h"], Projector(bias=c.flag("projector_bias", default=True), tower="audio")
        towers.append(projector.block(sizes, sizes["audio.h"], width, width, ("b", "audio.pooled_frames")))
    return joined(c, family, inner, towers, sizes, INSIDE, () if audio else (NO_AUDIO,))
