"""Doge: attention over the positions that a learned mask keeps, scaled residuals, and a mixture of single-row experts."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Cache, Span
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    RESIDUAL,
    Attention,
    Draft,
    Feed,
    Gated,
    assemble,
    attend,
    by_kind,
    embedding_block,
    grouped_axes,
    head_block,
    kv_cache,
)
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("doge",)
OF = "DogeConfig"


@dataclass(frozen=True, slots=True)
class Masked:
    """Grouped-query attention whose mask is made of the values: of longer sequences it keeps the positions scored best."""

    bias: bool
    kept: Cache

    def write(self, b: Draft, source: str, span: Span, prefix: str = "self_attn.") -> None:
        """Add the projections, norms, the mask, the attention over the positions that it keeps, and the cache."""
        for letter, width in (("q", "q"), ("k", "kv"), ("v", "kv")):
            b.linear(f"{prefix}{letter}_proj", source, letter, (width, "h"), "attention", self.bias)
        for letter, width in (("q", "q"), ("k", "kv")):
            b.norm(f"{prefix}{letter}_norm", letter, f"{letter}n", "rms", "hd", "qk_norm", (*b.tokens, width))
        b.op("rope", ("qn", "kn"), "qr", (*b.tokens, "q"))
        b.linear(f"{prefix}dt_proj", "v", "dt", ("kvh", "kv"), "attention", self.bias)
        decay = b.tensor(f"{prefix}A", ("kvh",), "attention")
        b.op("mask", ("dt",), "kept", (*b.tokens, "kvh"), weights=[decay])
        attend(b, span, reads=("qr", "kn", "v", "kept"))
        b.caches.append(self.kept)
        b.linear(f"{prefix}o_proj", "att", "o", ("h", "q"), "attention", self.bias)


@dataclass(frozen=True, slots=True)
class RowExperts:
    """A dense MLP and experts of one row each way, chosen by two keys (product keys, arXiv:1907.05242)."""

    dense: Gated

    def write(self, b: Draft, source: str, prefix: str = "mlp.") -> None:
        """Add the MLP, the router over both keys, and the chosen rows' products."""
        self.dense.write(b, source, "dense")
        b.linear(f"{prefix}router_gate", source, "scores", ("two_keys", "h"), "router")
        b.op("top_k", ("scores",), "routes", (*b.tokens, "topk"))
        into = b.tensor(f"{prefix}down_embed.weight", ("expert", "h"), "routed_experts")
        out_of = b.tensor(f"{prefix}up_embed.weight", ("expert", "h"), "routed_experts")
        product = ((2, (*b.tokens, "topk", "h")),)
        b.op("linear", (source, "routes"), "rows", (*b.tokens, "topk"), product, [into])
        b.op("linear", ("rows", "routes"), "routed", RESIDUAL, product, [out_of])
        b.add("dense", "routed", "y")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' DogeConfig (5.23.0)."""
    sizes = grouped_axes(c, OF, heads=8) | {"vocab": c.number("vocab_size"), "ffn": c.number("intermediate_size")}
    window, keeps = c.optional("sliding_window"), c.number("keep_window_size", default=2048, of=OF)
    span = Span(window=keeps if window is None else min(window, keeps))
    attention = Masked(c.flag("attention_bias"), kv_cache(Span(window=window), ((2, ("kvh", "hd")),)))
    feed: Feed = Gated(bias=c.flag("mlp_bias"))
    if c.flag("is_moe"):
        sizes |= _experts(c)
        feed = RowExperts(Gated(bias=c.flag("mlp_bias")))

    def write(b: Draft, kind: str) -> None:
        _layer(b, attention, feed, span)

    tied = c.flag("tie_word_embeddings")
    decoder = by_kind(["layer"] * c.layers(), write)
    blocks = [embedding_block(), *decoder, head_block("model.embed_tokens.weight", tied)]
    return assemble(c, "doge", blocks, sizes, GROUPED_DERIVED, tied, [span])


def _experts(c: Config) -> dict[str, int]:
    number = c.number("num_experts", default=16384, of=OF)
    used, keys = c.number("num_experts_per_tok", default=64, of=OF), isqrt(number)
    if used > keys * keys:
        raise UsageError(
            f"the configuration contradicts itself: num_experts_per_tok {used} exceeds the {keys} x {keys} pairs of keys"
        )
    return {"expert": number, "topk": used, "two_keys": 2 * keys}


def _layer(b: Draft, attention: Attention, feed: Feed, span: Span) -> None:
    """Llama's layer, its residual stream scaled per channel before each sum."""
    b.norm("input_layernorm", "x", "a")
    attention.write(b, "a", span)
    _scaled(b, "input_residual", "x", "o", "r")
    b.norm("post_attention_layernorm", "r", "m")
    feed.write(b, "m")
    _scaled(b, "post_attention_residual", "r", "y", "out")


def _scaled(b: Draft, name: str, stream: str, update: str, out: str) -> None:
    b.op("add", (stream, update), out, RESIDUAL, weights=[b.tensor(name, ("h",), "other")])
