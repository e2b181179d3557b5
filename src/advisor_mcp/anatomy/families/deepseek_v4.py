"""DeepSeek V4: one shared KV head in a short window, compressed attention beyond it, and four residual streams.

Layers are of three kinds of attention: the window alone, the window and an indexer's choice of entries that stand for four
tokens each, or the window and every entry of 128 tokens. Tensor names are those of DeepSeek's checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Axis, Block, Cache, Span, Tensor, Terms
from advisor_mcp.anatomy.parts import (
    RESIDUAL,
    TOKENS,
    Draft,
    Experts,
    Gated,
    Mixture,
    assemble,
    by_kind,
    embedding_block,
    kv_cache,
    pairs_axis,
)
from advisor_mcp.anatomy.sparse import Filled, index_axes, mixture_axes, prediction_layers, router_biases
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("deepseek_v4",)
OF = "DeepseekV4Config"
DEFAULTS = {
    "num_attention_heads": 64, "head_dim": 512, "q_lora_rank": 1024, "num_experts_per_tok": 6, "n_routed_experts": 256,
    "n_shared_experts": 1, "moe_intermediate_size": 2048, "hc_mult": 4, "sliding_window": 128,
    "o_groups": 8, "o_lora_rank": 1024, "index_n_heads": 64,
    "index_head_dim": 128, "index_topk": 512, "num_hash_layers": 3, "num_key_value_heads": 1,
}  # fmt: skip
HEAD_MIX: tuple[tuple[str, Axis], ...] = (("base", "streams"), ("scale", 1))
LAYER_KINDS = {
    "sliding_attention": "window",
    "compressed_sparse_attention": "picked",
    "heavily_compressed_attention": "compressed",
}
RATIO_KINDS = {0: "window", 4: "picked", 128: "compressed"}
RATES = {"picked": ("compressed_sparse_attention", 4), "compressed": ("heavily_compressed_attention", 128)}
STREAMS: Axes = (*TOKENS, "streams", "h")
EXPERTS = Experts("ffn.gate", prefix="ffn.experts.{expert}.", names=("w1", "w3", "w2"))
SHARED = Gated("shared_ffn", "shared_expert", ("w1", "w3", "w2"))
MIXTURE = Mixture(EXPERTS, SHARED, "ffn.shared_experts.")
DERIVED: dict[str, Terms] = {
    "q": ((1, ("qh", "hd")),),
    "q_group": ((1, ("qh_group", "hd")),),
    "o_mid": ((1, ("groups_out", "o_rank")),),
    "two_hd": ((2, ("hd",)),),
    "wide_h": ((1, ("streams", "h")),),
    "mixes": ((2, ("streams",)), (1, ("streams", "streams"))),
    "index_q": ((1, ("index_heads", "index_hd")),),
    "two_index": ((2, ("index_hd",)),),
}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' DeepseekV4Config (5.23.0)."""
    f = Filled(c, OF, DEFAULTS)
    layers = f.layers()
    rates = _rates(f)
    window = Span(window=f.number("sliding_window"))
    attentions = _attentions(f, layers)
    sizes = _sizes(f)
    spans = [window, Span(), *(Span(window=sizes["index_topk"] * rates["picked"]) for _ in attentions[:1])]
    table = {
        kind: Compressed(kind, window, rates.get(kind, 1), sizes["index_topk"]) for kind in dict.fromkeys(attentions)
    }

    def write(b: Draft, kind: str) -> None:
        _layer(b, table[kind])

    decoder = by_kind(attentions, write, "layers.{layer}.")
    tied = f.flag("tie_word_embeddings")
    blocks = [embedding_block("embed.weight"), *decoder, _head(tied)]
    beside = _beside(f, layers, Compressed("window", window, 1, sizes["index_topk"]))
    return assemble(c, "deepseek_v4", blocks, sizes, DERIVED, tied, spans, beside=beside)


def _sizes(f: Filled) -> dict[str, int]:
    heads, groups, size = f.number("num_attention_heads"), f.number("o_groups"), f.number("head_dim")
    sizes = {
        "h": f.number("hidden_size"),
        "vocab": f.number("vocab_size"),
        "qh": heads,
        "hd": size,
        "q_rank": f.number("q_lora_rank"),
        "groups_out": groups,
        "qh_group": f.divides(heads, groups, "o_groups does not divide num_attention_heads"),
        "o_rank": f.number("o_lora_rank"),
        "streams": f.number("hc_mult"),
    }
    if (shared := f.number("n_shared_experts")) != 1:
        raise CannotAnswer(f"n_shared_experts is {shared}; DeepSeek-V4 is described with 1 shared expert")
    if (kv_heads := f.number("num_key_value_heads")) != 1:
        raise CannotAnswer(f"num_key_value_heads is {kv_heads}; DeepSeek-V4 is described with 1 KV head")
    return sizes | index_axes(f) | mixture_axes(f)


def _rates(f: Filled) -> dict[str, int]:
    given = f.part("compress_rates")
    found = {}
    for kind, (name, default) in RATES.items():
        legacy = "compress_rate_csa" if kind == "picked" else "compress_rate_hca"
        rate = given.optional(name) if given else None
        found[kind] = f.optional(legacy) or rate or default
    return found


