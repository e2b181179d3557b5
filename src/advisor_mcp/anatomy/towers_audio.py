"""Audio towers: Whisper's encoder (also Voxtral's) and the streaming one of Voxtral Realtime. Axes carry the prefix `audio.`"""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Axes, Block
from advisor_mcp.anatomy.multimodal import filled
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.towers import Layer, attention_axes, convolve

FRAMES: Axes = ("b", "audio.frames")
MEL: Axes = ("b", "audio.mel_frames")  # before the second convolution halves them
WHISPER = Layer(
    ("self_attn_layer_norm", "", "final_layer_norm", ""), feed=("fc1", "fc2"), bias=(True, False, True, True), tower="audio"
)  # fmt: skip
STREAMING = replace(
    WHISPER, projections=("q_proj", "k_proj", "v_proj", "o_proj"), norm="rms",
    feed=("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"), feed_bias=(False, False, True),
)  # fmt: skip


def stem(b: Draft, mel: int, names: tuple[str, str] = ("conv1", "conv2"), role: str = "audio") -> None:
    """Two convolutions over the mel spectrogram, the second with a stride of two."""
    convolve(b, names[0], "sound", "c1", ("audio.h", mel, 3), role, MEL, bias=True)
    convolve(b, names[1], "c1", "x", ("audio.h", "audio.h", 3), role, FRAMES, bias=True)


def whisper_encoder(c: Config, sizes: dict[str, int], root: str, *, by_part: bool = False) -> list[Block]:
    """Whisper's encoder: two convolutions, learned positions, pre-norm layers whose keys have no bias, a last norm.

    Adds its axes; `by_part` counts it as attention, MLP and norms instead of as an audio tower.
    """
    layer = replace(WHISPER, by_part=by_part)
    h = c.number("hidden_size", "d_model")
    sizes |= {"audio.h": h, "audio.ffn": c.number("intermediate_size", "encoder_ffn_dim")}
    sizes["audio.frames"] = c.number("max_source_positions", default=1500)
    sizes["audio.mel_frames"] = 2 * sizes["audio.frames"]
    attention_axes(c, sizes, "audio", c.number("num_attention_heads", "encoder_attention_heads"))
    first = Draft("audio-embedding", root, FRAMES)
    stem(first, c.number("num_mel_bins"), role="other" if by_part else "audio")
    first.tensor("embed_positions.weight", ("audio.frames", "audio.h"), layer.role("position_embedding"))
    last = Draft("audio-norm", root, FRAMES)
    last.norm("layer_norm", "x", "n", "layer", "audio.h", layer.role("norm"))
    layers = layer.block(
        "audio-layer", f"{root}layers.{{layer}}.", c.layers("num_hidden_layers", "encoder_layers"), FRAMES
    )
    return [first.block((0,), "audio"), layers, last.block((0,), "audio")]


ENCODER = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20, "num_mel_bins": 128,
    "max_source_positions": 1500,
}  # fmt: skip
ALIASES = {
    "hidden_size": "d_model", "intermediate_size": "encoder_ffn_dim", "num_hidden_layers": "encoder_layers",
    "num_attention_heads": "encoder_attention_heads",
}  # fmt: skip


def voxtral(c: Config, text_width: int, sizes: dict[str, int]) -> list[Block]:
    """Voxtral's tower and the two matrices into the decoder; four frames side by side become one token."""
    absent = {field: value for field, value in ENCODER.items() if ALIASES.get(field) not in c.data}
    c = filled(c, "VoxtralEncoderConfig", absent)
    blocks = whisper_encoder(c, sizes, "audio_tower.")
    return [*blocks, _projector("audio.ffn", text_width)]


def _projector(axis: str, text_width: int) -> Block:
    b = Draft("audio-projector", "multi_modal_projector.", ("b", "audio.joined_frames"))
    b.linear("linear_1", "n", "p1", (text_width, axis), "audio")
    b.op("activation", ("p1",), "pa", (*b.tokens, text_width))
    b.linear("linear_2", "pa", "p2", (text_width, text_width), "audio")
    return b.block((0,), "audio")


REALTIME = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 32, "num_mel_bins": 128,
    "head_dim": 64,
}  # fmt: skip


def voxtral_realtime(c: Config, text_width: int, factor: int, sizes: dict[str, int]) -> list[Block]:
    """The causal encoder of Voxtral Realtime (RMSNorm, gated MLP, rotary positions, a window) and its projector.

    What it keeps of a stream is a cache of its own, which is not part of the decoder's state.
    """
    absent = {field: value for field, value in REALTIME.items() if ALIASES.get(field) not in c.data}
    c = filled(c, "VoxtralRealtimeEncoderConfig", absent)
    h, heads = c.number("hidden_size", "d_model"), c.number("num_attention_heads", "encoder_attention_heads")
    hd = (
        c.number("head_dim")
        if c.given("head_dim")
        else c.divides(h, heads, "the audio heads do not divide its hidden_size")
    )
    sizes |= {"audio.h": h, "audio.ffn": c.number("intermediate_size", "encoder_ffn_dim"), "audio.hd": hd}
    sizes |= {"audio.q": heads * hd, "audio.kv": heads * hd, "audio.joined": h * factor}
    first = Draft("audio-embedding", "audio_tower.embedder.", FRAMES)
    stem(first, c.number("num_mel_bins"))
    last = Draft("audio-norm", "audio_tower.", FRAMES)
    last.norm("norm", "x", "n", "rms", "audio.h", "audio")
    depth = c.layers("num_hidden_layers", "encoder_layers")
    layers = STREAMING.block("audio-layer", "audio_tower.layers.{layer}.", depth, FRAMES)
    blocks = [first.block((0,), "audio"), layers, last.block((0,), "audio")]
    return [*blocks, _projector("audio.joined", text_width)]
