"""Mistral Large 4: latent attention over picked positions, layers that share latents or picks, experts, a Pixtral tower."""

from __future__ import annotations

from dataclasses import dataclass, replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.deepseek_v32 import indexers
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block, Cache, Span, Terms
from advisor_mcp.anatomy.multimodal import joined
from advisor_mcp.anatomy.nested import text_part, tie, vision_part
from advisor_mcp.anatomy.parts import Draft, Experts, Gated, Mixture, attend
from advisor_mcp.anatomy.sparse import (
    INDEX_DERIVED,
    LATENT_DERIVED,
    Filled,
    Layer,
    flags,
    index_axes,
    latent_axes,
    listed_or_first,
    mixture_axes,
    stack,
)
from advisor_mcp.anatomy.towers import PATCHES, PIXTRAL, features_of, pixtral_encoder, tower_config
from advisor_mcp.anatomy.variants import GatedFeed, Names, Order
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("mistral_large4", "mistral_large4_text")
DEFAULTS = {
    "kv_lora_rank": 512, "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 64, "moe_intermediate_size": 6144,
    "n_shared_experts": 1, "n_routed_experts": 128, "num_experts_per_tok": 4, "first_k_dense_replace": 1, "index_topk": 2048,
    "index_head_dim": 128, "index_n_heads": 32, "no_rope_layer_interval": 4,
}  # fmt: skip
WHOLE = {
    "hidden_size": 6144,
    "intermediate_size": 24_576,
    "num_hidden_layers": 72,
    "num_attention_heads": 64,
    "vocab_size": 204_800,
}
GATED = ("w1", "w3", "w2")
NAMES = Names("tok_embeddings.weight", "layers.{layer}.", "norm", "output")
ORDER = Order("attention_norm", "", "ffn_norm")
DERIVED: dict[str, Terms] = LATENT_DERIVED | INDEX_DERIVED | {
    "kv_up.plain": ((1, ("qh", "nope_dim")), (1, ("qh", "rope_dim")), (1, ("qh", "v_dim"))),
}  # fmt: skip


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MistralLarge4Config (text and vision) or MistralLarge4TextConfig."""
    if c.text("model_type") == "mistral_large4_text":
        return _decoder(
            Filled(c, "MistralLarge4TextConfig", DEFAULTS), "mistral_large4_text", c.flag("tie_word_embeddings")
        )
    text = text_part(c)
    inner = _decoder(
        Filled(text, "MistralLarge4TextConfig", DEFAULTS | WHOLE), "mistral_large4", tie(c, text, default=False)
    )
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    blocks = _tower(c, vision, inner.sizes["h"], sizes) if vision else []
    return joined(c, "mistral_large4", inner, blocks, sizes, missing=missing)


@dataclass(frozen=True, slots=True)
class Scored:
    """Latent attention whose queries are scaled by a learned function of their position.

    Without `rotary` the whole key comes from the latent. `own` layers compute the latent and cache it, the others read that
    of an earlier layer; those with `indexer` pick the positions to read.
    """

    rotary: bool
    own: bool
    indexer: bool
    bias: bool

    @property
    def name(self) -> str:
        """What sets such layers apart."""
        parts = ("" if self.rotary else "plain", "" if self.own else "borrowed", "" if self.indexer else "shared-index")
        return "".join(f"-{part}" for part in parts if part)

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the projections, the indexer, the attention over what was picked, and the caches."""
        b.linear("attention.wq", source, "q", ("q", "h"), "attention")
        self._latent(b, source)
        up = "kv_up" if self.rotary else "kv_up.plain"
        b.linear("attention.wkv_b", "kvan", "kvb", (up, "kv_rank"), "attention")
        scale = _scaling(b, "attention.", "qh", "attention")
        b.op("rope", ("q",), "qr", (*b.tokens, "q"), weights=scale)
        reads: tuple[str, ...] = ("qr", "kva", "kvb")
        if self.indexer:
            _indexer(b, source)
            reads = (*reads, "picked")
        attend(b, span, key_dim="qk_dim", value_dim="v_dim", reads=reads)
        b.linear("attention.wo", "att", "o", ("h", "v"), "attention", self.bias)

    def _latent(self, b: Draft, source: str) -> None:
        axis = "latent" if self.rotary else "kv_rank"
        if not self.own:
            b.op("borrow", (), "kva", (*b.tokens, axis))
            b.op("borrow", (), "kvan", (*b.tokens, "kv_rank"))
            return
        b.linear("attention.wkv_a_with_mqa", source, "kva", (axis, "h"), "attention", self.bias)
        b.norm("attention.kv_a_norm", "kva", "kvan", axis="kv_rank")
        b.caches.append(Cache("latent", entry=((1, (axis,)),)))


def _scaling(b: Draft, prefix: str, heads: str, role: str) -> list[str]:
    return [b.tensor(f"{prefix}ssmax_scaling.{part}", (heads,), role) for part in ("s", "b")]


