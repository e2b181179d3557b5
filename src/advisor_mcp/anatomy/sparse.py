"""What the mixtures of experts since DeepSeek-V3 share: class defaults, layer tables, indexers, and what lies beside them.

A family names its kinds of layers in a table of `Layer`; `stack` makes the blocks of it, the prediction layers and router
biases that checkpoints hold beside the model, and the architecture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from advisor_mcp.anatomy.config import MOST_LAYERS, Config
from advisor_mcp.anatomy.inventory import Architecture, Axis, Block, Cache, Span, Tensor, Terms
from advisor_mcp.anatomy.parts import (
    RESIDUAL,
    Attention,
    Draft,
    Experts,
    Feed,
    Gated,
    Latent,
    Mixture,
    assemble,
    attend,
    by_kind,
    embedding_block,
    head_block,
    kv_cache,
)
from advisor_mcp.anatomy.variants import PRE_NORM, Names, Order
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MLP_KINDS = {"dense": "dense", "sparse": "moe"}
LATENT_DERIVED: dict[str, Terms] = {
    "qk_dim": ((1, ("nope_dim",)), (1, ("rope_dim",))),
    "q": ((1, ("qh", "nope_dim")), (1, ("qh", "rope_dim"))),
    "latent": ((1, ("kv_rank",)), (1, ("rope_dim",))),
    "kv_up": ((1, ("qh", "nope_dim")), (1, ("qh", "v_dim"))),
    "v": ((1, ("qh", "v_dim")),),
}
INDEX_DERIVED: dict[str, Terms] = {"index_q": ((1, ("index_heads", "index_hd")),)}
SHARED = Gated(axis="shared_ffn", role="shared_expert")


class Filled(Config):
    """A configuration whose absent numbers are those of the class `of`; each one that is taken makes a note."""

    def __init__(self, c: Config, of: str, defaults: Mapping[str, int]) -> None:
        super().__init__(c.data, c.prefix, c.notes)
        self.of = of
        self.defaults = defaults

    def number(self, *names: str, default: int | None = None, of: str | None = None, least: int = 1) -> int:
        """A whole number as `Config.number` reads it; the class's default goes before the one that is passed."""
        filled = next((self.defaults[name] for name in names if name in self.defaults), None)
        if filled is not None:
            default, of = filled, self.of
        return super().number(*names, default=default, of=of, least=least)

    def unless_null(self, name: str, least: int = 1) -> int | None:
        """A whole number: the class's default where the field is absent, None where it is null."""
        return None if name in self.data and self.data[name] is None else self.number(name, least=least)


@dataclass(frozen=True, slots=True)
class Layer:
    """A kind of layer: its attention, which earlier positions that sees, and its feed-forward part.

    `order` says where its norms stand if not where the other layers' do.
    """

    attention: Attention
    feed: Feed
    span: Span = Span()  # noqa: RUF009
    order: Order | None = None


@dataclass(frozen=True, slots=True)
class Ahead:
    """What the checkpoint calls the parts of a prediction layer; `prefix` is where it stands if not after the layers."""

    prefix: str | None = None
    embedding_norm: str = "enorm"
    hidden_norm: str = "hnorm"
    join: str = "eh_proj"
    last_norm: str = "shared_head.norm"


@dataclass(frozen=True, slots=True)
class Beside:
    """What the checkpoint holds beside the model.

    `router_bias` is the name of the buffer that shifts the choice of experts, in every layer of experts. `layers`
    prediction layers follow the last one, each a layer of the kind `kind` (absent: the last layer's) that joins the
    embedding of the next token; `repeats` says that each also holds the embedding and the head once more.
    """

    router_bias: str | None = "mlp.gate.e_score_correction_bias"
    layers: int = 0
    kind: str | None = None
    repeats: bool = False
    ahead: Ahead = Ahead()


NOTHING = Beside(None)


