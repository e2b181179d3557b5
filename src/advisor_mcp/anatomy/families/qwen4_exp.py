"""Qwen4-Exp: Qwen3.5's hybrid over several residual streams, sparse attention in blocks, and embeddings of n-grams.

No norm stands between the parts: each reads a learned mix of the normalised streams. The layers that `ple_layer_ids` names
(from 1) look hashed n-grams up in a table of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.qwen3_moe import mixture
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block, Cache, Span, Terms
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, NO_VISION, filled, joined, with_fields
from advisor_mcp.anatomy.nested import text_part
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    RESIDUAL,
    TOKENS,
    Attention,
    Draft,
    assemble,
    attend,
    by_kind,
    embedding_block,
    grouped_axes,
    kv_cache,
)
from advisor_mcp.anatomy.recurrent_delta import DERIVED as DELTA_DERIVED
from advisor_mcp.anatomy.recurrent_delta import GatedDelta, delta_axes, state_dtype
from advisor_mcp.anatomy.sparse import Filled, mixture_axes
from advisor_mcp.anatomy.towers_qwen import QWEN3_5, qwen3_tower
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("qwen4_exp", "qwen4_exp_text")
OF = "Qwen4ExpTextConfig"
DEFAULTS = {
    "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
    "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "num_experts_per_tok": 10, "num_experts": 512,
    "hc_count": 4, "hc_lowrank": 320, "ple_conv_kernel_size": 4, "ngram_size": 3, "heads_per_ngram": 8,
    "ngram_vocab_size_base": 20_000_000, "make_ngram_vocab_size_divisible_by": 128,
}  # fmt: skip
# what a nested configuration may leave out too
NESTED = {"vocab_size": 248320, "hidden_size": 2048, "num_hidden_layers": 40}
KINDS = {"linear_attention": "linear", "indexed_attention": "indexed", "full_attention": "indexed"}
MOST_TABLES = 1024
STREAMS: Axes = (*TOKENS, "wide_h")
DERIVED: dict[str, Terms] = (
    GROUPED_DERIVED
    | DELTA_DERIVED
    | {
        "q_and_gate": ((2, ("qh", "hd")),),
        "wide_h": ((1, ("streams", "h")),),
    }
)
INDEXED: dict[str, Terms] = {"index_qk": ((1, ("index_heads", "index_hd")), (1, ("index_hd",)))}


@dataclass(frozen=True, slots=True)
class BlockSparse:
    """Gated attention over the blocks of `block` tokens that an indexer picks by their mean keys."""

    bias: bool
    block: int

    def write(self, b: Draft, source: str, span: Span, prefix: str = "self_attn.") -> None:
        """Add the indexer, the projections, the attention over what it picked, its gate, and both caches."""
        self._index(b, source, f"{prefix}indexer.")
        for name, out, axis in (("q_proj", "q", "q_and_gate"), ("k_proj", "k", "kv"), ("v_proj", "v", "kv")):
            b.linear(f"{prefix}{name}", source, out, (axis, "h"), "attention", self.bias)
        b.norm(f"{prefix}q_norm", "q", "qn", "rms", "hd", "qk_norm", (*TOKENS, "q"))
        b.norm(f"{prefix}k_norm", "k", "kn", "rms", "hd", "qk_norm", (*TOKENS, "kv"))
        b.op("rope", ("qn", "kn"), "qr", (*TOKENS, "q"))
        attend(b, span, reads=("qr", "kn", "v", "picked"))
        b.caches.append(kv_cache(Span(), ((2, ("kvh", "hd")),)))
        b.op("gate", ("att", "q"), "gated", (*TOKENS, "q"))
        b.linear(f"{prefix}o_proj", "gated", "o", ("h", "q"), "attention", self.bias)

    def _index(self, b: Draft, source: str, prefix: str) -> None:
        role = "sparse_indexer"
        b.linear(f"{prefix}index_qk_proj", source, "iqk", ("index_qk", "h"), role)
        b.norm(f"{prefix}q_layernorm", "iqk", "iq", "rms", "index_hd", role, (*TOKENS, "index_heads", "index_hd"))
        b.norm(f"{prefix}k_layernorm", "iqk", "ik", "rms", "index_hd", role, (*TOKENS, "index_hd"))
        scores: Terms = ((2 / self.block, ("b", "pairs", "index_heads", "index_hd")),)
        b.op("index", ("iq", "ik"), "picked", (*TOKENS, "index_topk"), scores)
        b.caches.append(Cache("full", entry=((1, ("index_hd",)),)))


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Qwen4ExpConfig (5.23.0), or of its decoder."""
    family = c.text("model_type") or "qwen4_exp"
    tied = c.flag("tie_word_embeddings")
    if family == "qwen4_exp_text":
        return _decoder(c, tied)
    text = filled(text_part(c), OF, NESTED)
    found = _decoder(with_fields(text, model_type="qwen4_exp_text"), tied)
    sizes: dict[str, int] = {}
    vision = c.part("vision_config")
    towers = qwen3_tower(vision, sizes, QWEN3_5) if vision is not None else []
    return joined(c, family, found, towers, sizes, LANGUAGE_MODEL, missing=() if towers else (NO_VISION,))


