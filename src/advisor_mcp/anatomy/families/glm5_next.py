"""GLM-5.3-Flash: Kimi Delta Attention, sparse latent attention whose indexer scores pools of tokens, four residual streams.

The vision tower is not described.
"""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.deepseek_v4 import STREAMS, gather, scatter
from advisor_mcp.anatomy.families.deepseek_v32 import indexers
from advisor_mcp.anatomy.inventory import Architecture, Block, Cache, Span, Terms
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, filled, joined, with_fields
from advisor_mcp.anatomy.nested import tie
from advisor_mcp.anatomy.parts import (
    RESIDUAL,
    TOKENS,
    Attention,
    Draft,
    Feed,
    Gated,
    Latent,
    assemble,
    attend,
    by_kind,
    embedding_block,
)
from advisor_mcp.anatomy.recurrent_delta import DERIVED as DELTA_DERIVED
from advisor_mcp.anatomy.recurrent_delta import KimiDelta, delta_axes, state_dtype
from advisor_mcp.anatomy.sparse import (
    INDEX_DERIVED,
    LATENT_DERIVED,
    MLP_KINDS,
    Filled,
    index_axes,
    latent_axes,
    mixture,
    mixture_axes,
    prediction_layers,
    router_biases,
)
from advisor_mcp.errors import CannotAnswer, UsageError

MODEL_TYPES = ("glm5_next", "glm5_next_text")
OF = "Glm5NextTextConfig"
DEFAULTS = {
    "num_attention_heads": 64, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 0, "v_head_dim": 256,
    "qk_nope_head_dim": 256, "n_routed_experts": 288, "n_shared_experts": 1, "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048, "index_topk": 2048, "index_head_dim": 128, "index_n_heads": 32, "index_kpool": 16,
    "linear_head_dim": 128, "linear_num_heads": 64, "linear_conv_kernel_dim": 4, "hc_mult": 4,
}  # fmt: skip
# what a nested configuration may leave out too
NESTED = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 45, "vocab_size": 154880}
KINDS = {"linear_attention": "linear", "indexed_attention": "indexed", "full_attention": "indexed"}
TOWER = "the vision tower and its projection, which are not described here"
PREDICTION = "the prediction layers (num_nextn_predict_layers) that the checkpoint may hold beside the model"
DERIVED: dict[str, Terms] = (
    LATENT_DERIVED
    | INDEX_DERIVED
    | DELTA_DERIVED
    | {"wide_h": ((1, ("streams", "h")),), "mixes": ((2, ("streams",)), (1, ("streams", "streams")))}
)


