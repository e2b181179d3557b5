"""Gemma 3n: four parallel streams, embeddings for every layer, shared keys and values, MobileNet and conformer towers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from advisor_mcp.anatomy import towers_gemma
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block, Span, Value
from advisor_mcp.anatomy.multimodal import NO_VISION, filled
from advisor_mcp.anatomy.nested import NO_AUDIO, text_part, tie
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    RESIDUAL,
    TOKENS,
    Draft,
    Gated,
    assemble,
    by_kind,
    grouped_axes,
)
from advisor_mcp.anatomy.sharing import LAYER_KINDS, PER_LAYER, Normed, add_per_layer, borrowing, embed, unused

MODEL_TYPES = ("gemma3n", "gemma3n_text")
OF = "Gemma3nTextConfig"
DEFAULTS = {
    "vocab_size": 262_400, "hidden_size": 2048, "intermediate_size": 16_384, "num_hidden_layers": 35, "num_attention_heads": 8,
    "num_key_value_heads": 2, "head_dim": 256, "sliding_window": 512, "vocab_size_per_layer_input": 262_144,
    "hidden_size_per_layer_input": 256, "altup_num_inputs": 4, "laurel_rank": 64,
}  # fmt: skip
STREAMS = ("streams", *RESIDUAL)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Gemma3nConfig (text, vision and audio) or Gemma3nTextConfig."""
    if c.text("model_type") == "gemma3n_text":
        c.number("hidden_size")
        return _decoder(filled(c, OF, DEFAULTS), "gemma3n_text", "model.", c.flag("tie_word_embeddings", default=True))
    text = text_part(c)
    inner = _decoder(filled(text, OF, DEFAULTS), "gemma3n", "model.language_model.", tie(c, text, default=True))
    sizes: dict[str, int] = {}
    blocks, missing = _towers(c, inner.sizes["h"], sizes)
    return replace(
        inner,
        blocks=(*blocks, *inner.blocks),
        sizes={**inner.sizes, **sizes},
        notes=tuple(c.notes),
        not_described=missing,
    )


def _towers(c: Config, width: int, sizes: dict[str, int]) -> tuple[list[Block], tuple[str, ...]]:
    vision, audio = c.part("vision_config"), c.part("audio_config")
    blocks: list[Block] = []
    missing: list[str] = []
    if vision is None:
        missing.append(NO_VISION)
    else:
        blocks += towers_gemma.mobilenet(vision)
        blocks.append(towers_gemma.embedder(vision, "vision", width, sizes, "Gemma3nVisionConfig", 2048))
    if audio is None:
        missing.append(NO_AUDIO)
    else:
        blocks += towers_gemma.gemma3n_audio(audio, sizes)
        blocks.append(towers_gemma.embedder(audio, "audio", width, sizes, "Gemma3nAudioConfig", 1536))
    return blocks, tuple(missing)


def _decoder(c: Config, family: str, root: str, tied: bool) -> Architecture:
    layers = c.layers()
    reach = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    reach = reach or ["sliding" if (index + 1) % 5 else "full" for index in range(layers)]
    spans = {"full": Span(), "sliding": Span(window=c.number("sliding_window"))}
    bias = c.flag("attention_bias")
    attentions = [Normed(bias, borrowed) for borrowed in borrowing(c, reach, 15, OF)]
    widths = _widths(c, layers)
    sizes = _sizes(c, layers)
    named = {width: "ffn" if at == 0 else f"ffn.{width}" for at, width in enumerate(dict.fromkeys(widths))}
    sizes |= {axis: width for width, axis in named.items()}
    rows = [_Row(*row) for row in zip(reach, attentions, (named[width] for width in widths), strict=True)]
    described = {row.name: row for row in rows}

    def layer(b: Draft, kind: str) -> None:
        row = described[kind]
        _layer(b, row.attention, spans[row.reach], Gated(axis=row.ffn))

    prefix = f"{root}layers.{{layer}}."
    blocks = [_embedding(root), *by_kind([row.name for row in rows], layer, prefix), _head(root, tied)]
    derived = GROUPED_DERIVED | {"ple_all": PER_LAYER, "predictions": ((1, ("streams", "streams")),)}
    used = [spans[kind] for kind in dict.fromkeys(reach)]
    beside = unused("keys and values of layers that share", attentions, prefix)
    return assemble(c, family, blocks, sizes, derived, tied, used, beside=beside)


