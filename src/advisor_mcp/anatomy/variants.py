"""What the descendants of Llama changed: where norms stand and how wide they are, gates, fused or stacked matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Axis, Span, Terms
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    RESIDUAL,
    Attention,
    Draft,
    Feed,
    Norm,
    assemble,
    attend,
    by_kind,
    embedding_block,
    grouped_axes,
    head_block,
    kv_cache,
)
from advisor_mcp.errors import UsageError

LAYER_KINDS = {"full_attention": "full", "sliding_attention": "sliding"}
DERIVED: dict[str, Terms] = GROUPED_DERIVED | {
    "qkv": ((1, ("qh", "hd")), (2, ("kvh", "hd"))),
    "kv_pair": ((2, ("kvh", "hd")),),
    "gate_up": ((2, ("moe_ffn",)),),
}


@dataclass(frozen=True, slots=True)
class Heads:
    """Grouped-query attention whose parts vary.

    `qk_norm` normalises queries and keys per head with one vector ("head"), over the full width ("width"), or with a vector
    for each head ("heads"), or per head without weights ("bare"). `gate` names a projection whose sigmoid scales the output,
    `sub_norm` a norm before the output projection. `fused` holds q, k and v in one matrix, `fused_kv` k and v. `kvh` and
    `kv` are the axes of the KV heads, which a layer of another count replaces. `cores` counts the attentions that are
    computed over the same keys.
    """

    q_bias: bool = False
    kv_bias: bool = False
    o_bias: bool = False
    qk_norm: Literal["", "head", "width", "heads", "bare"] = ""
    sinks: bool = False
    gate: str = ""
    sub_norm: str = ""
    fused: str = ""
    fused_kv: str = ""
    names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj")
    prefix: str = "self_attn."
    kvh: Axis = "kvh"
    kv: Axis = "kv"
    cores: int = 1

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the projections and norms, the attention and its cache, and the output projection."""
        reads = self._normalise(b, self._project(b, source))
        if self.gate:
            b.linear(f"{self.prefix}{self.gate}", source, "og", ("q", "h"), "attention")
        extra = [b.tensor(f"{self.prefix}sinks", ("qh",), "attention")] if self.sinks else []
        for _ in range(self.cores):
            attend(b, span, reads=reads, weights=extra)
        b.caches.append(kv_cache(span, ((2, (self.kvh, "hd")),)))
        b.linear(f"{self.prefix}{self.names[3]}", self._finish(b), "o", ("h", "q"), "attention", self.o_bias)

    def _project(self, b: Draft, source: str) -> tuple[str, ...]:
        if self.fused:
            b.linear(f"{self.prefix}{self.fused}", source, "qkv", ("qkv", "h"), "attention", self.q_bias)
            return ("qkv",)
        q, k, v, _ = (self.prefix + name for name in self.names)
        b.linear(q, source, "q", ("q", "h"), "attention", self.q_bias)
        if self.fused_kv:
            b.linear(f"{self.prefix}{self.fused_kv}", source, "kvp", ("kv_pair", "h"), "attention", self.kv_bias)
            return ("q", "kvp")
        b.linear(k, source, "k", (self.kv, "h"), "attention", self.kv_bias)
        b.linear(v, source, "v", (self.kv, "h"), "attention", self.kv_bias)
        return ("q", "k", "v")

    def _normalise(self, b: Draft, reads: tuple[str, ...]) -> tuple[str, ...]:
        if self.qk_norm:
            self._norm(b, "q", "qh", "q")
            self._norm(b, "k", self.kvh, self.kv)
            reads = ("qn", "kn", "v")
        b.op("rope", reads[:2], "qr", (*b.tokens, "q"))
        return ("qr", *reads[1:])

    def _norm(self, b: Draft, which: str, heads: Axis, width: Axis) -> None:
        name, out = f"{self.prefix}{which}_norm", f"{which}n"
        if self.qk_norm == "heads":
            weights = [b.tensor(f"{name}.weight", (heads, "hd"), "qk_norm")]
            b.op("norm", (which,), out, (*b.tokens, width), weights=weights)
        else:
            axis: Axis = width if self.qk_norm == "width" else "hd"
            kind: Norm = "none" if self.qk_norm == "bare" else "rms"
            b.norm(name, which, out, kind, axis, "qk_norm", (*b.tokens, width))

    def _finish(self, b: Draft) -> str:
        if self.gate:
            b.op("gate", ("att", "og"), "gated", (*b.tokens, "q"))
            return "gated"
        if self.sub_norm:
            b.norm(f"{self.prefix}{self.sub_norm}", "att", "attn", axis="q")
            return "attn"
        return "att"