def stack(
    c: Config, family: str, kinds: Sequence[str], table: Mapping[str, Layer], sizes: dict[str, int],
    derived: Mapping[str, Terms], *, order: Order = PRE_NORM, names: Names = Names(),  # noqa: B008
    beside: Beside = NOTHING, tied: bool | None = None, head_bias: bool = False, spans: Sequence[Span] = (), **more: Any,
) -> Architecture:  # fmt: skip
    """A decoder whose layers are of the `kinds` that `table` describes; kinds with experts have names that start with "moe"."""

    def write(b: Draft, kind: str) -> None:
        layer = table[kind]
        (layer.order or order).write(b, layer.attention, layer.feed, layer.span)

    is_tied = c.flag("tie_word_embeddings") if tied is None else tied
    blocks = [
        embedding_block(names.embedding),
        *by_kind(kinds, write, names.layer),
        head_block(names.embedding, is_tied, names.norm, order.kind, head_bias, names.head),
    ]
    used = dict.fromkeys([*(table[kind].span for kind in dict.fromkeys(kinds)), *spans])
    found = _beside(kinds, table, order, names, beside)
    terms = dict(derived) | ({"joined_h": ((2, ("h",)),)} if beside.layers else {})
    return assemble(c, family, blocks, sizes, terms, is_tied, list(used), beside=found, **more)


def _beside(
    kinds: Sequence[str], table: Mapping[str, Layer], order: Order, names: Names, beside: Beside
) -> tuple[Block, ...]:
    first = len(kinds)
    layers = tuple(range(first, first + beside.layers))
    kind = beside.kind or kinds[-1]
    found = [_prediction(table[kind], order, names, layers, beside)] if layers else []
    routed = tuple(index for index, name in enumerate((*kinds, *(kind for _ in layers))) if name.startswith("moe"))
    if beside.router_bias and routed:
        found.append(router_biases(f"{names.layer}{beside.router_bias}", routed))
    return tuple(found)


def router_biases(name: str, layers: tuple[int, ...]) -> Block:
    """The buffers that shift which experts are chosen; they are stored, but no gradient changes them."""
    return Block("router biases", layers, (Tensor(name, ("choices",), "router", dtype="fp32"),))


def _prediction(layer: Layer, order: Order, names: Names, layers: tuple[int, ...], beside: Beside) -> Block:
    """DeepSeek-V3's prediction layer (arXiv:2412.19437, section 2.2): two norms and a matrix, a decoder layer, a norm."""
    ahead = beside.ahead
    b = Draft("multi-token prediction", ahead.prefix or names.layer)
    b.value("ahead", RESIDUAL)
    b.value("hidden", RESIDUAL)
    if beside.repeats:
        b.tensor("embed_tokens.weight", ("vocab", "h"), "token_embedding")
    b.norm(ahead.embedding_norm, "ahead", "en")
    b.norm(ahead.hidden_norm, "hidden", "hn")
    b.op("concatenate", ("en", "hn"), "eh", (*b.tokens, "joined_h"))
    b.linear(ahead.join, "eh", "x", ("h", "joined_h"), "other")
    (layer.order or order).write(b, layer.attention, layer.feed, layer.span)
    b.norm(ahead.last_norm, "out", "xn")
    if beside.repeats:
        b.linear("shared_head.head", "xn", "logits", ("vocab", "h"), "lm_head")
    return b.block(tuple(range(len(layers))) if ahead.prefix else layers)


def prediction_layers(c: Config, *names: str) -> int:
    """How many prediction layers the checkpoint holds beside the model; 0 where the configuration names none."""
    names = names or ("num_nextn_predict_layers", "num_mtp_layers")
    found = c.number(*names, default=0, least=0)
    if found > MOST_LAYERS:
        raise UsageError(
            f"{c.prefix}{names[0]} in the configuration is {found}; at most {MOST_LAYERS} layers are described"
        )
    return found