@dataclass(frozen=True, slots=True)
class Pooled:
    """Latent attention over the pools of `pool` tokens that this layer's indexer, or the last one, picked."""

    latent: Latent
    own: bool
    pool: int

    def write(self, b: Draft, source: str, span: Span, prefix: str = "self_attn.") -> None:
        """Add the projections, the indexer, the attention over what it picked, and both caches."""
        self.latent.project(b, source, prefix)
        reads: tuple[str, ...] = ("qr", "kva", "kvb")
        if self.own:
            self._index(b, source, f"{prefix}indexer.")
            reads = (*reads, "picked")
        attend(b, span, key_dim="qk_dim", value_dim="v_dim", reads=reads)
        b.caches.append(Cache("latent", entry=((1, ("latent",)),)))
        b.linear(f"{prefix}o_proj", "att", "o", ("h", "v"), "attention", self.latent.bias)

    def _index(self, b: Draft, source: str, prefix: str) -> None:
        """The indexer; it keeps each token's key and gate and whether the token counts, and pools them anew."""
        role = "sparse_indexer"
        b.linear(f"{prefix}wq_b", "qan", "iq", ("index_q", "q_rank"), role)
        b.linear(f"{prefix}wk", source, "ik", ("index_hd", "h"), role)
        b.norm(f"{prefix}k_norm", "ik", "ikn", "layer", "index_hd", role)
        b.linear(f"{prefix}weights_proj", source, "iw", ("index_heads", "h"), role)
        gate = b.tensor(f"{prefix}index_kpool_compress_gate", ("index_hd", "h"), role, matrix=True)
        b.op("linear", (source,), "ig", (*TOKENS, "index_hd"), ((2, (*TOKENS, "h", "index_hd")),), [gate])
        places = b.tensor(f"{prefix}index_kpool_compress_ape", (self.pool, "index_hd"), role)
        b.op("compress", ("ikn", "ig"), "pools", (*TOKENS, "index_hd"), weights=[places])
        share = 2 / self.pool
        scores: Terms = ((share, ("b", "pairs", "index_heads", "index_hd")), (share, ("b", "pairs", "index_heads")))
        b.op("index", ("iq", "pools", "iw"), "picked", (*TOKENS, "index_topk"), scores)
        b.caches.append(Cache("full", entry=((2, ("index_hd",)), (1, ()))))


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Glm5NextConfig (its decoder nested or at the top level) or Glm5NextTextConfig."""
    family = c.text("model_type") or "glm5_next"
    text = c.part("text_config") if family == "glm5_next" else None
    if text is None:
        found = _decoder(c, c.flag("tie_word_embeddings"))
        return joined(c, family, found, [], {}, missing=(TOWER,) if c.given("vision_config") else ())
    found = _decoder(with_fields(filled(text, OF, NESTED), model_type="glm5_next_text"), tie(c, text, False))
    return joined(c, family, found, [], {}, LANGUAGE_MODEL, missing=(TOWER,))


def _decoder(c: Config, tied: bool) -> Architecture:
    f = Filled(c, OF, DEFAULTS)
    sizes, layers = _axes(f), f.layers()
    feeds = f.layer_kinds("mlp_layer_types", layers, MLP_KINDS) or ["dense"] * min(3, layers) + ["moe"] * (layers - 3)
    mixers = _mixers(f, layers)
    parts: dict[str, Feed] = {"dense": Gated()}
    if "dense" in feeds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in feeds:
        sizes |= mixture_axes(f)
        parts["moe"] = mixture(sizes)
    latent, pool = Latent(True, f.flag("attention_bias")), f.number("index_kpool")
    if sizes["index_topk"] % pool:
        raise UsageError(f"the configuration contradicts itself: index_kpool {pool} does not divide index_topk")
    attentions: dict[str, Attention] = {
        "linear": KimiDelta(state_dtype(f)), "indexed": Pooled(latent, True, pool), "shared": Pooled(latent, False, pool)
    }  # fmt: skip
    picked = Span(window=sizes["index_topk"])

    def write(b: Draft, kind: str) -> None:
        feed, mixer = kind.split("-")
        _layer(b, attentions[mixer], parts[feed], picked)

    kinds = [f"{feed}-{mixer}" for feed, mixer in zip(feeds, mixers, strict=True)]
    blocks = [embedding_block(), *by_kind(kinds, write), _head(tied)]
    routed = tuple(index for index, feed in enumerate(feeds) if feed == "moe")
    beside = (router_biases("model.layers.{layer}.mlp.gate.e_score_correction_bias", routed),) if routed else ()
    missing = (PREDICTION,) if prediction_layers(f) else ()
    spans = [picked, Span()]
    return assemble(
        f, "glm5_next_text", blocks, sizes, DERIVED, tied, spans, beside=beside, not_described=missing
    )  # fmt: skip


def _axes(f: Filled) -> dict[str, int]:
    sizes = latent_axes(f, f.number("q_lora_rank")) | index_axes(f)
    if sizes["rope_dim"]:
        raise CannotAnswer("qk_rope_head_dim is not 0; GLM-5.3-Flash is described without positions in its attention")
    if f.number("num_key_value_heads", default=sizes["qh"]) != sizes["qh"]:
        raise UsageError("num_key_value_heads in the configuration must be num_attention_heads for this model type")
    linear = f.part("linear_attn_config") or Config({}, "linear_attn_config.", f.notes)
    heads = linear.optional("num_heads") or f.number("linear_num_heads")
    width = linear.optional("head_dim") or f.number("linear_head_dim")
    kernel = linear.optional("short_conv_kernel_size") or f.number("linear_conv_kernel_dim")
    sizes |= {"vocab": f.number("vocab_size"), "streams": f.number("hc_mult")}
    return sizes | delta_axes(f, heads, heads, width, width, kernel)


def _mixers(f: Filled, layers: int) -> list[str]:
    """Three linear layers to one sparse one unless listed; a sparse layer holds an indexer or shares the last one's choice."""
    listed = f.layer_kinds("layer_types", layers, KINDS)
    kinds = listed or ["indexed" if index % 4 == 3 else "linear" for index in range(layers)]
    own = indexers(f)
    return ["shared" if kind == "indexed" and not holds else kind for kind, holds in zip(kinds, own, strict=True)]


def _layer(b: Draft, attention: Attention, feed: Feed, span: Span) -> None:
    b.value("x", STREAMS)
    gather(b, "attn", "x", "x1", "attention")
    b.norm("input_layernorm", "x1", "a")
    attention.write(b, "a", span)
    scatter(b, "attn", "x", "o", "r")
    gather(b, "ffn", "r", "x2", "mlp")
    b.norm("post_attention_layernorm", "x2", "m")
    feed.write(b, "m")
    scatter(b, "ffn", "r", "y", "out")


def _head(tied: bool) -> Block:
    """The streams' mean, the last norm, and the vocabulary."""
    b = Draft("head")
    b.value("x", STREAMS)
    b.op("combine", ("x",), "mean", RESIDUAL)
    b.norm("model.norm", "mean", "xn")
    if tied:
        product: Terms = ((2, (*TOKENS, "h", "vocab")),)
        b.op("linear", ("xn",), "logits", (*TOKENS, "vocab"), product, ["model.embed_tokens.weight"])
    else:
        b.linear("lm_head", "xn", "logits", ("vocab", "h"), "lm_head")
    return b.block((0,))