def _decoder(c: Config, tied: bool) -> Architecture:
    f = Filled(c, OF, DEFAULTS)
    sizes = _axes(f)
    mixers = _mixers(f)
    tables = _tables(f, mixers, sizes)
    budget, block = 0, 1
    attentions: dict[str, Attention] = {"linear": GatedDelta("split", state_dtype(f))}
    if "indexed" in mixers:
        budget, block = _index_axes(f, sizes)
        attentions["indexed"] = BlockSparse(f.flag("attention_bias"), block)
    picked = Span(window=budget or None)

    def write(b: Draft, kind: str) -> None:
        mixer, _, table = kind.partition("-")
        _layer(b, attentions[mixer], picked, table, f)

    kinds = [f"{mixer}-{tables[index]}" if index in tables else mixer for index, mixer in enumerate(mixers)]
    blocks = [embedding_block(), *by_kind(kinds, write), _head(tied)]
    spans = [picked, Span()] if budget else []
    derived = DERIVED | INDEXED if budget else DERIVED
    return assemble(f, "qwen4_exp_text", blocks, sizes, derived, tied, spans)


def _axes(f: Filled) -> dict[str, int]:
    sizes = grouped_axes(f, OF, head_dim=256) | {"vocab": f.number("vocab_size")}
    sizes |= delta_axes(
        f, f.number("linear_num_key_heads"), f.number("linear_num_value_heads"), f.number("linear_key_head_dim"),
        f.number("linear_value_head_dim"), f.number("linear_conv_kernel_dim"),
    )  # fmt: skip
    sizes |= mixture_axes(f, "num_experts", None)
    sizes["shared_ffn"] = f.number("shared_expert_intermediate_size")
    return sizes | {"streams": f.number("hc_count", least=2), "mix_rank": f.number("hc_lowrank")}


def _mixers(f: Filled) -> list[str]:
    layers, every = f.layers(), f.number("full_attention_interval", default=4)
    listed = f.layer_kinds("layer_types", layers, KINDS)
    return listed or ["linear" if (index + 1) % every else "indexed" for index in range(layers)]


def _index_axes(f: Filled, sizes: dict[str, int]) -> tuple[int, int]:
    """Adds the indexer's axes; returns how many tokens it picks, and of how many tokens a block is."""
    if f.number("indexer_kv_heads") != 1:
        raise UsageError("indexer_kv_heads in the configuration must be 1 for this model type")
    sizes |= {"index_heads": f.number("indexer_n_heads"), "index_hd": f.number("indexer_head_dim")}
    budget, block = f.number("indexer_budget"), f.number("indexer_compress_ratio")
    f.divides(budget, block, "indexer_compress_ratio does not divide indexer_budget")
    sizes["index_topk"] = budget
    return budget, block


