"""Granite Speech: a Granite decoder behind a conformer and a querying transformer over short windows of sound."""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block
from advisor_mcp.anatomy.multimodal import filled, joined
from advisor_mcp.anatomy.nested import INSIDE, decoder
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.towers import convolve
from advisor_mcp.anatomy.towers_qformer import QUERIES, H, qformer
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("granite_speech",)
FRAMES: Axes = ("images", "audio.frames")
ENCODER = {
    "input_dim": 160, "num_layers": 10, "hidden_dim": 1024, "feedforward_mult": 4, "num_heads": 8, "output_dim": 42,
    "max_pos_emb": 512, "conv_kernel_size": 15, "conv_expansion_factor": 2, "context_size": 200,
}  # fmt: skip
ALIASES = {
    "hidden_dim": "hidden_size", "num_layers": "num_hidden_layers", "num_heads": "num_attention_heads",
    "input_dim": "num_mel_bins",
}  # fmt: skip
ADAPTER = "the low-rank adapter that the checkpoint adds to the decoder for sound is not counted"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' GraniteSpeechConfig; the head is tied unless the top level denies it."""
    inner = decoder(c, "granite", c.flag("tie_word_embeddings", default=True))
    sizes: dict[str, int] = {}
    given = c.part("encoder_config") or Config({}, "encoder_config.", c.notes)
    absent = {field: value for field, value in ENCODER.items() if ALIASES.get(field) not in given.data}
    towers, beside = _encoder(filled(given, "GraniteSpeechEncoderConfig", absent), sizes)
    towers += _projector(c, sizes, inner.sizes["h"])
    missing = (ADAPTER,) if c.flag("has_lora_adapter", default=True) else ()
    found = joined(c, "granite_speech", inner, towers, sizes, INSIDE, missing)
    return replace(found, beside=(*found.beside, beside))


def _encoder(c: Config, sizes: dict[str, int]) -> tuple[list[Block], Block]:
    h, heads = c.number("hidden_dim", "hidden_size"), c.number("num_heads", "num_attention_heads")
    hd = c.optional("dim_head") or c.divides(h, heads, "the audio heads do not divide its hidden_dim")
    wide = h * c.number("conv_expansion_factor")
    if c.number("context_size") > c.number("max_pos_emb"):
        raise UsageError(f"{c.prefix}context_size in the configuration exceeds max_pos_emb")
    sizes |= {"audio.h": h, "audio.q": heads * hd, "audio.kv": 2 * heads * hd, "audio.hd": hd, "audio.wide": wide}
    sizes |= {"audio.glu": 2 * wide, "audio.ffn": h * c.number("feedforward_mult"), "audio.out": c.number("output_dim")}
    sizes |= {"audio.mels": c.number("input_dim", "num_mel_bins"), "audio.context": c.number("context_size")}
    sizes["audio.positions"] = 2 * c.number("max_pos_emb") + 1
    first, last = Draft("audio-embedding", "encoder.", FRAMES), Draft("audio-end", "encoder.", FRAMES)
    first.linear("input_linear", "mel", "x", ("audio.h", "audio.mels"), "audio", bias=True)
    last.linear("out", "x", "guess", ("audio.out", "audio.h"), "audio", bias=True)
    last.linear("out_mid", "guess", "back", ("audio.h", "audio.out"), "audio", bias=True)
    layers = tuple(range(c.layers("num_layers", "num_hidden_layers")))
    layer = _layer(layers, c.number("conv_kernel_size"))
    return [first.block((0,), "audio"), layer, last.block((0,), "audio")], _statistics(layers)


def _layer(layers: tuple[int, ...], kernel: int) -> Block:
    """A conformer's: half an MLP, attention within `context_size` frames, a convolution over time, half an MLP, a norm."""
    b = Draft("audio-layer", "encoder.layers.{layer}.", FRAMES)
    b.value("x", (*FRAMES, "audio.h"))
    _feed(b, "ff1.", "x", "x1")
    b.norm("attn.pre_norm", "x1", "a", "layer", "audio.h", "audio")
    b.linear("attn.to_q", "a", "q", ("audio.q", "audio.h"), "audio")
    b.linear("attn.to_kv", "a", "kv", ("audio.kv", "audio.h"), "audio")
    table = b.tensor("attn.rel_pos_emb.weight", ("audio.positions", "audio.hd"), "audio")
    # queries meet keys, values and a vector for each distance
    pairs: Axes = (*FRAMES, "audio.context", "audio.q")
    b.op("attention", ("q", "kv"), "att", (*FRAMES, "audio.q"), ((6, pairs),), [table])
    b.linear("attn.to_out", "att", "o", ("audio.h", "audio.q"), "audio", bias=True)
    b.add("x1", "o", "x2")
    _convolution(b, kernel)
    _feed(b, "ff2.", "x3", "x4")
    b.norm("post_norm", "x4", "out", "layer", "audio.h", "audio")
    return b.block(layers, "audio")


def _feed(b: Draft, prefix: str, source: str, out: str) -> None:
    b.norm(f"{prefix}pre_norm", source, f"{prefix}n", "layer", "audio.h", "audio")
    b.linear(f"{prefix}up_proj", f"{prefix}n", f"{prefix}up", ("audio.ffn", "audio.h"), "audio", bias=True)
    b.op("activation", (f"{prefix}up",), f"{prefix}act", (*FRAMES, "audio.ffn"))
    b.linear(f"{prefix}down_proj", f"{prefix}act", f"{prefix}y", ("audio.h", "audio.ffn"), "audio", bias=True)
    b.add(source, f"{prefix}y", out)


def _convolution(b: Draft, kernel: int) -> None:
    b.norm("conv.norm", "x2", "cn", "layer", "audio.h", "audio")
    convolve(b, "conv.up_conv", "cn", "cu", ("audio.glu", "audio.h", 1), "audio", FRAMES, bias=True)
    b.op("gate", ("cu",), "cg", (*FRAMES, "audio.wide"))
    convolve(b, "conv.depth_conv.conv", "cg", "cd", ("audio.wide", 1, kernel), "audio", FRAMES)
    b.norm("conv.batch_norm", "cd", "cb", "layer", "audio.wide", "audio")
    convolve(b, "conv.down_conv", "cb", "co", ("audio.h", "audio.wide", 1), "audio", FRAMES, bias=True)
    b.add("x2", "co", "x3")


def _statistics(layers: tuple[int, ...]) -> Block:
    """What the batch norms remember of training: buffers that the checkpoint holds."""
    b = Draft("batch norm statistics", "encoder.layers.{layer}.conv.batch_norm.")
    for name in ("running_mean", "running_var"):
        b.tensor(name, ("audio.wide",), "audio")
    b.tensor("num_batches_tracked", (), "audio")
    return b.block(layers, "audio")


def _projector(c: Config, sizes: dict[str, int], width: int) -> list[Block]:
    """`window_size` frames at a time become `window_size` / `downsample_rate` vectors of the decoder's width."""
    queries = c.number("window_size", default=15) // c.number("downsample_rate", default=5)
    if not queries:
        raise UsageError("window_size in the configuration is smaller than downsample_rate, which leaves no vector")
    blocks = qformer(c.part("projector_config"), sizes, "projector.qformer.", "audio", "projector_config")
    b = Draft("audio-projector", "projector.", QUERIES)
    b.tensor("query", (1, queries, H), "audio")
    b.linear("linear", "x", "soft", (width, H), "audio", bias=True)
    return [*blocks, b.block((0,), "audio")]