def latent_axes(c: Config, q_rank: int | None) -> dict[str, int]:
    """The axes of latent attention."""
    sizes = {
        "h": c.number("hidden_size"),
        "qh": c.number("num_attention_heads"),
        "kv_rank": c.number("kv_lora_rank"),
        "rope_dim": c.number("qk_rope_head_dim", least=0),
        "nope_dim": c.number("qk_nope_head_dim"),
        "v_dim": c.number("v_head_dim"),
    }
    return sizes | ({"q_rank": q_rank} if q_rank is not None else {})


def mixture_axes(
    c: Config, experts: str = "n_routed_experts", shared: str | None = "n_shared_experts", width: str = "moe_intermediate_size",
    used: tuple[str, ...] = ("num_experts_per_tok",),
) -> dict[str, int]:  # fmt: skip
    """The axes of routed experts (`choices` are the rows of the router), and of shared ones where there are any."""
    names = dict.fromkeys((experts, "n_routed_experts", "num_experts", "num_local_experts"))
    number, topk, width_of_one = c.number(*names), c.number(*used), c.number(width)
    if topk > number:
        raise UsageError(f"the configuration contradicts itself: {used[0]} {topk} exceeds its {number} experts")
    sizes = {"expert": number, "choices": number, "topk": topk, "moe_ffn": width_of_one}
    together = c.number(shared, default=0, least=0) * width_of_one if shared else 0
    return sizes | ({"shared_ffn": together} if together else {})


def mixture(
    sizes: Mapping[str, int], routed: Experts | None = None, shared: str = "mlp.shared_experts.", bias: bool = False
) -> Mixture:
    """Routed experts and, where the axes have a width for them, shared ones (`bias` is theirs)."""
    return Mixture(routed or Experts(), replace(SHARED, bias=bias) if "shared_ffn" in sizes else None, shared)


def dense_first(c: Config, dense: int, every: int = 1) -> list[str]:
    """The layers' feed-forward kinds: `dense` dense ones, then experts in every `every`-th layer."""
    return ["moe" if index >= dense and index % every == 0 else "dense" for index in range(c.layers())]


def listed_or_first(c: Config, first: int) -> list[str]:
    """The layers' feed-forward kinds from `mlp_layer_types`, or `first` dense layers and then experts."""
    return c.layer_kinds("mlp_layer_types", c.layers(), MLP_KINDS) or dense_first(c, first)


def suffixed(feeds: Sequence[str], marks: Sequence[str]) -> list[str]:
    """Kinds of layers from their feed-forward kinds and marks, those without a mark as they are."""
    return [f"{feed}-{mark}" if mark else feed for feed, mark in zip(feeds, marks, strict=True)]


def flags(c: Config, name: str, layers: int) -> list[bool] | None:
    """A per-layer list of 0 and 1 (or of true and false); None when the field is absent."""
    found = c.entries(name, length=layers)
    if found is None:
        return None
    if not all(entry in (0, 1) and isinstance(entry, int) for entry in found):
        raise UsageError(f"{c.prefix}{name} in the configuration must list 0 or 1 for each layer")
    return [bool(entry) for entry in found]


def same_for_all(c: Config, *names: str, default: int | None = None, least: int = 1) -> int:
    """A whole number, or a list that gives the same one for every layer; lists that vary raise `CannotAnswer`."""
    name = next((name for name in names if c.given(name)), names[0])
    value = c.data.get(name)
    if not isinstance(value, list):
        return c.number(*names, default=default, least=least)
    if not value or any(entry != value[0] for entry in value):
        raise CannotAnswer(f"{c.prefix}{name} differs between layers ({shown(value)}), which is not described")
    return Config({name: value[0]}, c.prefix, c.notes).number(name, least=least)


