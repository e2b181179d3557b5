"""Tencent's Hy4: sparse latent attention with a gate and sinks, experts, and several residual streams mixed at each part."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.deepseek_v32 import SHARES
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block, Cache, Span, Terms
from advisor_mcp.anatomy.parts import (
    RESIDUAL,
    TOKENS,
    Attention,
    Draft,
    Experts,
    Feed,
    Gated,
    Latent,
    assemble,
    attend,
    by_kind,
    embedding_block,
)
from advisor_mcp.anatomy.sparse import (
    INDEX_DERIVED,
    LATENT_DERIVED,
    MLP_KINDS,
    Filled,
    index_axes,
    indexer,
    latent_axes,
    mixture,
    mixture_axes,
    router_biases,
    suffixed,
)

MODEL_TYPES = ("hy_v4",)
DEFAULTS = {
    "num_attention_heads": 32, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64,
    "v_head_dim": 256, "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
    "index_topk": 2048, "index_head_dim": 128, "index_n_heads": 16, "hc_mult": 4,
}  # fmt: skip
STREAMS: Axes = (*TOKENS, "streams", "h")
EXPERTS = Experts(prefix="mlp.experts.", layout="stacked_out_in")
PREDICTION = "the prediction layers (model.mtp_layers) that the checkpoint holds beside the model"
DERIVED: dict[str, Terms] = (
    LATENT_DERIVED
    | INDEX_DERIVED
    | {"gate_up": ((2, ("moe_ffn",)),), "wide_h": ((1, ("streams", "h")),), "mixes": ((2, ("streams",)),)}
)


@dataclass(frozen=True, slots=True)
class GatedIndexed:
    """Latent attention over the positions that this layer's indexer, or the last one, picked; with sinks and a gate."""

    latent: Latent
    own: bool

    def write(self, b: Draft, source: str, span: Span, prefix: str = "self_attn.") -> None:
        """Add the gate, the projections, the indexer, the attention over what it picked, and both caches."""
        b.linear(f"{prefix}linear_gate", source, "og", ("v", "h"), "attention")
        self.latent.project(b, source, prefix)
        reads: tuple[str, ...] = ("qr", "kva", "kvb")
        if self.own:
            indexer(b, source, f"{prefix}indexer.")
            b.caches.append(Cache("full", entry=((1, ("index_hd",)),)))
            reads = (*reads, "picked")
        sinks = b.tensor(f"{prefix}learnable_sink_param", ("qh",), "attention", dtype="fp32")
        attend(b, span, key_dim="qk_dim", value_dim="v_dim", reads=reads, weights=[sinks])
        b.caches.append(Cache("latent", entry=((1, ("latent",)),)))
        b.op("gate", ("att", "og"), "gated", (*b.tokens, "v"))
        b.linear(f"{prefix}o_proj", "gated", "o", ("h", "v"), "attention", self.latent.bias)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' HYV4Config (5.23.0); tensor names are those of the published checkpoint."""
    f = Filled(c, "HYV4Config", DEFAULTS)
    sizes = latent_axes(f, f.number("q_lora_rank")) | index_axes(f)
    sizes |= {"vocab": f.number("vocab_size"), "streams": f.number("hc_mult")}
    layers = f.layers()
    feeds = f.layer_kinds("mlp_layer_types", layers, MLP_KINDS) or ["dense"] + ["moe"] * (layers - 1)
    kinds = suffixed(feeds, ["" if own else SHARES for own in _indexers(f, layers)])
    parts: dict[str, Feed] = {"dense": Gated()}
    if "dense" in feeds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in feeds:
        sizes |= mixture_axes(f)
        parts["moe"] = mixture(sizes, EXPERTS)
    latent, picked = Latent(True, f.flag("attention_bias")), Span(window=sizes["index_topk"])

    def write(b: Draft, kind: str) -> None:
        _layer(b, GatedIndexed(latent, not kind.endswith(SHARES)), parts[kind.split("-")[0]], picked)

    tied = f.flag("tie_word_embeddings")
    blocks = [embedding_block(), *by_kind(kinds, write), _head(tied)]
    routed = tuple(index for index, feed in enumerate(feeds) if feed == "moe")
    beside = (router_biases("model.layers.{layer}.mlp.gate.e_score_correction_bias", routed),) if routed else ()
    spans = [picked, Span()]
    derived = DERIVED if "moe" in feeds else {axis: terms for axis, terms in DERIVED.items() if axis != "gate_up"}
    return assemble(
        c, "hy_v4", blocks, sizes, derived, tied, spans, beside=beside, not_described=(PREDICTION,)
    )  # fmt: skip


def _indexers(f: Filled, layers: int) -> list[bool]:
    listed = f.layer_kinds("indexer_types", layers, {"full": "full", "shared": "shared"})
    if listed is not None:
        return [kind == "full" for kind in listed]
    return [index == 0 or (index - 1) % 4 == 0 for index in range(layers)]


def _layer(b: Draft, attention: Attention, feed: Feed, span: Span) -> None:
    """Attention and feed-forward part, each between a mix of the streams into one and its return to all of them."""
    b.value("x", STREAMS)
    _gather(b, "attn", "x", "x1", "attention")
    b.norm("input_layernorm", "x1", "a")
    attention.write(b, "a", span)
    b.op("combine", ("x", "o", "attn_mix"), "r", STREAMS)
    _gather(b, "mlp", "r", "x2", "mlp")
    b.norm("post_attention_layernorm", "x2", "m")
    feed.write(b, "m")
    b.op("combine", ("r", "y", "mlp_mix"), "out", STREAMS)


def _gather(b: Draft, which: str, streams: str, out: str, role: str) -> None:
    prefix = f"hc_{which}_layer.hc_pre.hc_"
    _mix(b, prefix, streams, f"{which}_mix", "mixes", 2, role)
    b.op("combine", (streams, f"{which}_mix"), out, RESIDUAL)


def _mix(b: Draft, prefix: str, streams: str, out: str, width: str, scales: int, role: str) -> None:
    """How much of each stream is taken and given back, from a product of all of them that is computed in fp32."""
    weights = [
        b.tensor(f"{prefix}fn", (width, "wide_h"), role, dtype="fp32"),
        b.tensor(f"{prefix}base", (width,), role, dtype="fp32"),
        b.tensor(f"{prefix}scale", (scales,), role, dtype="fp32"),
    ]
    b.op("linear", (streams,), out, (*TOKENS, width), ((2, (*TOKENS, "wide_h", width)),), weights)


def _head(tied: bool) -> Block:
    b = Draft("head")
    b.value("x", STREAMS)
    _mix(b, "model.hc_head.hc_head_", "x", "head_mix", "streams", 1, "other")
    b.op("combine", ("x", "head_mix"), "one", RESIDUAL)
    b.norm("model.norm", "one", "xn")
    if tied:
        product: Terms = ((2, (*TOKENS, "h", "vocab")),)
        b.op("linear", ("xn",), "logits", (*TOKENS, "vocab"), product, ["model.embed_tokens.weight"])
    else:
        b.linear("lm_head", "xn", "logits", ("vocab", "h"), "lm_head")
    return b.block((0,))
