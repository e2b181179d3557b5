"""T5Gemma 1 and 2: Gemma's layers as an encoder and a decoder, whose widths may differ in the first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from advisor_mcp.anatomy import towers
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import BOTH_WAYS, SAME_LENGTH, end_of_encoder, task
from advisor_mcp.anatomy.inventory import Architecture, Axes, Axis, Block, Cache, Span, Terms
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    RESIDUAL,
    TOKENS,
    Draft,
    Gated,
    Grouped,
    assemble,
    attend,
    by_kind,
    grouped_axes,
    head_block,
)
from advisor_mcp.errors import CannotAnswer, UsageError

MODEL_TYPES = ("t5gemma", "t5gemma2")
LAYER_KINDS = {"full_attention": "full", "sliding_attention": "sliding"}
HEAD = "ForConditionalGeneration"
OWN = ("h", "qh", "kvh", "hd", "q", "kv", "ffn", "vocab")
DERIVED: dict[str, Terms] = GROUPED_DERIVED | {
    "q.encoder": ((1, ("qh.encoder", "hd.encoder")),),
    "kv.encoder": ((1, ("kvh.encoder", "hd.encoder")),),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What tells the two apart: the class, the period of full layers, norms of queries and keys, and the vocabulary."""

    of: str
    pattern: int
    qk_norm: bool
    vocab: int


KINDS = {
    "t5gemma": Kind("T5GemmaModuleConfig", 2, False, 256_000),
    "t5gemma2": Kind("T5Gemma2TextConfig", 6, True, 262_208),
}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' T5GemmaConfig or T5Gemma2Config."""
    family = c.text("model_type") or "t5gemma"
    which = task(c, (HEAD, "EncoderModel", "Model") if family == "t5gemma" else (HEAD, "Model"), HEAD)
    root = "model." if which == HEAD else ""
    return (_first if family == "t5gemma" else _second)(c, KINDS[family], root, which)


def _first(c: Config, kind: Kind, root: str, which: str) -> Architecture:
    encoder, decoder = _part(c, "encoder"), _part(c, "decoder")
    reads = _Stack(encoder, kind)
    sizes = {f"{axis}.encoder": size for axis, size in reads.axes().items()}
    first = [
        _encoder_side(_words(f"{root}encoder.embed_tokens.weight")),
        *reads.layers(f"{root}encoder.layers.{{layer}}.", _read(reads), _neighbours),
        _encoder_side(end_of_encoder(f"{root}encoder.norm", "rms")),
    ]
    tied = c.flag("tie_word_embeddings", default=True)
    if which == "EncoderModel":
        derived = {axis: terms for axis, terms in DERIVED.items() if axis.endswith(".encoder")}
        return assemble(c, "t5gemma", first, sizes, derived, tied, reads.spans(_neighbours))
    writes = _Stack(decoder, kind)
    table = f"{root}decoder.embed_tokens.weight"
    blocks = [
        *first,
        _words(table),
        *writes.layers(f"{root}decoder.layers.{{layer}}.", _write(writes), _earlier),
        _end(which, table, tied, root),
    ]
    c.notes.append(SAME_LENGTH)
    spans = [*reads.spans(_neighbours), BOTH_WAYS, *writes.spans(_earlier)]
    return assemble(c, "t5gemma", blocks, sizes | writes.axes(), DERIVED, tied, list(dict.fromkeys(spans)))


def _second(c: Config, kind: Kind, root: str, which: str) -> Architecture:
    """One table for both stacks and the head, and keys and values of both from the same matrices of the decoder."""
    encoder = _part(c, "encoder")
    reads, writes = _Stack(_part(encoder, "text_config"), kind), _Stack(_part(c, "decoder"), kind)
    sizes = {f"{axis}.encoder": size for axis, size in reads.axes().items()} | writes.axes()
    for axis in ("h", "vocab"):
        if sizes[axis] != sizes[f"{axis}.encoder"]:
            raise UsageError("the configuration contradicts itself: encoder and decoder differ in width or vocabulary")
    if not c.flag("tie_word_embeddings", default=True):
        raise CannotAnswer("tie_word_embeddings is false, and T5Gemma 2 is described with one table for both stacks")
    table = f"{root}encoder.text_model.embed_tokens.weight"
    words = _words(table, f"{root}encoder.text_model.embed_tokens.eoi_embedding")
    blocks = [
        *_vision(encoder, sizes, root),
        _encoder_side(words),
        *reads.layers(f"{root}encoder.text_model.layers.{{layer}}.", _read(reads), _around),
        _encoder_side(end_of_encoder(f"{root}encoder.text_model.norm", "rms")),
        *writes.layers(f"{root}decoder.layers.{{layer}}.", _merge(writes), _earlier),
        _end(which, table, True, root),
    ]
    c.notes += [
        SAME_LENGTH,
        "an even window of the encoder is counted with one position more on the left than it shows",
    ]
    spans = [*reads.spans(_around), BOTH_WAYS, *writes.spans(_earlier)]
    return assemble(c, "t5gemma2", blocks, sizes, DERIVED, True, list(dict.fromkeys(spans)))