def _tables(f: Filled, mixers: list[str], sizes: dict[str, int]) -> dict[int, str]:
    """The axis of each layer's table of n-grams; adds the axes.

    The rows of a head are the next prime not taken from `ngram_vocab_size_base` on, those of a table a padded multiple.
    """
    layers = sorted(set(f.numbers("ple_layer_ids", least=1) or []))
    if not layers:
        return {}
    if layers[-1] > len(mixers) or any(mixers[layer - 1] != "linear" for layer in layers):
        raise UsageError("ple_layer_ids in the configuration must name layers, from 1, with linear attention")
    heads = (f.number("ngram_size", least=2) - 1) * f.number("heads_per_ngram")
    if heads * len(layers) > MOST_TABLES:
        raise UsageError(
            f"the configuration has {heads * len(layers)} heads of n-grams; at most {MOST_TABLES} are described"
        )
    width = f.number("ple_embed_dim", default=sizes["h"])
    sizes |= {"ple": width, "ngram_hd": f.divides(width, heads, "the heads of n-grams do not divide ple_embed_dim")}
    primes, multiple = _primes(f.number("ngram_vocab_size_base")), f.number("make_ngram_vocab_size_divisible_by")
    for layer in layers:
        rows = sum(next(primes) for _ in range(heads))
        sizes[f"ngrams.{layer}"] = -(-rows // multiple) * multiple
    return {layer - 1: f"ngrams.{layer}" for layer in layers}


def _primes(least: int) -> Iterator[int]:
    number = max(least, 2)
    while True:
        if all(number % divisor for divisor in range(2, isqrt(number) + 1)):
            yield number
        number += 1


def _layer(b: Draft, attention: Attention, span: Span, table: str, f: Filled) -> None:
    b.value("x", STREAMS)
    stream = "x"
    if table:
        _look_up(b, table, f)
        b.op("add", ("x", "ngram_values", "ngram_conv"), "xs", STREAMS)
        stream = "xs"
    _gather(b, "attn_hyper_connection.", stream, "a")
    attention.write(b, "a", span)
    b.op("combine", (stream, "o", "a.inject"), "r", STREAMS)
    _gather(b, "mlp_hyper_connection.", "r", "m")
    mixture(True).write(b, "m")
    b.op("combine", ("r", "y", "m.inject"), "out", STREAMS)


def _gather(b: Draft, prefix: str, streams: str, out: str, inject: bool = True) -> None:
    """The streams' mean, weighed by a product of low rank; and how much of the update each stream is given."""
    b.norm(f"{prefix}hc_norm", streams, f"{out}.normed", axis="wide_h")
    b.linear(f"{prefix}input_mix_weight_down", f"{out}.normed", f"{out}.low", ("mix_rank", "wide_h"), "other")
    b.linear(f"{prefix}input_mix_weight_up", f"{out}.low", f"{out}.mix", ("wide_h", "mix_rank"), "other")
    b.op("combine", (f"{out}.normed", f"{out}.mix"), out, RESIDUAL)
    if inject:
        b.linear(f"{prefix}block_inject_weight", f"{out}.normed", f"{out}.inject", ("streams", "wide_h"), "other")


def _look_up(b: Draft, table: str, f: Filled) -> None:
    """The n-grams' rows, gated per stream by the stream itself, and a dilated convolution over what that gives."""
    kernel, size = f.number("ple_conv_kernel_size"), f.number("ngram_size")
    rows = b.tensor("ple.ple_embedding.ngram_embedding.weight", (table, "ngram_hd"), "per_layer_embedding")
    b.value("ngram_ids", TOKENS, "int")
    b.op("lookup", ("ngram_ids",), "ngrams", (*TOKENS, "ple"), weights=[rows])
    b.linear("ple.key_proj", "ngrams", "ngram_keys", ("wide_h", "ple"), "other")
    b.linear("ple.value_proj", "ngrams", "ngram_value", ("h", "ple"), "other")
    b.norm("ple.norm_key", "ngram_keys", "ngram_keys_n", axis="wide_h")
    b.norm("ple.norm_query", "x", "ngram_queries", axis="wide_h")
    b.op("gate", ("ngram_keys_n", "ngram_queries", "ngram_value"), "ngram_values", STREAMS)
    b.norm("ple.norm_conv", "ngram_values", "ngram_values_n", axis="wide_h")
    weight = b.tensor("ple.conv1d.weight", ("wide_h", 1, kernel), "other")
    product: Terms = ((2, (*TOKENS, "wide_h", kernel)),)
    b.op("conv", ("ngram_values_n",), "ngram_conv", STREAMS, product, [weight])
    b.caches.append(Cache("recurrent", fixed=(((kernel - 1) * size, ("wide_h",)), (size - 1, ()))))


def _head(tied: bool) -> Block:
    """A last mix of the streams, which takes the place of a norm, and the vocabulary."""
    b = Draft("head")
    b.value("x", STREAMS)
    _gather(b, "model.hyper_connection_mixer.", "x", "xn", inject=False)
    if tied:
        product: Terms = ((2, (*TOKENS, "h", "vocab")),)
        b.op("linear", ("xn",), "logits", (*TOKENS, "vocab"), product, ["model.embed_tokens.weight"])
    else:
        b.linear("lm_head", "xn", "logits", ("vocab", "h"), "lm_head")
    return b.block((0,))
