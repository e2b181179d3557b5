"""Encoders and encoder-decoders: embeddings with their norm, cross-attention, and the heads that a model class puts on top."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advisor_mcp.anatomy.classics import used
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Axis, Block, Cache, Span, Terms
from advisor_mcp.anatomy.parts import RESIDUAL, TOKENS, Attention, Draft, Feed, Norm, assemble, attend
from advisor_mcp.errors import CannotAnswer, UsageError, shown

BOTH_WAYS = Span(both=True)
POOLED: Axes = ("b",)  # heads on the first token alone
SAME_LENGTH = "the encoder is taken to read as many tokens as the decoder's sequence has"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of an embedding: its name, its rows' axis, and what it counts as."""

    name: str
    rows: Axis
    role: str = "position_embedding"


@dataclass(frozen=True, slots=True)
class Embedding:
    """Tables that are looked up and summed, a norm, and where rows are narrower than the model a projection.

    The norm is over the rows' width, or over the model's where `norm_last` puts it after the projection.
    """

    tables: tuple[Table, ...]
    norm: str = ""
    width: Axis = "h"
    project: str = ""
    project_bias: bool = True
    norm_last: bool = False
    kind: Norm = "layer"

    def write(self, b: Draft) -> None:
        """Add the look-up, the norm and the projection."""
        b.value("ids", TOKENS, "int")
        weights = [b.tensor(t.name, (t.rows, self.width), t.role) for t in self.tables]
        b.op("lookup", ("ids",), "e", (*TOKENS, self.width), weights=weights)
        last, width = "e", self.width
        if self.norm and not self.norm_last:
            b.norm(self.norm, last, "en", self.kind, width)
            last = "en"
        if self.project:
            b.linear(self.project, last, "wide", ("h", width), "other", self.project_bias)
            last, width = "wide", "h"
        if self.norm and self.norm_last:
            b.norm(self.norm, last, "en", self.kind, width)

    def block(self, prefix: str) -> Block:
        """The block of an encoder's embedding."""
        b = Draft("embedding", prefix)
        self.write(b)
        return b.block((0,))


@dataclass(frozen=True, slots=True)
class Dense:
    """A matrix of a head, for every token or (`pooled`) for the first alone, and a norm after it where `norm` names one."""

    name: str
    out: Axis = "h"
    into: Axis = "h"
    pooled: bool = False
    bias: bool = True
    role: str = "other"
    norm: str = ""
    norm_role: str = "norm"
    kind: Norm = "layer"

    def write(self, b: Draft, source: str, out: str) -> None:
        """Add the product, an activation and the norm."""
        rows = POOLED if self.pooled else TOKENS
        b.linear(self.name, source, f"{out}d", (self.out, self.into), self.role, self.bias, tokens=rows)
        if self.norm:
            b.norm(self.norm, f"{out}d", out, self.kind, self.out, self.norm_role, (*rows, self.out))
        else:
            b.op("activation", (f"{out}d",), out, (*rows, self.out))


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The product with the vocabulary: the embedding's own matrix when `tied`, and biases by the names they have."""

    tied_to: str
    tied: bool
    name: str
    biases: tuple[str, ...] = ()
    into: Axis = "h"
    bias_role: str = "lm_head"
    rows: Axis = "vocab"

    def write(self, b: Draft, source: str, out: str) -> None:
        """Add the product."""
        weights = [self.tied_to] if self.tied else [b.tensor(self.name, (self.rows, self.into), "lm_head", matrix=True)]
        weights += [b.tensor(name, (self.rows,), self.bias_role) for name in self.biases]
        b.op("linear", (source,), out, (*TOKENS, self.rows), ((2, (*TOKENS, self.into, self.rows)),), weights)


Chain = tuple[Dense | Vocabulary, ...]
Heads = Mapping[str, tuple[Chain, ...]]  # what a class's name ends in -> the chains on top of the encoder


def head_block(chains: Sequence[Chain], norm: str = "", kind: Norm = "layer") -> Block:
    """The last norm, where `norm` names one, and every chain from there."""
    b = Draft("head")
    b.value("x", RESIDUAL)
    last = "x"
    if norm:
        b.norm(norm, "x", "xn", kind)
        last = "xn"
    for which, chain in enumerate(chains):
        source = last
        for step, part in enumerate(chain):
            out = f"head{which}.{step}"
            part.write(b, source, out)
            source = out
    return b.block((0,))


