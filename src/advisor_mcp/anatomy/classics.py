"""The parts of the decoders before Llama, and of their encoder kin: fused projections, biases, plain MLPs, parallel layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axis, Span, Terms
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
    head_block,
    kv_cache,
)
from advisor_mcp.errors import CannotAnswer

DERIVED: dict[str, Terms] = GROUPED_DERIVED | {
    "qkv": ((1, ("qh", "hd")), (2, ("kvh", "hd"))),
    "gate_up": ((2, ("ffn",)),),
}


@dataclass(frozen=True, slots=True)
class Projected:
    """Attention from separate q, k and v matrices, or from the one that `fused` names (`transposed`: stored (in, out)).

    `qk_norm` names the norms of queries and keys over a head, one vector for all heads or (`per_head`) one for each. `axes`
    are the width, heads and head size, `relative` names a table of biases by distance. With a span that looks both ways
    nothing is cached; `cached` is the span of the cache where it differs from that of the mask.
    """

    prefix: str = "self_attn."
    names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj")
    fused: str = ""
    bias: bool = True
    o_bias: bool = True
    transposed: bool = False
    rope: bool = False
    qk_norm: tuple[str, str] | None = None
    per_head: bool = False
    cached: Span | None = None
    axes: tuple[Axis, Axis, Axis] = ("q", "qh", "hd")
    relative: str = ""

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the projections, norms and rotation, the attention and its cache, and the output projection."""
        width, heads, size = self.axes
        reads = self._project(b, source)
        if self.qk_norm:
            reads = self._normalise(b, reads)
        if self.rope:
            b.op("rope", reads[:2], "qr", (*b.tokens, width))
            reads = ("qr", *reads[1:]) if len(reads) > 1 else ("qr", *reads)
        tables = []
        if self.relative:
            tables.append(b.tensor(self.prefix + self.relative, ("buckets", heads), "position_embedding"))
        attend(b, span, heads, size, size, reads, tables)
        if not span.both:
            b.caches.append(kv_cache(self.cached or span, ((2, ("kvh", "hd")),)))
        b.linear(
            self.prefix + self.names[3], "att", "o", ("h", width), "attention", self.o_bias, transposed=self.transposed
        )

    def _project(self, b: Draft, source: str) -> tuple[str, ...]:
        if self.fused:
            name = self.prefix + self.fused
            b.linear(name, source, "qkv", ("qkv", "h"), "attention", self.bias, transposed=self.transposed)
            return ("qkv",)
        q, k, v, _ = (self.prefix + name for name in self.names)
        width = self.axes[0]
        shared: Axis = "kv" if width == "q" else width
        b.linear(q, source, "q", (width, "h"), "attention", self.bias)
        b.linear(k, source, "k", (shared, "h"), "attention", self.bias)
        b.linear(v, source, "v", (shared, "h"), "attention", self.bias)
        return ("q", "k", "v")

    def _normalise(self, b: Draft, reads: tuple[str, ...]) -> tuple[str, ...]:
        sources = reads[:2] if len(reads) > 1 else (reads[0], reads[0])
        assert self.qk_norm is not None
        for name, source, out, heads, width in zip(
            self.qk_norm, sources, ("qn", "kn"), ("qh", "kvh"), ("q", "kv"), strict=True
        ):
            if self.per_head:
                full = f"{self.prefix}{name}.norms.{{expert}}.weight"
                weights = [b.tensor(full, ("hd",), "qk_norm", copies=(heads,))]
                b.op("norm", (source,), out, (*b.tokens, width), weights=weights)
            else:
                b.norm(self.prefix + name, source, out, "layer", "hd", "qk_norm", (*b.tokens, width))
        return ("qn", "kn", reads[-1])