def _attentions(f: Filled, layers: int) -> list[str]:
    """Each layer's attention; older files give the tokens per compressed entry, and may list the prediction layers too."""
    listed = f.entries("layer_types")
    ratios = f.entries("compress_ratios")
    if listed is not None:
        kinds = [LAYER_KINDS.get(kind) if isinstance(kind, str) else None for kind in listed]
    elif ratios is not None:
        kinds = [RATIO_KINDS.get(ratio) if isinstance(ratio, int) else None for ratio in ratios]
    else:
        kinds = ["compressed" if index < 2 or index % 2 == 0 else "picked" for index in range(layers)]
    return _checked("compress_ratios" if listed is None else "layer_types", kinds, listed or ratios or kinds, layers)


def _checked(name: str, kinds: list[str | None], given: Sequence[object], layers: int) -> list[str]:
    if len(kinds) < layers:
        raise UsageError(f"{name} in the configuration has {len(kinds)} entries for {layers} layers")
    found = []
    for kind, entry in zip(kinds[:layers], given[:layers], strict=True):
        if kind is None:
            raise CannotAnswer(f"{name} names {shown(entry)}, an attention that is not described for DeepSeek-V4")
        found.append(kind)
    return found


@dataclass(frozen=True, slots=True)
class Compressed:
    """DeepSeek-V4's attention of one kind; `rate` tokens share a compressed entry, of which an indexer picks `picks`."""

    kind: str
    window: Span
    rate: int
    picks: int

    def write(self, b: Draft, source: str) -> None:
        """Add the projections, the compressor and the indexer of this kind, the attention, and the grouped output."""
        b.linear("attn.wq_a", source, "qa", ("q_rank", "h"), "attention")
        b.norm("attn.q_norm", "qa", "qan", axis="q_rank")
        b.linear("attn.wq_b", "qan", "q", ("q", "q_rank"), "attention")
        b.linear("attn.wkv", source, "kv", ("hd", "h"), "attention")
        b.norm("attn.kv_norm", "kv", "kvn", axis="hd")
        b.caches.append(kv_cache(self.window, ((1, ("hd",)),)))
        reads = ["q", "kvn"]
        if self.kind != "window":
            double = self.kind == "picked"
            _compressor(b, source, "attn.compressor.", "hd", "two_hd" if double else "hd", self.rate, "attention")
            b.caches.append(Cache("compressed", ((1, ("hd",)),), tokens_per_entry=self.rate))
            reads.append("attn.compressor.entries")
        if self.kind == "picked":
            self._index(b, source)
            reads.append("picked")
        self._attend(b, reads)
        grouped = b.tensor("attn.wo_a.weight", ("o_mid", "q_group"), "attention", matrix=True)
        products: Terms = ((2, (*TOKENS, "qh", "hd", "o_rank")),)
        b.op("linear", ("att",), "om", (*TOKENS, "o_mid"), products, [grouped])
        b.linear("attn.wo_b", "om", "o", ("h", "o_mid"), "attention")

    def _index(self, b: Draft, source: str) -> None:
        role, prefix = "sparse_indexer", "attn.indexer."
        b.linear(f"{prefix}wq_b", "qan", "iq", ("index_q", "q_rank"), role)
        b.linear(f"{prefix}weights_proj", source, "iw", ("index_heads", "h"), role)
        _compressor(b, source, f"{prefix}compressor.", "index_hd", "two_index", self.rate, role)
        b.caches.append(Cache("compressed", ((1, ("index_hd",)),), tokens_per_entry=self.rate))
        scores: Terms = ((2 / self.rate, ("b", "pairs", "index_heads", "index_hd")),)
        b.op("index", ("iq", f"{prefix}compressor.entries", "iw"), "picked", (*TOKENS, "index_topk"), scores)

    def _attend(self, b: Draft, reads: list[str]) -> None:
        """Keys are values: one latent per position of the window and per compressed entry that the query sees."""
        flops: list[tuple[float, Axes]] = [(4, ("b", pairs_axis(self.window), "qh", "hd"))]
        if self.kind != "window":
            seen = Span() if self.kind == "compressed" else Span(window=self.picks * self.rate)
            flops.append((4 / self.rate, ("b", pairs_axis(seen), "qh", "hd")))
        sinks = b.tensor("attn.attn_sink", ("qh",), "attention")
        b.op("attention", reads, "att", (*TOKENS, "qh", "hd"), tuple(flops), [sinks])


def _compressor(b: Draft, source: str, prefix: str, size: str, width: str, rate: int, role: str) -> None:
    """Entries that stand for `rate` tokens each: a softmax over their gates weighs their keys."""
    keys = b.tensor(f"{prefix}wkv.weight", (width, "h"), role, matrix=True)
    gates = b.tensor(f"{prefix}wgate.weight", (width, "h"), role, matrix=True)
    places = b.tensor(f"{prefix}ape", (rate, width), role)
    norm = b.tensor(f"{prefix}norm.weight", (size,), role if role == "sparse_indexer" else "norm")
    for weight, out in ((keys, "keys"), (gates, "gates")):
        product: Terms = ((2, (*TOKENS, "h", width)),)
        b.op("linear", (source,), f"{prefix}{out}", (*TOKENS, width), product, [weight])
    b.op("compress", (f"{prefix}keys", f"{prefix}gates"), f"{prefix}entries", (*TOKENS, size), weights=[places, norm])