@dataclass(frozen=True, slots=True)
class GatedFeed:
    """A gated MLP with names, a width and biases of its own, and where `sub_norm` names one a norm before the last matrix."""

    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    prefix: str = "mlp."
    axis: Axis = "ffn"
    bias: bool = False
    down_bias: bool = False
    sub_norm: str = ""

    def write(self, b: Draft, source: str) -> None:
        """Add the three products, the gate and the norm."""
        gate, up, down = (self.prefix + name for name in self.names)
        b.linear(gate, source, "gate", (self.axis, "h"), "mlp", self.bias)
        b.linear(up, source, "up", (self.axis, "h"), "mlp", self.bias)
        b.op("gate", ("gate", "up"), "act", (*b.tokens, self.axis))
        last = "act"
        if self.sub_norm:
            b.norm(f"{self.prefix}{self.sub_norm}", "act", "actn", axis=self.axis)
            last = "actn"
        b.linear(down, last, "y", ("h", self.axis), "mlp", self.bias or self.down_bias)


@dataclass(frozen=True, slots=True)
class StackedExperts:
    """Routed experts that the checkpoint stacks as (expert, out, in), the gate and up matrices joined or apart.

    `matrices` names (joined, down) or (gate, up, down); `down_transposed` says that the last one is stored (in, out).
    `bias` names a vector that is added to the combined output.
    """

    router: str
    matrices: tuple[str, ...]
    bias: str = ""
    down_transposed: bool = False

    def write(self, b: Draft, source: str, out: str = "y") -> None:
        """Add the router, the experts' products over the routed tokens, and the weighted sum."""
        b.linear(self.router, source, "scores", ("choices", "h"), "router")
        b.op("top_k", ("scores",), "routes", (*b.tokens, "topk"))
        rows: Axes = (*b.tokens, "topk")
        ups = [self._product(b, name, source, rows, self._width) for name in self.matrices[:-1]]
        b.op("gate", ups, "expert_act", (*rows, "moe_ffn"))
        axes: Axes = ("expert", "moe_ffn", "h") if self.down_transposed else ("expert", "h", "moe_ffn")
        down = b.tensor(self.matrices[-1], axes, "routed_experts", matrix=True)
        b.op("linear", ("expert_act",), "expert_out", (*rows, "h"), ((2, (*rows, "moe_ffn", "h")),), [down])
        added = [b.tensor(self.bias, ("h",), "mlp")] if self.bias else []
        b.op("combine", ("expert_out", "routes"), out, RESIDUAL, weights=added)

    @property
    def _width(self) -> Axis:
        return "gate_up" if len(self.matrices) == 2 else "moe_ffn"

    def _product(self, b: Draft, name: str, source: str, rows: Axes, width: Axis) -> str:
        weight = b.tensor(name, ("expert", width, "h"), "routed_experts", matrix=True)
        out = f"expert_{name.rsplit('.', 1)[-1] if width == 'moe_ffn' else 'gate_up'}"
        b.op("linear", (source,), out, (*rows, width), ((2, (*rows, "h", width)),), [weight])
        return out


@dataclass(frozen=True, slots=True)
class Order:
    """Which norms stand around attention and feed-forward ("" where none does).

    In a `parallel` layer both read the one norm before them, and one sum closes the layer. The output of the norms in
    `gated` is scaled by a gate of rank `gate_rank` that is made of that output.
    """

    before_attention: str = "input_layernorm"
    after_attention: str = ""
    before_feed: str = "post_attention_layernorm"
    after_feed: str = ""
    kind: Norm = "rms"
    parallel: bool = False
    gated: tuple[str, ...] = ()

    def write(self, b: Draft, attention: Attention, feed: Feed, span: Span) -> None:
        """Add a whole layer."""
        attention.write(b, self._norm(b, self.before_attention, "x", "a"), span)
        mixed = self._norm(b, self.after_attention, "o", "on")
        if self.parallel:
            feed.write(b, "a")
            b.op("add", ("x", mixed, "y"), "out", RESIDUAL)
            return
        b.add("x", mixed, "r")
        feed.write(b, self._norm(b, self.before_feed, "r", "m"))
        b.add("r", self._norm(b, self.after_feed, "y", "yn"), "out")

    def _norm(self, b: Draft, name: str, source: str, out: str) -> str:
        if not name:
            return source
        if name in self.gated:
            return self._gated(b, name, source, out)
        b.norm(name, source, out, self.kind)
        return out

    def _gated(self, b: Draft, name: str, source: str, out: str) -> str:
        b.norm(f"{name}.norm", source, f"{out}.normed", self.kind)
        b.linear(f"{name}.W_down", f"{out}.normed", f"{out}.low", ("gate_rank", "h"), "norm")
        b.linear(f"{name}.W_up", f"{out}.low", f"{out}.gate", ("h", "gate_rank"), "norm")
        b.op("gate", (f"{out}.normed", f"{out}.gate"), out, RESIDUAL)
        return out