@dataclass(frozen=True, slots=True)
class Indexed:
    """Latent attention over the positions that an indexer picks for each query (DeepSeek Sparse Attention).

    The attention's span is the number of positions picked. Layers with `own` hold an indexer, which scores every earlier
    position and caches a key per token; the others take what the last of those picked.
    """

    latent: Latent
    own: bool = True

    def write(self, b: Draft, source: str, span: Span, prefix: str = "self_attn.") -> None:
        """Add the projections, the indexer, the attention over what it picked, and both caches."""
        self.latent.project(b, source, prefix)
        reads: tuple[str, ...] = ("qr", "kva", "kvb")
        if self.own:
            indexer(b, source, f"{prefix}indexer.")
            b.caches.append(Cache("full", entry=((1, ("index_hd",)),)))
            reads = (*reads, "picked")
        attend(b, span, key_dim="qk_dim", value_dim="v_dim", reads=reads)
        b.caches.append(Cache("latent", entry=((1, ("latent",)),)))
        b.linear(f"{prefix}o_proj", "att", "o", ("h", "v"), "attention", self.latent.bias)


def indexer(b: Draft, source: str, prefix: str) -> None:
    """Add DeepSeek's indexer, which scores every earlier position: the value `picked`; it reads the value `qan` too."""
    role = "sparse_indexer"
    b.linear(f"{prefix}wq_b", "qan", "iq", ("index_q", "q_rank"), role)
    b.linear(f"{prefix}wk", source, "ik", ("index_hd", "h"), role)
    b.norm(f"{prefix}k_norm", "ik", "ikn", "layer", "index_hd", role)
    b.linear(f"{prefix}weights_proj", source, "iw", ("index_heads", "h"), role)
    scores: Terms = ((2, ("b", "pairs", "index_heads", "index_hd")), (2, ("b", "pairs", "index_heads")))
    b.op("index", ("iq", "ikn", "iw"), "picked", (*b.tokens, "index_topk"), scores)


def index_axes(c: Config) -> dict[str, int]:
    """The axes of an indexer: its heads, their size, and how many positions it picks."""
    return {
        "index_heads": c.number("index_n_heads"),
        "index_hd": c.number("index_head_dim"),
        "index_topk": c.number("index_topk"),
    }


@dataclass(frozen=True, slots=True)
class Varied:
    """Grouped-query attention on axes of its own, for models whose layers differ or whose values are narrower than keys.

    `tag` marks the axes of another kind of layer ("qh.sliding" for the tag ".sliding"): those of `tagged` have it. `vd` is
    the size of a value head. `qk_norm` normalises per head ("head") or over the full width ("width"); `gate` names a
    projection to one number per head (with `gate_wide` one per element), which scales what the attention returns, and
    `sinks` the learned sinks.
    """

    tag: str = ""
    tagged: tuple[str, ...] = ()
    vd: Axis = "hd"
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: Literal["", "head", "width"] = ""
    gate: str = ""
    sinks: str = ""
    gate_wide: bool = False

    def axis(self, name: str) -> str:
        """The axis of this kind of layer."""
        return f"{name}{self.tag}" if name in self.tagged else name

    def write(self, b: Draft, source: str, span: Span, prefix: str = "self_attn.") -> None:
        """Add the projections, norms, the attention, its gate and its cache."""
        reads = self.project(b, source, prefix)
        sinks = [b.tensor(f"{prefix}{self.sinks}", (self.axis("qh"),), "attention")] if self.sinks else []
        self.attend(b, source, span, reads, prefix, sinks)

    def project(self, b: Draft, source: str, prefix: str) -> tuple[str, ...]:
        """Add what comes before the attention; returns the values that it reads."""
        for name, out in (("q_proj", "q"), ("k_proj", "k"), ("v_proj", "v")):
            b.linear(f"{prefix}{name}", source, out, (self.axis(out), "h"), "attention", self.qkv_bias)
        query, key = "q", "k"
        if self.qk_norm:
            for value in ("q", "k"):
                wide = self.axis(value)
                axis = self.axis("hd") if self.qk_norm == "head" else wide
                b.norm(f"{prefix}{value}_norm", value, f"{value}n", axis=axis, role="qk_norm", axes=(*b.tokens, wide))
            query, key = "qn", "kn"
        b.op("rope", (query, key), "qr", (*b.tokens, self.axis("q")))
        return ("qr", key, "v")

    def attend(
        self, b: Draft, source: str, span: Span, reads: Sequence[str], prefix: str, weights: Sequence[str] = (),
        kept: Span | None = None,
    ) -> None:  # fmt: skip
        """Add the attention, its cache (of the span `kept` where that is another), the gate and the last product."""
        heads, kv_heads, size = self.axis("qh"), self.axis("kvh"), self.axis("hd")
        attend(b, span, heads, size, self.vd, reads, weights)
        held = kept or span
        entry: Terms = ((1, (kv_heads, size)), (1, (kv_heads, self.vd)))
        b.caches.append(Cache("full" if held.window is None else "sliding", entry, cap_tokens=held.window))
        last = "att"
        if self.gate:
            gates = self.axis("out") if self.gate_wide else heads
            b.linear(f"{prefix}{self.gate}", source, "og", (gates, "h"), "attention")
            b.op("gate", ("att", "og"), "gated", (*b.tokens, heads, self.vd))
            last = "gated"
        b.linear(f"{prefix}o_proj", last, "o", ("h", self.axis("out")), "attention", self.o_bias)