def _layer(b: Draft, attention: Compressed) -> None:
    """Attention and experts, each between a mix of the residual streams into one and its return to all of them."""
    b.value("xs", STREAMS)
    gather(b, "attn", "xs", "x1", "attention")
    b.norm("attn_norm", "x1", "a")
    attention.write(b, "a")
    scatter(b, "attn", "xs", "o", "rs")
    gather(b, "ffn", "rs", "x2", "mlp")
    b.norm("ffn_norm", "x2", "m")
    MIXTURE.write(b, "m")
    scatter(b, "ffn", "rs", "y", "out")


def gather(b: Draft, which: str, streams: str, out: str, role: str) -> None:
    """Mix the residual streams into one by weights that a product of all of them makes."""
    fn = b.tensor(f"hc_{which}_fn", ("mixes", "wide_h"), role, dtype="fp32")
    base = b.tensor(f"hc_{which}_base", ("mixes",), role, dtype="fp32")
    scale = b.tensor(f"hc_{which}_scale", (3,), role, dtype="fp32")
    product: Terms = ((2, (*TOKENS, "wide_h", "mixes")),)
    b.op("linear", (streams,), f"{which}_mix", (*TOKENS, "mixes"), product, [fn, base, scale])
    b.op("combine", (streams, f"{which}_mix"), out, RESIDUAL)


def scatter(b: Draft, which: str, streams: str, update: str, out: str) -> None:
    """Mix the residual streams among each other and add the update to each."""
    product: Terms = ((2, (*TOKENS, "streams", "streams", "h")),)
    b.op("linear", (streams, update, f"{which}_mix"), out, STREAMS, product)


def _collapse(b: Draft, streams: str, out: str) -> None:
    """The streams' weighted sum before the last norm."""
    fn = b.tensor("hc_head_fn", ("streams", "wide_h"), "other", dtype="fp32")
    rest = [b.tensor(f"hc_head_{name}", (size,), "other", dtype="fp32") for name, size in HEAD_MIX]
    product: Terms = ((2, (*TOKENS, "wide_h", "streams")),)
    b.op("linear", (streams,), "head_mix", (*TOKENS, "streams"), product, [fn, *rest])
    b.op("combine", (streams, "head_mix"), out, RESIDUAL)


def _head(tied: bool) -> Block:
    b = Draft("head")
    b.value("out", STREAMS)
    _collapse(b, "out", "x")
    b.norm("norm", "x", "xn")
    if tied:
        product: Terms = ((2, (*TOKENS, "h", "vocab")),)
        b.op("linear", ("xn",), "logits", (*TOKENS, "vocab"), product, ["embed.weight"])
    else:
        b.linear("head", "xn", "logits", ("vocab", "h"), "lm_head")
    return b.block((0,))


def _beside(f: Filled, layers: int, attention: Compressed) -> tuple[Block, ...]:
    """Prediction layers, the routers' biases, and the tables that choose experts by token in the first layers."""
    hashed = _hashed(f, layers)
    chosen = tuple(index for index in range(layers) if index not in hashed)
    found = [_prediction(attention, ahead)] if (ahead := prediction_layers(f)) else []
    found += [router_biases("layers.{layer}.ffn.gate.bias", chosen)] if chosen else []
    if hashed:
        table = Tensor("layers.{layer}.ffn.gate.tid2eid", ("vocab", "topk"), "router")
        found.append(Block("tables of experts by token", hashed, (table,)))
    return tuple(found)


def _hashed(f: Filled, layers: int) -> tuple[int, ...]:
    kinds = f.layer_kinds("mlp_layer_types", layers, {"hash_moe": "hash", "moe": "moe"})
    if kinds is not None:
        return tuple(index for index, kind in enumerate(kinds) if kind == "hash")
    return tuple(range(min(f.number("num_hash_layers", least=0), layers)))


def _prediction(attention: Compressed, count: int) -> Block:
    b = Draft("multi-token prediction", "mtp.{layer}.")
    b.value("ahead", RESIDUAL)
    b.value("hidden", STREAMS)
    b.norm("enorm", "ahead", "en")
    b.norm("hnorm", "hidden", "hn", axes=STREAMS)
    b.linear("e_proj", "en", "e", ("h", "h"), "other")
    b.linear("h_proj", "hn", "hp", ("h", "h"), "other", tokens=(*TOKENS, "streams"))
    b.op("add", ("e", "hp"), "xs", STREAMS)
    _layer(b, attention)
    b.tensor("ffn.gate.bias", ("choices",), "router")
    _collapse(b, "out", "x")
    b.norm("norm", "x", "xn")
    return b.block(tuple(range(count)))