def _indexer(b: Draft, source: str) -> None:
    role, prefix = "sparse_indexer", "attention.indexer."
    b.norm(f"{prefix}q_input_norm", source, "iqn", "layer", "h", role)
    b.linear(f"{prefix}wq_b", "iqn", "iq", ("index_q", "h"), role)
    b.linear(f"{prefix}wk", source, "ik", ("index_hd", "h"), role)
    b.norm(f"{prefix}k_norm", "ik", "ikn", "layer", "index_hd", role)
    b.linear(f"{prefix}weights_proj", source, "iw", ("index_heads", "h"), role)
    scale = _scaling(b, prefix, "index_heads", role)
    scores: Terms = ((2, ("b", "pairs", "index_heads", "index_hd")), (2, ("b", "pairs", "index_heads")))
    b.op("index", ("iq", "ikn", "iw"), "picked", (*b.tokens, "index_topk"), scores, scale)
    b.caches.append(Cache("full", entry=((1, ("index_hd",)),)))


def _decoder(f: Filled, family: str, tied: bool) -> Architecture:
    sizes = latent_axes(f, None) | index_axes(f) | {"vocab": f.number("vocab_size")}
    feeds = listed_or_first(f, f.number("first_k_dense_replace", least=0))
    bias = f.flag("attention_bias")
    kinds_of = zip(_rotary(f), _own(f), indexers(f), strict=True)
    attentions = [Scored(rotary, own, index, bias) for rotary, own, index in kinds_of]
    if "dense" in feeds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in feeds:
        sizes |= mixture_axes(f)
    shared = Gated(axis="shared_ffn", role="shared_expert", names=GATED) if "shared_ffn" in sizes else None
    routed = Mixture(Experts(router="gate", prefix="experts.{expert}.", names=GATED), shared, "shared_experts.")
    dense = GatedFeed(GATED, "feed_forward.")
    picked = Span(window=sizes["index_topk"])
    rows = [(f"{feed}{attention.name}", attention, feed) for feed, attention in zip(feeds, attentions, strict=True)]
    table = {name: Layer(attention, dense if feed == "dense" else routed, picked) for name, attention, feed in rows}
    kinds = [name for name, _, _ in rows]
    found = stack(f, family, kinds, table, sizes, DERIVED, order=ORDER, names=NAMES, tied=tied, spans=[Span()])
    b = Draft("rotary positions", "lerope.")
    b.tensor("alpha", (sizes["rope_dim"] // 2,), "other")
    return replace(found, beside=(*found.beside, b.block((0,))))


def _rotary(c: Config) -> list[bool]:
    """Which layers have rotary positions: `no_rope_layers` lists 1 for them, despite its name."""
    listed = flags(c, "no_rope_layers", c.layers())
    if listed is not None:
        return listed
    every = c.number("no_rope_layer_interval")
    return [(index + 1) % every != 0 for index in range(c.layers())]


def _own(c: Config) -> list[bool]:
    """Which layers compute their own latent; the others name the earlier layer whose latent they read."""
    listed = c.numbers("kv_source_layers", length=c.layers())
    if listed is None:
        return [True] * c.layers()
    for index, source in enumerate(listed):
        if source > index or listed[source] != source:
            raise UsageError(
                f"{c.prefix}kv_source_layers in the configuration: layer {index} cannot read layer {source}, which is not an "
                "earlier layer with keys and values of its own"
            )
    return [source == index for index, source in enumerate(listed)]


LAYER = replace(
    PIXTRAL, projections=("wq", "wk", "wv", "wo"), feed=tuple(f"feed_forward.{name}" for name in GATED)
)  # fmt: skip


def _tower(c: Config, vision: Config, text_width: int, sizes: dict[str, int]) -> list[Block]:
    """Pixtral's tower and a projector that merges patches, by the names of Mistral's own format."""
    blocks = pixtral_encoder(tower_config(vision, "pixtral"), sizes, "vision_encoder.", LAYER)
    merge = c.number("spatial_merge_size", default=2, of="MistralLarge4Config")
    bias = c.flag("multimodal_projector_bias")
    sizes["vision.merged"] = sizes["vision.h"] * merge * merge
    sizes["vision.merged_patches"] = sizes["vision.patches"] // (merge * merge)
    sizes["vision.features"] = sizes["vision.h"] * features_of(c)
    merged: Axes = ("images", "vision.merged_patches")
    b = Draft("vision-projector", "", PATCHES)
    b.norm("pre_mm_projector_norm", "x", "n", "rms", "vision.h", "vision")
    b.linear("patch_merger.merging_layer", "n", "p0", ("vision.h", "vision.merged"), "vision", tokens=merged)
    b.linear("vision_language_adapter.w_in", "p0", "p1", (text_width, "vision.features"), "vision", bias, tokens=merged)
    b.linear("vision_language_adapter.w_out", "p1", "p2", (text_width, text_width), "vision", bias, tokens=merged)
    return [*blocks, b.block((0,), "vision")]