@dataclass(frozen=True, slots=True)
class Matrices:
    """A feed-forward part of two matrices; `gated`: the first holds gate and up together; `gate` names one for the gate."""

    prefix: str = "mlp."
    names: tuple[str, str] = ("fc1", "fc2")
    bias: bool = True
    transposed: bool = False
    gated: bool = False
    gate: str = ""
    axis: Axis = "ffn"

    def write(self, b: Draft, source: str) -> None:
        """Add the products and what stands between them."""
        up, down = (self.prefix + name for name in self.names)
        first: Axis = "gate_up" if self.gated else self.axis
        b.linear(up, source, "up", (first, "h"), "mlp", self.bias, transposed=self.transposed)
        if self.gate:
            b.linear(self.prefix + self.gate, source, "gate", (first, "h"), "mlp", self.bias)
        reads = ("gate", "up") if self.gate else ("up",)
        b.op("gate" if self.gated or self.gate else "activation", reads, "act", (*b.tokens, self.axis))
        b.linear(down, "act", "y", ("h", self.axis), "mlp", self.bias, transposed=self.transposed)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: norms before its parts ("pre"), after their sums ("post"), or both parts side by side ("parallel").

    A parallel layer has one norm for both parts or one each.
    """

    attention: Attention
    feed: Feed
    norms: tuple[str, ...]
    order: Literal["pre", "post", "parallel"] = "pre"
    norm: Norm = "layer"

    def write(self, b: Draft, span: Span, bare: bool = False) -> None:
        """Add the parts, the norms and the residual sums; a `bare` pre-norm layer lacks the norm before attention."""
        if self.order == "pre":
            self._pre(b, span, bare)
        else:
            (self._post if self.order == "post" else self._parallel)(b, span)

    def _pre(self, b: Draft, span: Span, bare: bool) -> None:
        if not bare:
            b.norm(self.norms[0], "x", "a", self.norm)
        self.attention.write(b, "x" if bare else "a", span)
        b.add("x", "o", "r")
        b.norm(self.norms[1], "r", "m", self.norm)
        self.feed.write(b, "m")
        b.add("r", "y", "out")

    def _post(self, b: Draft, span: Span) -> None:
        self.attention.write(b, "x", span)
        b.add("x", "o", "r")
        b.norm(self.norms[0], "r", "m", self.norm)
        self.feed.write(b, "m")
        b.add("m", "y", "s")
        b.norm(self.norms[1], "s", "out", self.norm)

    def _parallel(self, b: Draft, span: Span) -> None:
        b.norm(self.norms[0], "x", "a", self.norm)
        self.attention.write(b, "a", span)
        if len(self.norms) > 1:
            b.norm(self.norms[1], "x", "m", self.norm)
        self.feed.write(b, "a" if len(self.norms) == 1 else "m")
        b.op("add", ("x", "o", "y"), "out", RESIDUAL)


@dataclass(frozen=True, slots=True)
class Names:
    """What the checkpoint calls the parts outside the layers, and the prefix of a layer."""

    embedding: str = "transformer.wte.weight"
    positions: str | None = None
    layer: str = "transformer.h.{layer}."
    norm: str = "transformer.ln_f"
    head: str = "lm_head"


LLAMA_NAMES = Names("model.embed_tokens.weight", None, "model.layers.{layer}.", "model.norm")


def decoder(
    c: Config, family: str, layer: Layer, sizes: dict[str, int], layers: int, *, names: Names = Names(),
    tied: bool, head_bias: bool = False, window: int | None = None, derived: dict[str, Terms] | None = None, **more: Any,
) -> Architecture:  # fmt: skip
    """A decoder of equal layers, all of which see the last `window` tokens (None: everything)."""
    span = Span(window=window)
    kind = "full" if window is None else "sliding"
    blocks = [
        embedding_block(names.embedding, names.positions),
        *by_kind([kind] * layers, lambda b, _: layer.write(b, span), names.layer),
        head_block(names.embedding, tied, names.norm, layer.norm, head_bias, names.head),
    ]
    return assemble(c, family, blocks, sizes, used(sizes, derived), tied, [span], **more)


def used(sizes: dict[str, int], more: dict[str, Terms] | None = None) -> dict[str, Terms]:
    """The derived axes whose parts all have a size."""
    return {
        axis: terms
        for axis, terms in (DERIVED | (more or {})).items()
        if all(a in sizes for _, axes in terms for a in axes)
    }


HIDDEN, HEADS, LAYERS = "hidden_size", "num_attention_heads", "num_hidden_layers"


def heads_of(
    c: Config, hidden: Sequence[str] = (HIDDEN,), heads: Sequence[str] = (HEADS,),
    kv_heads: int | None = None, head_dim: int | None = None,
) -> dict[str, int]:  # fmt: skip
    """The axes h, qh, kvh and hd; absent `kv_heads` are one per head, an absent `head_dim` is h / heads."""
    h, qh = c.number(*hidden), c.number(*heads)
    hd = c.divides(h, qh, f"{heads[0]} does not divide {hidden[0]}") if head_dim is None else head_dim
    kvh = qh if kv_heads is None else kv_heads
    c.divides(qh, kvh, "the KV heads do not divide the attention heads")
    return {"h": h, "qh": qh, "kvh": kvh, "hd": hd}


def four_times(c: Config, sizes: dict[str, int], *names: str) -> dict[str, int]:
    """The axes with the width of the MLP: the first of `names` that is set, or four times the residual's, as the class has it."""
    return sizes | {"ffn": c.number(*names) if c.given(*names) else 4 * sizes["h"]}


def without_cross_attention(c: Config) -> None:
    """Raises `CannotAnswer` for a decoder that is set up to read an encoder of another model."""
    if c.flag("add_cross_attention"):
        raise CannotAnswer("add_cross_attention is set, and this model type is described without cross-attention")
