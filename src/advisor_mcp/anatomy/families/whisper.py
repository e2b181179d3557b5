"""Whisper: an encoder of 30 seconds of sound, and a decoder that attends to it in every layer."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Cache, Span
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Plain,
    assemble,
    attend,
    by_kind,
    embedding_block,
    head_block,
    kv_cache,
)
from advisor_mcp.anatomy.towers_audio import whisper_encoder

MODEL_TYPES = ("whisper",)
HEARD: Axes = ("b", "audio.frames")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' WhisperConfig.

    The encoder is an audio tower (not in FLOPs or state); the keys and values of its output, computed once for each
    recording, are: `max_source_positions` frames, whatever the length of the text.
    """
    h, heads = c.number("d_model", "hidden_size"), c.number("decoder_attention_heads")
    sizes = {"h": h, "qh": heads, "kvh": heads, "hd": c.divides(h, heads, "the decoder heads do not divide d_model")}
    sizes |= {"ffn": c.number("decoder_ffn_dim"), "vocab": c.number("vocab_size")}
    sizes["positions"] = c.number("max_target_positions", default=448, of="WhisperConfig")
    c.number("num_mel_bins")
    encoder = whisper_encoder(c, sizes, "model.encoder.", by_part=True)
    embedding = embedding_block("model.decoder.embed_tokens.weight", positions="model.decoder.embed_positions.weight")
    decoder = by_kind(["decoder"] * c.layers("decoder_layers"), _layer, "model.decoder.layers.{layer}.")
    tied = c.flag("tie_word_embeddings", default=True)
    table = "model.decoder.embed_tokens.weight"
    head = head_block(table, tied, "model.decoder.layer_norm", "layer", name="proj_out")
    return assemble(c, "whisper", [*encoder, embedding, *decoder, head], sizes, GROUPED_DERIVED, tied)


@dataclass(frozen=True, slots=True)
class Biased:
    """Attention with biases on all but the keys: over the text, or over what the encoder heard."""

    prefix: str
    across: bool = False

    def write(self, b: Draft, source: str, out: str) -> None:
        """Add the projections, the attention and its cache."""
        rows = HEARD if self.across else b.tokens
        tag = "c" if self.across else ""
        b.linear(f"{self.prefix}q_proj", source, f"{tag}q", ("q", "h"), "attention", bias=True)
        read = b.value("heard", (*HEARD, "h")) if self.across else source
        b.linear(f"{self.prefix}k_proj", read, f"{tag}k", ("kv", "h"), "attention", tokens=rows)
        b.linear(f"{self.prefix}v_proj", read, f"{tag}v", ("kv", "h"), "attention", bias=True, tokens=rows)
        reads = [f"{tag}{name}" for name in "qkv"]
        if self.across:
            flops = ((4, (*b.tokens, "audio.frames", "qh", "hd")),)
            b.op("attention", reads, "catt", (*b.tokens, "qh", "hd"), flops)
            b.caches.append(Cache("cross", fixed=((2, ("audio.frames", "kvh", "hd")),)))
        else:
            attend(b, Span(), reads=reads)
            b.caches.append(kv_cache(Span(), ((2, ("kvh", "hd")),)))
        b.linear(f"{self.prefix}out_proj", f"{tag}att", out, ("h", "q"), "attention", bias=True)


def _layer(b: Draft, kind: str) -> None:
    b.norm("self_attn_layer_norm", "x", "a", "layer")
    Biased("self_attn.").write(b, "a", "o")
    b.add("x", "o", "r")
    b.norm("encoder_attn_layer_norm", "r", "ca", "layer")
    Biased("encoder_attn.", across=True).write(b, "ca", "co")
    b.add("r", "co", "r2")
    b.norm("final_layer_norm", "r2", "m", "layer")
    Plain(names=("fc1", "fc2")).write(b, "m", prefix="")
    b.add("r2", "y", "out")
