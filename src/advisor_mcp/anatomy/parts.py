"""The parts that model families are put together from: attention and MLP kinds, norms, embeddings, heads, towers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import (
    Architecture,
    Axes,
    Axis,
    Block,
    Cache,
    Op,
    Span,
    Split,
    Tensor,
    Terms,
    Value,
    count,
)
from advisor_mcp.errors import UsageError

TOKENS: Axes = ("b", "s")
RESIDUAL: Axes = ("b", "s", "h")
Norm = Literal["rms", "layer", "layer_no_bias", "none"]


class Attention(Protocol):
    """Writes an attention from a value into the value `o`."""

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add its tensors, operations and caches."""


class Feed(Protocol):
    """Writes a feed-forward part from a value into the value `y`."""

    def write(self, b: Draft, source: str) -> None:
        """Add its tensors and operations."""


@dataclass
class Draft:
    """One kind of layer while a family writes it down; every method adds tensors, operations, values or caches."""

    name: str
    prefix: str = ""
    tokens: Axes = TOKENS
    tensors: list[Tensor] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    caches: list[Cache] = field(default_factory=list)

    def tensor(
        self, name: str, axes: Axes, role: str, copies: Axes = (), matrix: bool = False, dtype: str | None = None
    ) -> str:
        """Add a weight tensor; returns its full name."""
        full = self.prefix + name
        self.tensors.append(Tensor(full, axes, role, copies, matrix, dtype))
        return full

    def value(self, name: str, axes: Axes, width: str = "act") -> str:
        """Name an activation."""
        self.values.setdefault(name, Value(axes, width))
        return name

    def linear(
        self, name: str, source: str, out: str, axes: tuple[Axis, Axis], role: str,
        bias: bool = False, tokens: Axes | None = None, copies: Axes = (), transposed: bool = False,
    ) -> None:  # fmt: skip
        """A matrix product with a weight of shape (out, in) = `axes`, or (in, out) in the file when `transposed`."""
        rows = self.tokens if tokens is None else tokens
        produced, consumed = axes
        weights = [
            self.tensor(f"{name}.weight", (consumed, produced) if transposed else axes, role, copies, matrix=True)
        ]
        if bias:
            weights.append(self.tensor(f"{name}.bias", (produced,), role, copies))
        self.value(out, (*rows, produced))
        self.ops.append(Op("linear", (out,), (source,), tuple(weights), ((2, (*rows, consumed, produced)),)))

    def norm(
        self,
        name: str,
        source: str,
        out: str,
        kind: Norm = "rms",
        axis: Axis = "h",
        role: str = "norm",
        axes: Axes | None = None,
    ) -> None:
        """A normalisation over `axis`, with one weight vector and, for LayerNorm, a bias; "none" has no parameters."""
        weights = [] if kind == "none" else [self.tensor(f"{name}.weight", (axis,), role)]
        if kind == "layer":
            weights.append(self.tensor(f"{name}.bias", (axis,), role))
        self.value(out, axes or (*self.tokens, axis))
        self.ops.append(Op("norm", (out,), (source,), tuple(weights)))

    def op(
        self, kind: str, reads: Sequence[str], out: str, axes: Axes, flops: Terms = (), weights: Sequence[str] = ()
    ) -> None:
        """Any other operation."""
        self.value(out, axes)
        self.ops.append(Op(kind, (out,), tuple(reads), tuple(weights), flops))

    def add(self, stream: str, update: str, out: str) -> None:
        """A residual addition."""
        self.op("add", (stream, update), out, self.values[stream].axes)

    def block(self, layers: tuple[int, ...], tower: str | None = None) -> Block:
        """The finished block."""
        return Block(self.name, layers, tuple(self.tensors), tuple(self.ops), self.values, tuple(self.caches), tower)


def pairs_axis(span: Span) -> str:
    """The axis that counts a span's query-key pairs."""
    if span.chunk is not None:
        return f"pairs.chunk{span.chunk}"
    name = "pairs.both" if span.both else "pairs"
    return name if span.window is None else f"{name}.window{span.window}"


