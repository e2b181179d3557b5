"""Moonshine: an encoder that reads the samples of a sound themselves, and a decoder that attends to it in every layer."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block, Cache, Span
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Grouped,
    assemble,
    by_kind,
    embedding_block,
    head_block,
)
from advisor_mcp.anatomy.towers import Layer, convolve

MODEL_TYPES = ("moonshine",)
HEARD: Axes = ("b", "audio.frames")
SAMPLED: dict[str, Axes] = {name: ("b", f"audio.{name}_frames") for name in ("conv1", "conv2")}
TABLE = "model.decoder.embed_tokens.weight"
SAME_LENGTH = "the decoder is taken to attend to as many frames of sound as its text has tokens"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MoonshineConfig.

    The encoder is an audio tower (not in FLOPs or state); what the decoder keeps of it is one entry for each frame.
    """
    h, heads = c.number("hidden_size"), c.number("decoder_num_attention_heads", "num_attention_heads")
    hd = c.optional("head_dim") or c.divides(h, heads, "decoder_num_attention_heads does not divide hidden_size")
    kv_heads = c.number("decoder_num_key_value_heads", "num_key_value_heads", default=heads)
    c.divides(heads, kv_heads, "the decoder's KV heads do not divide its heads")
    ffn = c.number("intermediate_size")
    sizes = {"h": h, "qh": heads, "kvh": kv_heads, "hd": hd, "ffn": ffn, "vocab": c.number("vocab_size")}
    bias, tied = c.flag("attention_bias"), c.flag("tie_word_embeddings", default=True)
    encoder = _encoder(c, sizes, bias)
    depth = c.layers("decoder_num_hidden_layers", "num_hidden_layers")
    decoder = by_kind(["decoder"] * depth, lambda b, _: _layer(b, bias), "model.decoder.layers.{layer}.")
    head = head_block(TABLE, tied, "model.decoder.norm", "layer_no_bias", name="proj_out")
    c.notes.append(SAME_LENGTH)
    derived = GROUPED_DERIVED | {"gate_up": ((2, ("ffn",)),)}
    return assemble(c, "moonshine", [*encoder, embedding_block(TABLE), *decoder, head], sizes, derived, tied)


def _encoder(c: Config, sizes: dict[str, int], bias: bool) -> list[Block]:
    h, heads = sizes["h"], c.number("encoder_num_attention_heads")
    hd = c.optional("head_dim") or c.divides(h, heads, "encoder_num_attention_heads does not divide hidden_size")
    kv_heads = c.number("encoder_num_key_value_heads", default=heads)
    c.divides(heads, kv_heads, "the encoder's KV heads do not divide its heads")
    sizes |= {"audio.h": h, "audio.twice": 2 * h, "audio.hd": hd, "audio.ffn": sizes["ffn"]}
    sizes |= {"audio.q": heads * hd, "audio.kv": kv_heads * hd}
    first, last = Draft("audio-embedding", "model.encoder.", HEARD), Draft("audio-norm", "model.encoder.", HEARD)
    convolve(first, "conv1", "sound", "c1", ("audio.h", 1, 127), "other", SAMPLED["conv1"])
    first.norm("groupnorm", "c1", "c1n", "layer", "audio.h", "norm", (*SAMPLED["conv1"], "audio.h"))
    convolve(first, "conv2", "c1n", "c2", ("audio.twice", "audio.h", 7), "other", SAMPLED["conv2"], bias=True)
    convolve(first, "conv3", "c2", "x", ("audio.h", "audio.twice", 3), "other", HEARD, bias=True)
    last.norm("layer_norm", "x", "n", "layer_no_bias", "audio.h", "norm")
    layer = Layer(
        ("input_layernorm", "", "post_attention_layernorm", ""), ("q_proj", "k_proj", "v_proj", "o_proj"),
        norm="layer_no_bias", bias=(bias, bias, bias, False), tower="audio", by_part=True,
    )  # fmt: skip
    layers = layer.block("audio-layer", "model.encoder.layers.{layer}.", c.layers("encoder_num_hidden_layers"), HEARD)
    return [first.block((0,), "audio"), layers, last.block((0,), "audio")]


def _layer(b: Draft, bias: bool) -> None:
    """Attention to the text, attention to the sound, and an MLP whose gate and up matrices are one."""
    b.norm("input_layernorm", "x", "a", "layer_no_bias")
    Grouped(q_bias=bias, kv_bias=bias).write(b, "a", Span())
    b.add("x", "o", "r")
    b.norm("post_attention_layernorm", "r", "ca", "layer_no_bias")
    _across(b, bias)
    b.add("r", "co", "r2")
    b.norm("final_layernorm", "r2", "m", "layer_no_bias")
    b.linear("mlp.fc1", "m", "up", ("gate_up", "h"), "mlp", bias=True)
    b.op("gate", ("up",), "act", (*b.tokens, "ffn"))
    b.linear("mlp.fc2", "act", "y", ("h", "ffn"), "mlp", bias=True)
    b.add("r2", "y", "out")


def _across(b: Draft, bias: bool) -> None:
    heard = b.value("heard", (*b.tokens, "h"))
    b.linear("encoder_attn.q_proj", "ca", "cq", ("q", "h"), "attention", bias)
    for name in ("k", "v"):
        b.linear(f"encoder_attn.{name}_proj", heard, f"c{name}", ("kv", "h"), "attention", bias)
    b.op("attention", ("cq", "ck", "cv"), "catt", (*b.tokens, "qh", "hd"), ((4, (*b.tokens, "s", "qh", "hd")),))
    b.caches.append(Cache("cross", entry=((2, ("kvh", "hd")),)))
    b.linear("encoder_attn.o_proj", "catt", "co", ("h", "q"), "attention")
