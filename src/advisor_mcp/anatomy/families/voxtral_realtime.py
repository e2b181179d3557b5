"""Voxtral Realtime: a windowed decoder that hears while it speaks; the delay it may take conditions every MLP."""

from __future__ import annotations

from advisor_mcp.anatomy import towers_audio
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.multimodal import filled, joined
from advisor_mcp.anatomy.nested import INSIDE, NO_AUDIO, text_part, tie
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Gated,
    Grouped,
    assemble,
    by_kind,
    embedding_block,
    grouped_axes,
    head_block,
)

MODEL_TYPES = ("voxtral_realtime",)
DELAY = 32  # width of the delay's conditioning, fixed in the class
PRESET = {
    "vocab_size": 131_072, "hidden_size": 3072, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "sliding_window": 8192,
}  # fmt: skip


def describe(c: Config) -> Architecture:
    """A configuration of transformers' VoxtralRealtimeConfig."""
    text = text_part(c)
    inner = _decoder(filled(text, "VoxtralRealtimeConfig", PRESET), tie(c, text, default=True))
    audio = c.part("audio_config")
    factor = c.number("downsample_factor", default=4, of="VoxtralRealtimeConfig")
    sizes: dict[str, int] = {}
    towers = towers_audio.voxtral_realtime(audio, inner.sizes["h"], factor, sizes) if audio else []
    return joined(c, "voxtral_realtime", inner, towers, sizes, INSIDE, () if audio else (NO_AUDIO,))


def _decoder(c: Config, tied: bool) -> Architecture:
    span = Span(window=c.optional("sliding_window"))

    def layer(b: Draft, kind: str) -> None:
        b.norm("input_layernorm", "x", "a")
        Grouped().write(b, "a", span)
        b.add("x", "o", "r")
        b.norm("post_attention_layernorm", "r", "n")
        b.value("delay", ("b", "h"))
        b.linear("ada_rms_norm.linear1", "delay", "d1", (DELAY, "h"), "other", tokens=("b",))
        b.linear("ada_rms_norm.linear2", "d1", "d2", ("h", DELAY), "other", tokens=("b",))
        b.op("scale", ("n", "d2"), "m", b.values["n"].axes)
        Gated().write(b, "m")
        b.add("r", "y", "out")

    sizes = grouped_axes(c) | {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    kinds = ["sliding" if span.window else "full"] * c.layers()
    blocks = [embedding_block(), *by_kind(kinds, layer), head_block("model.embed_tokens.weight", tied)]
    return assemble(c, "voxtral_realtime", blocks, sizes, GROUPED_DERIVED, tied, [span])