def attend(
    b: Draft,
    span: Span,
    heads: Axis = "qh",
    key_dim: Axis = "hd",
    value_dim: Axis = "hd",
    reads: Sequence[str] = ("q", "k", "v"),
    weights: Sequence[str] = (),
    out: str = "att",
) -> None:
    """The attention itself: scores and weighted sum, 2 x (key_dim + value_dim) FLOPs per head and pair."""
    pairs = pairs_axis(span)
    flops: Terms = ((2, ("b", pairs, heads, key_dim)), (2, ("b", pairs, heads, value_dim)))
    b.op("attention", reads, out, (*b.tokens, heads, value_dim), flops, weights)


def kv_cache(span: Span, entry: Terms, kind: str | None = None) -> Cache:
    """The cache of an attention with this span."""
    cap = span.window if span.chunk is None else span.chunk
    named = kind or ("chunked" if span.chunk else "sliding" if span.window else "full")
    return Cache(named, entry=entry, cap_tokens=cap)


@dataclass(frozen=True, slots=True)
class Grouped:
    """Multi-head, grouped-query or multi-query attention on the axes qh (query heads), kvh (KV heads) and hd (head size).

    `gated` doubles the query projection (the axis `q_and_gate`): its second half gates what the attention returns.
    """

    q_bias: bool = False
    kv_bias: bool = False
    o_bias: bool = False
    qk_norm: bool = False
    sinks: bool = False
    gated: bool = False
    names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj")
    norms: tuple[str, str] = ("q_norm", "k_norm")

    def write(self, b: Draft, source: str, span: Span, prefix: str = "self_attn.") -> None:
        """Add the projections, optional norms of queries and keys per head, the attention and its cache."""
        q, k, v, o = (prefix + name for name in self.names)
        b.linear(q, source, "q", ("q_and_gate" if self.gated else "q", "h"), "attention", self.q_bias)
        b.linear(k, source, "k", ("kv", "h"), "attention", self.kv_bias)
        b.linear(v, source, "v", ("kv", "h"), "attention", self.kv_bias)
        query, key = "q", "k"
        if self.qk_norm:
            b.norm(prefix + self.norms[0], "q", "qn", axis="hd", role="qk_norm", axes=(*b.tokens, "q"))
            b.norm(prefix + self.norms[1], "k", "kn", axis="hd", role="qk_norm", axes=(*b.tokens, "kv"))
            query, key = "qn", "kn"
        b.op("rope", (query, key), "qr", (*b.tokens, "q"))
        extra = [b.tensor(f"{prefix}sinks", ("qh",), "attention")] if self.sinks else []
        attend(b, span, reads=("qr", key, "v"), weights=extra)
        b.caches.append(kv_cache(span, ((2, ("kvh", "hd")),)))
        if self.gated:
            b.op("gate", ("att", "q"), "att_gated", (*b.tokens, "q"))
        b.linear(o, "att_gated" if self.gated else "att", "o", ("h", "q"), "attention", self.o_bias)


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention: what is cached is one latent of `kv_rank` and one rotary key, shared by all heads."""

    q_compressed: bool
    bias: bool = False

    def write(self, b: Draft, source: str, span: Span, prefix: str = "self_attn.") -> None:
        """Add the down- and up-projections, the attention in its expanded form, and the latent cache."""
        self.project(b, source, prefix)
        attend(b, span, key_dim="qk_dim", value_dim="v_dim", reads=("qr", "kva", "kvb"))
        b.caches.append(kv_cache(span, ((1, ("latent",)),), kind="latent"))
        b.linear(f"{prefix}o_proj", "att", "o", ("h", "v"), "attention", self.bias)

    def project(self, b: Draft, source: str, prefix: str = "self_attn.") -> None:
        """Add what comes before the attention: the values `qr`, `kva` and `kvb`, and `qan` where queries are compressed."""
        if self.q_compressed:
            b.linear(f"{prefix}q_a_proj", source, "qa", ("q_rank", "h"), "attention", self.bias)
            b.norm(f"{prefix}q_a_layernorm", "qa", "qan", axis="q_rank")
            b.linear(f"{prefix}q_b_proj", "qan", "q", ("q", "q_rank"), "attention")
        else:
            b.linear(f"{prefix}q_proj", source, "q", ("q", "h"), "attention")
        b.linear(f"{prefix}kv_a_proj_with_mqa", source, "kva", ("latent", "h"), "attention", self.bias)
        b.norm(f"{prefix}kv_a_layernorm", "kva", "kvan", axis="kv_rank")
        b.linear(f"{prefix}kv_b_proj", "kvan", "kvb", ("kv_up", "kv_rank"), "attention")
        b.op("rope", ("q", "kva"), "qr", (*b.tokens, "q"))


@dataclass(frozen=True, slots=True)
class Gated:
    """A gated MLP (SwiGLU, GeGLU): three matrices."""

    axis: str = "ffn"
    role: str = "mlp"
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    bias: bool = False

    def write(self, b: Draft, source: str, out: str = "y", prefix: str = "mlp.") -> None:
        """Add the three products and the gate."""
        gate, up, down = (prefix + name for name in self.names)
        tag = "" if self.axis == "ffn" else f".{self.axis}"
        b.linear(gate, source, f"gate{tag}", (self.axis, "h"), self.role, self.bias)
        b.linear(up, source, f"up{tag}", (self.axis, "h"), self.role, self.bias)
        b.op("gate", (f"gate{tag}", f"up{tag}"), f"act{tag}", (*b.tokens, self.axis))
        b.linear(down, f"act{tag}", out, ("h", self.axis), self.role, self.bias)


@dataclass(frozen=True, slots=True)
class Plain:
    """A plain MLP: two matrices and an activation."""

    names: tuple[str, str] = ("up_proj", "down_proj")
    bias: bool = True

    def write(self, b: Draft, source: str, out: str = "y", prefix: str = "mlp.") -> None:
        """Add the two products and the activation."""
        up, down = (prefix + name for name in self.names)
        b.linear(up, source, "up", ("ffn", "h"), "mlp", self.bias)
        b.op("activation", ("up",), "act", (*b.tokens, "ffn"))
        b.linear(down, "act", out, ("h", "ffn"), "mlp", self.bias)


@dataclass(frozen=True, slots=True)
class Experts:
    """Routed experts with a router over the axis `choices` (not split, for every rank routes its own tokens).

    `layout` is how the checkpoint holds them: one tensor per expert and matrix, or all experts stacked with the gate and up
    matrices joined, each (in, out) ("stacked": gpt-oss, biased) or (out, in) ("stacked_out_in").
    """

    router: str = "mlp.gate"
    router_bias: bool = False
    prefix: str = "mlp.experts.{expert}."
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    layout: Literal["separate", "stacked", "stacked_out_in"] = "separate"
    bias: bool = False

    def write(self, b: Draft, source: str, out: str = "routed", routed_by: str | None = None) -> None:
        """Add the router (over `routed_by`, else the experts' source), the experts' products, and the weighted sum."""
        b.linear(self.router, routed_by or source, "scores", ("choices", "h"), "router", self.router_bias)
        b.op("top_k", ("scores",), "routes", (*b.tokens, "topk"))
        rows: Axes = (*b.tokens, "topk")
        if self.layout == "separate":
            self._separate(b, source, rows)
        else:
            self._stacked(b, source, rows)
        b.op("combine", ("expert_out", "routes"), out, RESIDUAL)

    def _separate(self, b: Draft, source: str, rows: Axes) -> None:
        gate, up, down = (self.prefix + name for name in self.names)
        copies: Axes = ("expert",)
        b.linear(gate, source, "expert_gate", ("moe_ffn", "h"), "routed_experts", tokens=rows, copies=copies)
        b.linear(up, source, "expert_up", ("moe_ffn", "h"), "routed_experts", tokens=rows, copies=copies)
        b.op("gate", ("expert_gate", "expert_up"), "expert_act", (*rows, "moe_ffn"))
        b.linear(down, "expert_act", "expert_out", ("h", "moe_ffn"), "routed_experts", tokens=rows, copies=copies)

    def _stacked(self, b: Draft, source: str, rows: Axes) -> None:
        into: tuple[Axis, Axis] = ("h", "gate_up")
        out_of: tuple[Axis, Axis] = ("moe_ffn", "h")
        if self.layout == "stacked_out_in":
            into, out_of = ("gate_up", "h"), ("h", "moe_ffn")
        joined = [b.tensor(f"{self.prefix}gate_up_proj", ("expert", *into), "routed_experts", matrix=True)]
        down = [b.tensor(f"{self.prefix}down_proj", ("expert", *out_of), "routed_experts", matrix=True)]
        if self.bias:
            joined.append(b.tensor(f"{self.prefix}gate_up_proj_bias", ("expert", "gate_up"), "routed_experts"))
            down.append(b.tensor(f"{self.prefix}down_proj_bias", ("expert", "h"), "routed_experts"))
        b.op("linear", (source,), "expert_gate_up", (*rows, "gate_up"), ((2, (*rows, "h", "gate_up")),), joined)
        b.op("gate", ("expert_gate_up",), "expert_act", (*rows, "moe_ffn"))
        b.op("linear", ("expert_act",), "expert_out", (*rows, "h"), ((2, (*rows, "moe_ffn", "h")),), down)


@dataclass(frozen=True, slots=True)
class Mixture:
    """Routed experts and, where the model has them, shared experts (one gated MLP) with or without a gate of their own."""

    routed: Experts
    shared: Gated | None = None
    shared_prefix: str = "mlp.shared_experts."
    shared_gate: str | None = None

    def write(self, b: Draft, source: str, out: str = "y") -> None:
        """Add both and their sum."""
        self.routed.write(b, source, "routed" if self.shared else out)
        if self.shared is None:
            return
        self.shared.write(b, source, "shared", self.shared_prefix)
        if self.shared_gate:
            b.linear(self.shared_gate, source, "shared_scale", (1, "h"), "router")
        b.add("routed", "shared", out)


def pre_norm_layer(b: Draft, attention: Attention, mlp: Feed, span: Span, norm: Norm = "rms") -> None:
    """The layer of most decoders: norm, attention, residual, norm, MLP, residual."""
    b.norm("input_layernorm", "x", "a", norm)
    attention.write(b, "a", span)
    b.add("x", "o", "r")
    b.norm("post_attention_layernorm", "r", "m", norm)
    mlp.write(b, "m")
    b.add("r", "y", "out")


def sandwich_layer(b: Draft, attention: Attention, mlp: Feed, span: Span) -> None:
    """Gemma's layer: a norm before and after both attention and MLP."""
    b.norm("input_layernorm", "x", "a")
    attention.write(b, "a", span)
    b.norm("post_attention_layernorm", "o", "on")
    b.add("x", "on", "r")
    b.norm("pre_feedforward_layernorm", "r", "m")
    mlp.write(b, "m")
    b.norm("post_feedforward_layernorm", "y", "yn")
    b.add("r", "yn", "out")


def embedding_block(
    name: str = "model.embed_tokens.weight", positions: str | None = None, scaled: bool = False
) -> Block:
    """Token embeddings, and a learned position table of the axis `positions` where `positions` names its tensor."""
    b = Draft("embedding")
    b.value("ids", TOKENS, "int")
    weights = [b.tensor(name, ("vocab", "h"), "token_embedding")]
    if positions:
        weights.append(b.tensor(positions, ("positions", "h"), "position_embedding"))
    b.op("lookup", ("ids",), "x", RESIDUAL, weights=weights)
    return b.block((0,))


def head_block(
    tied_to: str,
    tied: bool,
    norm: str | None = "model.norm",
    kind: Norm = "rms",
    bias: bool = False,
    name: str = "lm_head",
) -> Block:
    """The final norm and the projection to the vocabulary; a tied head adds the product but no matrix."""
    b = Draft("head")
    b.value("x", RESIDUAL)
    if norm:
        b.norm(norm, "x", "xn", kind)
    source = "xn" if norm else "x"
    if tied:
        weights = [tied_to, b.tensor(f"{name}.bias", ("vocab",), "lm_head")] if bias else [tied_to]
        b.op("linear", (source,), "logits", (*TOKENS, "vocab"), ((2, (*TOKENS, "h", "vocab")),), weights)
    else:
        b.linear(name, source, "logits", ("vocab", "h"), "lm_head", bias)
    return b.block((0,))


SPLITS: dict[str, Split] = {
    "qh": "tensor", "kvh": "kv", "ffn": "tensor", "moe_ffn": "tensor", "shared_ffn": "tensor", "vocab": "tensor", "expert": "expert",
    "delta_kh": "tensor", "delta_vh": "tensor",
    "inner": "tensor", "ssm_heads": "tensor", "ssm_groups": "kv",
}  # fmt: skip


def grouped_axes(
    c: Config, of: str | None = None, heads: int | None = None, kv_heads: int | None = None, head_dim: int | None = None
) -> dict[str, int]:
    """The axes h, qh, kvh, hd from a configuration; absent KV heads mean one per head, an absent head size h / heads.

    The defaults are those of the class `of`, used where a family's configuration files leave them out.
    """
    h = c.number("hidden_size")
    qh = c.number("num_attention_heads", default=heads, of=of)
    kvh = c.number(
        "num_key_value_heads", default=qh if kv_heads is None else kv_heads, of=of if kv_heads is not None else None
    )
    if not c.given("head_dim") and head_dim is None:
        hd = c.divides(h, qh, "the heads do not divide hidden_size and no head_dim is given")
    else:
        hd = c.number("head_dim", default=head_dim, of=of)
    c.divides(qh, kvh, "the KV heads do not divide the attention heads")
    return {"h": h, "qh": qh, "kvh": kvh, "hd": hd}


def expert_axes(c: Config, experts: str, width: str = "moe_intermediate_size") -> dict[str, int]:
    """The axes expert, choices, topk and moe_ffn; raises `UsageError` when more experts are used than there are."""
    number, used = (
        c.number(experts, "num_experts", "num_local_experts"),
        c.number("num_experts_per_tok", "experts_per_token"),
    )
    if used > number:
        raise UsageError(
            f"the configuration contradicts itself: num_experts_per_tok {used} exceeds its {number} experts"
        )
    return {"expert": number, "choices": number, "topk": used, "moe_ffn": c.number(width)}


GROUPED_DERIVED: dict[str, Terms] = {"q": ((1, ("qh", "hd")),), "kv": ((1, ("kvh", "hd")),)}


def by_kind(
    kinds: Sequence[str], write: Callable[[Draft, str], None], prefix: str = "model.layers.{layer}."
) -> list[Block]:
    """One block per distinct kind of layer, in order of first appearance; `write(draft, kind)` describes a kind."""
    layers: dict[str, list[int]] = {}
    for index, kind in enumerate(kinds):
        layers.setdefault(kind, []).append(index)
    blocks = []
    for kind, indices in layers.items():
        draft = Draft(kind, prefix)
        draft.value("x", RESIDUAL)
        write(draft, kind)
        blocks.append(draft.block(tuple(indices)))
    return blocks


def assemble(
    c: Config, family: str, blocks: Sequence[Block], sizes: dict[str, int], derived: dict[str, Terms],
    tied: bool, spans: Sequence[Span] = (Span(),), **more: Any,
) -> Architecture:  # fmt: skip
    """Put the blocks together and check that every axis they use has a size."""
    architecture = Architecture(
        family=family,
        blocks=tuple(blocks),
        sizes=sizes,
        derived=derived,
        splits={axis: SPLITS[stem] for axis in sizes if (stem := axis.split(".")[0]) in SPLITS},
        spans={pairs_axis(span): span for span in spans},
        tied=tied,
        notes=tuple(c.notes),
        **more,
    )
    return bounded(architecture)


def bounded(architecture: Architecture) -> Architecture:
    """The architecture, unless it has more parameters than a 64-bit count holds."""
    if architecture_parameters(architecture) >= 2**63:
        raise UsageError("the configuration describes a model of more than 2^63 parameters; check its sizes")
    return architecture


def architecture_parameters(architecture: Architecture) -> int:
    """Elements of all weight tensors."""
    sizes = architecture.bound()
    return int(sum(block.repeat * count(t.copies + t.axes, sizes) for block, t in architecture.tensors()))