@dataclass(frozen=True, slots=True)
class _Row:
    reach: str
    attention: Normed
    ffn: str

    @property
    def name(self) -> str:
        return f"{self.reach}{'-shared' if self.attention.borrowed else ''}-{self.ffn}"


def _sizes(c: Config, layers: int) -> dict[str, int]:
    streams = c.number("altup_num_inputs")
    return grouped_axes(c) | {
        "vocab": c.number("vocab_size"),
        "ple_vocab": c.number("vocab_size_per_layer_input"),
        "ple": c.number("hidden_size_per_layer_input"),
        "layers": layers,
        "streams": streams,
        "more_streams": streams - 1,
        "laurel": c.number("laurel_rank"),
    }


def _widths(c: Config, layers: int) -> list[int]:
    if isinstance(c.data.get("intermediate_size"), list):
        return c.numbers("intermediate_size", length=layers, least=1) or []
    return [c.number("intermediate_size")] * layers


def _embedding(root: str) -> Block:
    b = Draft("embedding")
    embed(b, root, per_layer=True)
    _across(b, f"{root}altup_projections", "x", "streams_in")
    return b.block((0,))


def _across(b: Draft, name: str, source: str, out: str) -> None:
    rows = ("more_streams", *TOKENS)
    b.linear(f"{name}.{{expert}}", source, out, ("h", "h"), "other", tokens=rows, copies=("more_streams",))


def _head(root: str, tied: bool) -> Block:
    b = Draft("head")
    b.value("x", STREAMS)
    _across(b, f"{root}altup_unembed_projections", "x", "streams_out")
    b.op("mean", ("x", "streams_out"), "xm", RESIDUAL)
    b.norm(f"{root}norm", "xm", "xn")
    if tied:
        flops = ((2, (*TOKENS, "h", "vocab")),)
        b.op("linear", ("xn",), "logits", (*TOKENS, "vocab"), flops, [f"{root}embed_tokens.weight"])
    else:
        b.linear("lm_head", "xn", "logits", ("vocab", "h"), "lm_head")
    return b.block((0,))


def _layer(b: Draft, attention: Normed, span: Span, mlp: Gated) -> None:
    """Predict all streams, run the layer on one, correct all by what it found, add the layer's own embedding."""
    b.values["x"] = Value(STREAMS)
    _predict(b)
    b.norm("input_layernorm", "active", "a")
    _laurel(b)
    attention.write(b, "a", span)
    b.norm("post_attention_layernorm", "o", "on")
    b.add("active", "on", "r0")
    b.add("r0", "lo", "r")
    b.norm("pre_feedforward_layernorm", "r", "m")
    mlp.write(b, "m")
    b.norm("post_feedforward_layernorm", "y", "yn")
    b.add("r", "yn", "activated")
    _correct(b)
    add_per_layer(b, "first", "pn")
    b.add("corrected", "pn", "out")


def _router(b: Draft, source: str, out: str, first: bool) -> None:
    if first:
        b.norm("altup.router_norm", source, f"{out}_in", role="router")
        b.linear("altup.modality_router", f"{out}_in", out, ("streams", "h"), "router")
        return
    names = [f"{b.prefix}altup.{part}.weight" for part in ("router_norm", "modality_router")]
    b.op("norm", (source,), f"{out}_in", RESIDUAL, weights=names[:1])
    b.op("linear", (f"{out}_in",), out, (*TOKENS, "streams"), ((2, (*TOKENS, "h", "streams")),), names[1:])


def _predict(b: Draft) -> None:
    _router(b, "x", "modes", first=True)
    b.linear("altup.prediction_coefs", "modes", "coefs", ("predictions", "streams"), "other")
    b.op("mix", ("x", "coefs"), "predicted", STREAMS, ((2, (*RESIDUAL, "predictions")),))
    b.op("select", ("predicted",), "active", RESIDUAL)


def _laurel(b: Draft) -> None:
    b.linear("laurel.linear_left", "a", "ll", ("laurel", "h"), "other")
    b.linear("laurel.linear_right", "ll", "lr", ("h", "laurel"), "other")
    b.norm("laurel.post_laurel_norm", "lr", "ln")
    b.add("a", "ln", "lo")


def _correct(b: Draft) -> None:
    _router(b, "activated", "modes2", first=False)
    b.linear("altup.correction_coefs", "modes2", "shares", ("streams", "streams"), "other")
    b.op("mix", ("activated", "predicted", "shares"), "corrected", STREAMS)
    scale = b.tensor("altup.correct_output_scale", ("h",), "other")
    b.op("scale", ("corrected",), "first", RESIDUAL, weights=[scale])