def task(c: Config, known: Sequence[str], otherwise: str) -> str:
    """What the first of the `architectures` ends in, one of `known`; absent, it is `otherwise`, and a note says so.

    Raises `CannotAnswer` for a class with another head.
    """
    listed = c.entries("architectures")
    if not listed:
        c.notes.append(f"architectures is absent: the head of a model class {otherwise} is counted")
        return otherwise
    name = listed[0]
    if not isinstance(name, str):
        raise UsageError(f"architectures in the configuration must list class names, not {shown(name)}")
    for suffix in sorted(known, key=len, reverse=True):
        if name.endswith(suffix):
            return suffix
    raise CannotAnswer(f"the head of {shown(name)} is not described for this model type")


def labels(c: Config, default: int = 2) -> int:
    """Classes of a classification head: entries of id2label, else num_labels, else the configuration class's default."""
    named = c.part("id2label")
    if named is not None and named.data:
        return len(named.data)
    return c.number("num_labels", "_num_labels", default=default)


def classify(name: str = "classifier", pooled: bool = True, out: Axis = "labels", bias: bool = True) -> Dense:
    """A classification head of one matrix."""
    return Dense(name, out, pooled=pooled, bias=bias)


def with_labels(c: Config, sizes: dict[str, int], chains: Sequence[Chain], default: int = 2) -> dict[str, int]:
    """The axes with the number of labels, where a chain uses it."""
    needed = any(isinstance(part, Dense) and part.out == "labels" for chain in chains for part in chain)
    return sizes | {"labels": labels(c, default)} if needed else sizes


def encoder(
    c: Config, family: str, embedding: Embedding, layers: Sequence[Block], chains: Sequence[Chain], sizes: dict[str, int],
    *, prefix: str, norm: str = "", kind: Norm = "layer", tied: bool, spans: Sequence[Span] = (BOTH_WAYS,),
    derived: dict[str, Terms] | None = None, **more: Any,
) -> Architecture:  # fmt: skip
    """An encoder that sees both ways, between its embedding and the chains of its head."""
    blocks = [embedding.block(prefix), *layers]
    if chains or norm:
        blocks.append(head_block(chains, norm, kind))
    sizes = with_labels(c, sizes, chains)
    return assemble(c, family, blocks, sizes, used(sizes, derived), tied, spans, **more)


def only_encoder(c: Config) -> None:
    """Raises `CannotAnswer` for an encoder that is set up as a decoder."""
    for name in ("is_decoder", "add_cross_attention"):
        if c.flag(name):
            raise CannotAnswer(f"{name} is set, and this model type is described as an encoder")


@dataclass(frozen=True, slots=True)
class Cross:
    """Attention from the decoder to the encoder's output, whose keys and values are computed once and kept."""

    prefix: str
    names: tuple[str, str, str, str]
    bias: bool

    def write(self, b: Draft, source: str) -> None:
        """Add the projections, the attention and its cache of one entry per token of the encoder, and the output `co`."""
        q, k, v, o = (self.prefix + name for name in self.names)
        b.value("memory", RESIDUAL)
        b.linear(q, source, "cq", ("q", "h"), "attention", self.bias)
        b.linear(k, "memory", "ck", ("kv", "h"), "attention", self.bias)
        b.linear(v, "memory", "cv", ("kv", "h"), "attention", self.bias)
        attend(b, BOTH_WAYS, reads=("cq", "ck", "cv"), out="catt")
        b.caches.append(Cache("cross", entry=((2, ("kvh", "hd")),)))
        b.linear(o, "catt", "co", ("h", "q"), "attention", self.bias)


@dataclass(frozen=True, slots=True)
class CrossLayer:
    """A decoder's layer: self-attention, cross-attention and MLP, each with a norm before it or (`post`) after its sum."""

    attention: Attention
    cross: Cross
    feed: Feed
    norms: tuple[str, str, str]
    norm: Norm = "layer"
    post: bool = False

    def write(self, b: Draft) -> None:
        """Add the three parts, their norms and sums."""
        self._part(b, 0, "x", "r", "o", lambda source: self.attention.write(b, source, Span()))
        self._part(b, 1, "r", "t", "co", lambda source: self.cross.write(b, source))
        self._part(b, 2, "t", "out", "y", lambda source: self.feed.write(b, source))

    def _part(self, b: Draft, which: int, stream: str, out: str, update: str, write: Callable[[str], None]) -> None:
        if self.post:
            write(stream)
            b.add(stream, update, f"sum{which}")
            b.norm(self.norms[which], f"sum{which}", out, self.norm)
        else:
            b.norm(self.norms[which], stream, f"n{which}", self.norm)
            write(f"n{which}")
            b.add(stream, update, out)


def end_of_encoder(norm: str, kind: Norm = "layer") -> Block:
    """The norm of what the decoder reads."""
    b = Draft("head")
    b.value("x", RESIDUAL)
    b.norm(norm, "x", "memory", kind)
    return b.block((0,))