def _part(c: Config, name: str) -> Config:
    found = c.part(name)
    if found is None:
        raise CannotAnswer(f"the configuration has no {c.prefix}{name}", needs=[f"{c.prefix}{name}"])
    return found


def _neighbours(window: int) -> Span:
    return Span(window=window, both=True)


def _around(window: int) -> Span:
    return Span(window=max(window // 2, 1), both=True)


def _earlier(window: int) -> Span:
    return Span(window=window)


@dataclass(frozen=True, slots=True)
class _Stack:
    """One stack's configuration: its axes, and its layers with the spans that `local` gives for the window."""

    c: Config
    kind: Kind

    @property
    def attention(self) -> Grouped:
        bias = self.c.flag("attention_bias")
        return Grouped(bias, bias, bias, self.kind.qk_norm)

    def axes(self) -> dict[str, int]:
        sizes = grouped_axes(self.c, self.kind.of, 8, 4, head_dim=256)
        sizes["ffn"] = self.c.number("intermediate_size")
        return sizes | {"vocab": self.c.number("vocab_size", default=self.kind.vocab, of=self.kind.of)}

    def kinds(self) -> list[str]:
        layers = self.c.layers()
        every = self.c.number("sliding_window_pattern", default=self.kind.pattern)
        listed = self.c.layer_kinds("layer_types", layers, LAYER_KINDS)
        return listed or ["sliding" if (layer + 1) % every else "full" for layer in range(layers)]

    def span(self, kind: str, local: Callable[[int], Span]) -> Span:
        if kind == "full":
            return Span() if local is _earlier else BOTH_WAYS
        return local(self.c.number("sliding_window", default=4096))

    def spans(self, local: Callable[[int], Span]) -> list[Span]:
        return [self.span(kind, local) for kind in dict.fromkeys(self.kinds())]

    def layers(self, prefix: str, write: Callable[[Draft, Span], None], local: Callable[[int], Span]) -> list[Block]:
        blocks = by_kind(self.kinds(), lambda b, kind: write(b, self.span(kind, local)), prefix)
        return [_encoder_side(block) for block in blocks] if local is not _earlier else blocks


def _words(name: str, end_of_image: str = "") -> Block:
    b = Draft("embedding")
    b.value("ids", TOKENS, "int")
    weights = [b.tensor(name, ("vocab", "h"), "token_embedding")]
    if end_of_image:
        weights.append(b.tensor(end_of_image, ("h",), "token_embedding"))
    b.op("lookup", ("ids",), "x", RESIDUAL, weights=weights)
    return b.block((0,))


def _end(which: str, table: str, tied: bool, root: str) -> Block:
    if which == HEAD:
        return head_block(table, tied, f"{root}decoder.norm", name="lm_head.out_proj")
    b = Draft("head")
    b.value("x", RESIDUAL)
    b.norm(f"{root}decoder.norm", "x", "xn")
    return b.block((0,))


def _sandwich(b: Draft, part: str, stream: str, update: str, out: str, write: Callable[[str], None]) -> None:
    """A part between two norms, added to the stream."""
    b.norm(f"pre_{part}_layernorm", stream, f"{part}.in")
    write(f"{part}.in")
    b.norm(f"post_{part}_layernorm", update, f"{part}.out")
    b.add(stream, f"{part}.out", out)


def _read(stack: _Stack) -> Callable[[Draft, Span], None]:
    def write(b: Draft, span: Span) -> None:
        _sandwich(b, "self_attn", "x", "o", "r", lambda source: stack.attention.write(b, source, span))
        b.caches.clear()
        _sandwich(b, "feedforward", "r", "y", "out", lambda source: Gated().write(b, source))

    return write


def _write(stack: _Stack) -> Callable[[Draft, Span], None]:
    def write(b: Draft, span: Span) -> None:
        _sandwich(b, "self_attn", "x", "o", "r", lambda source: stack.attention.write(b, source, span))
        _sandwich(b, "cross_attn", "r", "co", "t", lambda source: _cross(b, source, stack.attention.q_bias))
        _sandwich(b, "feedforward", "t", "y", "out", lambda source: Gated().write(b, source))

    return write


def _cross(b: Draft, source: str, bias: bool) -> None:
    """Attention to the encoder's output, which may be wider or narrower than the decoder."""
    b.value("memory", (*b.tokens, "h.encoder"))
    b.linear("cross_attn.q_proj", source, "cq", ("q", "h"), "attention", bias)
    b.linear("cross_attn.k_proj", "memory", "ck", ("kv", "h.encoder"), "attention", bias)
    b.linear("cross_attn.v_proj", "memory", "cv", ("kv", "h.encoder"), "attention", bias)
    attend(b, BOTH_WAYS, reads=("cq", "ck", "cv"), out="catt")
    b.caches.append(Cache("cross", entry=((2, ("kvh", "hd")),)))
    b.linear("cross_attn.o_proj", "catt", "co", ("h", "q"), "attention", bias)


def _merge(stack: _Stack) -> Callable[[Draft, Span], None]:
    def write(b: Draft, span: Span) -> None:
        _sandwich(b, "self_attn", "x", "o", "r", lambda source: _merged(b, source, span, stack.attention))
        _sandwich(b, "feedforward", "r", "y", "out", lambda source: Gated().write(b, source))

    return write


def _merged(b: Draft, source: str, span: Span, attention: Grouped) -> None:
    """Self-attention, whose key and value matrices the encoder's output passes through as well."""
    attention.write(b, source, span)
    b.value("memory", RESIDUAL)
    for short in ("k", "v"):
        weights = [f"{b.prefix}self_attn.{short}_proj.weight"]
        b.op("linear", ("memory",), f"c{short}", (*b.tokens, "kv"), ((2, (*b.tokens, "h", "kv")),), weights)
    attend(b, BOTH_WAYS, reads=("qr", "ck", "cv"), out="catt")
    b.caches.append(Cache("cross", entry=((2, ("kvh", "hd")),)))


def _vision(encoder: Config, sizes: dict[str, int], root: str) -> list[Block]:
    vision = encoder.part("vision_config")
    if vision is None:
        raise CannotAnswer("the configuration has no encoder.vision_config", needs=["encoder.vision_config"])
    blocks = towers.siglip(vision, sizes["h"], sizes)
    return [_named(block, "vision_tower.vision_model.", "vision_tower.", f"{root}encoder.") for block in blocks]


def _named(block: Block, old: str, new: str, root: str) -> Block:
    """The block with its tensors' names below `root`, and one prefix replaced by another."""

    def name(given: str) -> str:
        return root + given.replace(old, new, 1)

    tensors = tuple(replace(tensor, name=name(tensor.name)) for tensor in block.tensors)
    ops = tuple(replace(op, weights=tuple(name(weight) for weight in op.weights)) for op in block.ops)
    return replace(block, tensors=tensors, ops=ops)


def _encoder_side(block: Block) -> Block:
    """The block on the encoder's own axes."""

    def axes(given: Axes) -> Axes:
        return tuple(_own(axis) for axis in given)

    def terms(given: Terms) -> Terms:
        return tuple((coefficient, axes(found)) for coefficient, found in given)

    tensors = tuple(replace(tensor, axes=axes(tensor.axes)) for tensor in block.tensors)
    ops = tuple(replace(op, flops=terms(op.flops)) for op in block.ops)
    values = {name: replace(value, axes=axes(value.axes)) for name, value in block.values.items()}
    return replace(block, tensors=tensors, ops=ops, values=values)


def _own(axis: Axis) -> Axis:
    return f"{axis}.encoder" if axis in OWN else axis