def varied_derived(tag: str = "", tagged: Sequence[str] = (), vd: str = "hd") -> dict[str, Terms]:
    """The derived axes of one kind of `Varied` attention: the widths of q, k, v and of what the attention returns."""

    def axis(name: str) -> str:
        return f"{name}{tag}" if name in tagged else name

    qh, kvh, hd = axis("qh"), axis("kvh"), axis("hd")
    return {
        axis("q"): ((1, (qh, hd)),),
        axis("k"): ((1, (kvh, hd)),),
        axis("v"): ((1, (kvh, vd)),),
        axis("out"): ((1, (qh, vd)),),
    }


@dataclass(frozen=True, slots=True)
class Joined:
    """A gated MLP whose gate and up matrices are one tensor (the axis `gate_up`)."""

    up: str = "gate_up_proj"
    down: str = "down_proj"
    bias: bool = False
    prefix: str = "mlp."

    def write(self, b: Draft, source: str) -> None:
        """Add both products and the gate."""
        b.linear(f"{self.prefix}{self.up}", source, "gate_up", ("gate_up", "h"), "mlp", self.bias)
        b.op("gate", ("gate_up",), "act", (*b.tokens, "ffn"))
        b.linear(f"{self.prefix}{self.down}", "act", "y", ("h", "ffn"), "mlp", self.bias)


@dataclass(frozen=True, slots=True)
class Fused:
    """Grouped-query attention whose queries, keys and values come from one matrix (the axis `qkv`).

    `norms` name the norms of queries and keys, per head, where the model has them.
    """

    prefix: str
    qkv_bias: bool = False
    bias: bool = False
    norms: tuple[str, ...] = ()

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add both products, the norms, the attention and its cache."""
        b.linear(f"{self.prefix}query_key_value", source, "qkv", ("qkv", "h"), "attention", self.qkv_bias)
        reads = ["qkv"]
        for name, width in zip(self.norms, ("q", "kv"), strict=False):
            reads.append(f"{width}n")
            b.norm(f"{self.prefix}{name}", "qkv", f"{width}n", axis="hd", role="qk_norm", axes=(*b.tokens, width))
        b.op("rope", reads, "qr", (*b.tokens, "q"))
        attend(b, span, reads=("qr", *reads[-1:], "qkv"))
        b.caches.append(kv_cache(span, ((2, ("kvh", "hd")),)))
        b.linear(f"{self.prefix}dense", "att", "o", ("h", "q"), "attention", self.bias)


FUSED_DERIVED: dict[str, Terms] = {
    "q": ((1, ("qh", "hd")),),
    "kv": ((1, ("kvh", "hd")),),
    "qkv": ((1, ("qh", "hd")), (2, ("kvh", "hd"))),
}