PRE_NORM = Order()
POST_NORM = Order("", "post_attention_layernorm", "", "post_feedforward_layernorm")


@dataclass(frozen=True, slots=True)
class Names:
    """What the checkpoint calls the parts outside the layers, and the prefix of a layer."""

    embedding: str = "model.embed_tokens.weight"
    layer: str = "model.layers.{layer}."
    norm: str = "model.norm"
    head: str = "lm_head"


LLAMA_NAMES = Names()


def decoder(
    c: Config, family: str, kinds: Sequence[str], spans: Mapping[str, Span], attention: Attention,
    feeds: Mapping[str, Feed], sizes: dict[str, int], *, order: Order = PRE_NORM, names: Names = LLAMA_NAMES,
    tied: bool = False, derived: Mapping[str, Terms] | None = None, **more: Any,
) -> Architecture:  # fmt: skip
    """A decoder whose layers have a kind each, "FEED-SPAN": the keys of `feeds` and of `spans`."""

    def layer(b: Draft, kind: str) -> None:
        feed, reach = kind.rsplit("-", 1)
        order.write(b, attention, feeds[feed], spans[reach])

    blocks = [
        embedding_block(names.embedding),
        *by_kind(kinds, layer, names.layer),
        head_block(names.embedding, tied, names.norm, order.kind, name=names.head),
    ]
    used = [spans[reach] for reach in dict.fromkeys(kind.rsplit("-", 1)[1] for kind in kinds)]
    known = {axis: terms for axis, terms in DERIVED.items() if all(a in sizes for _, axes in terms for a in axes)}
    return assemble(c, family, blocks, sizes, known | dict(derived or {}), tied, used, **more)


def dense(
    c: Config, family: str, attention: Attention, feed: Feed, sizes: dict[str, int], *, order: Order = PRE_NORM,
    names: Names = LLAMA_NAMES, tied: bool = False, spans: Mapping[str, Span] | None = None,
    kinds: Sequence[str] | None = None,
) -> Architecture:  # fmt: skip
    """A decoder with one kind of feed-forward part, over the spans that `kinds` names for each layer (absent: all)."""
    reach = kinds if kinds is not None else ["full"] * c.layers()
    spans = spans if spans is not None else {"full": Span()}
    return decoder(
        c, family, [f"dense-{kind}" for kind in reach], spans, attention, {"dense": feed}, sizes,
        order=order, names=names, tied=tied,
    )  # fmt: skip


def unless_null(c: Config, name: str, value: int) -> int | None:
    """A class default that an absent field takes, but not a field that is null."""
    return None if name in c.data else value


def axes_of(
    c: Config, of: str | None = None, kv_heads: int | None = None, head_dim: int | None = None
) -> dict[str, int]:
    """The axes of a dense decoder; `kv_heads` and `head_dim` are defaults of the class `of` for absent fields."""
    kv = None if kv_heads is None else unless_null(c, "num_key_value_heads", kv_heads)
    hd = None if head_dim is None else unless_null(c, "head_dim", head_dim)
    return grouped_axes(c, of, kv_heads=kv, head_dim=hd) | {"vocab": c.number("vocab_size")}


def with_ffn(c: Config, sizes: dict[str, int]) -> dict[str, int]:
    """The axes with the width of a dense feed-forward part."""
    return sizes | {"ffn": c.number("intermediate_size")}


def heads_fill_hidden(sizes: Mapping[str, int]) -> None:
    """Raise `UsageError` unless the heads together are as wide as the hidden size, which some classes take for granted."""
    if sizes["qh"] * sizes["hd"] != sizes["h"]:
        raise UsageError(
            "the configuration contradicts itself: this model type needs heads as wide as hidden_size "
            f"{sizes['h']} together, not {sizes['qh']} x {sizes['hd']}"
        )


def spans_of(c: Config, default: int | None, of: str) -> dict[str, Span]:
    """Full attention and the window of the sliding layers; a null window sees everything."""
    if "sliding_window" in c.data or default is None:
        window = c.optional("sliding_window")
    else:
        window = c.number("sliding_window", default=default, of=of)
    return {"full": Span(), "sliding": Span(window=window)}


def every(c: Config, full: int) -> list[str]:
    """The layers' spans: listed, or every `full`-th layer sees everything and the others a window."""
    layers = c.layers()
    listed = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    return listed or ["sliding" if (index + 1) % full else "full" for index in range(layers)]
