"""The two inventories of a model: its weight tensors, and the operations of a forward pass, both on named axes.

Everything that is calculated folds over them. They are logical: they know no framework, no precision and no cluster.
An axis is a name whose size stands in `Architecture.sizes`, or a plain number. Blocks are run-length: a model of 61 layers
of two kinds has two blocks, and 256 experts are one axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Axis = str | int
Axes = tuple[Axis, ...]
Sizes = Mapping[str, Any]  # axis -> size; a number, or a numpy column with one entry per layout
Term = tuple[float, Axes]  # coefficient x product of axes
Terms = tuple[Term, ...]
Split = Literal["tensor", "kv", "expert"]


def count(axes: Axes, sizes: Sizes) -> Any:
    """Elements of a tensor with these axes."""
    total: Any = 1
    for axis in axes:
        total = total * (sizes[axis] if isinstance(axis, str) else axis)
    return total


def total(terms: Terms, sizes: Sizes) -> Any:
    """Sum of coefficient x product of axes."""
    result: Any = 0
    for coefficient, axes in terms:
        result = result + coefficient * count(axes, sizes)
    return result


@dataclass(frozen=True, slots=True)
class Tensor:
    """A weight tensor: `name` as the checkpoint has it, with {layer} and {expert} for the indices.

    `axes` is its shape; `copies` are the axes along which the checkpoint holds separate tensors of that shape. `matrix`
    marks what a matrix product multiplies with (quantisers and adapters act on those). `dtype` is set where the checkpoint
    stores it in a format of its own.
    """

    name: str
    axes: Axes
    role: str
    copies: Axes = ()
    matrix: bool = False
    dtype: str | None = None

    def elements(self, sizes: Sizes) -> Any:
        """Elements of all copies."""
        return count(self.copies + self.axes, sizes)

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """Shape of one copy."""
        return tuple(int(sizes[a]) if isinstance(a, str) else a for a in self.axes)


@dataclass(frozen=True, slots=True)
class Value:
    """An activation, named so that two operations that keep it count it once."""

    axes: Axes
    width: str = "act"


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of a forward pass: the values it reads and writes, the weights it uses, and its FLOPs as terms."""

    kind: str
    out: tuple[str, ...]
    reads: tuple[str, ...]
    weights: tuple[str, ...] = ()
    flops: Terms = ()


@dataclass(frozen=True, slots=True)
class Span:
    """Which earlier positions an attention sees: all, the last `window`, or those of the current `chunk`.

    An encoder's sees `both` ways: all positions, or those at most `window` away.
    """

    window: int | None = None
    chunk: int | None = None
    both: bool = False

    def pairs(self, length: Any, causal: bool = True) -> Any:
        """Query-key pairs of one sequence of `length` tokens; without `causal`, as if later positions were seen too."""
        if self.both:
            far = length - 1 if self.window is None else _smaller(length - 1, self.window)
            return length * (2 * far + 1) - far * (far + 1)
        if self.chunk is not None:
            whole, rest = length // self.chunk, length % self.chunk
            full = Span()
            return whole * full.pairs(self.chunk, causal) + full.pairs(rest, causal)
        reach = length if self.window is None else _smaller(length, self.window)
        return reach * length - reach * (reach - 1) // 2 if causal else reach * length


def _smaller(a: Any, b: Any) -> Any:
    return a.clip(max=b) if hasattr(a, "clip") else min(a, b)


@dataclass(frozen=True, slots=True)
class Cache:
    """What one layer keeps of a sequence between tokens.

    `entry` are the elements per kept entry (one entry per `tokens_per_entry` tokens, at most `cap_tokens` tokens), `fixed`
    the elements that do not depend on the length. `dtype` is set where the model fixes it whatever the rest uses.
    """

    kind: str
    entry: Terms = ()
    fixed: Terms = ()
    cap_tokens: int | None = None
    tokens_per_entry: int = 1
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """A kind of layer and the layers that are of that kind."""

    name: str
    layers: tuple[int, ...]
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...] = ()
    values: Mapping[str, Value] = field(default_factory=dict)
    caches: tuple[Cache, ...] = ()
    tower: str | None = None

    @property
    def repeat(self) -> int:
        """How many layers are of this kind."""
        return len(self.layers)

    @property
    def is_layer(self) -> bool:
        """Whether this is a layer of the decoder (or encoder) itself, not a tower, the embedding or the head."""
        return self.tower is None and self.name not in ("embedding", "head")


@dataclass(frozen=True)
class Architecture:
    """A model as its configuration describes it.

    `sizes` are the axes on one device that holds everything; `derived` axes are sums of products of others and follow
    them; `splits` says which parallelism divides an axis; `spans` names the attention patterns whose pair counts are axes.
    `beside` is what the checkpoint holds beside the model (prediction layers, buffers); `routing` names for each axis of
    routed experts the axis of how many of them a token uses.
    """

    family: str
    blocks: tuple[Block, ...]
    sizes: Mapping[str, int]
    derived: Mapping[str, Terms] = field(default_factory=dict)
    splits: Mapping[str, Split] = field(default_factory=dict)
    spans: Mapping[str, Span] = field(default_factory=dict)
    tied: bool = False
    dtype: str | None = None
    max_sequence_length: int | None = None
    quantization: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    not_described: tuple[str, ...] = ()
    beside: tuple[Block, ...] = ()
    routing: Mapping[str, str] = field(default_factory=lambda: {"expert": "topk"})
    sources: tuple[str, ...] = ()

    def bound(self, base: Sizes | None = None, **extra: Any) -> dict[str, Any]:
        """Sizes with the derived axes filled in; `base` replaces the architecture's own (a layout's), `extra` adds."""
        sizes = {**(self.sizes if base is None else base), **extra}
        for name, terms in self.derived.items():
            sizes[name] = _exact(total(terms, sizes))
        return sizes

    def workload(
        self, sequence_length: Any, batch: Any = 1, causal: bool = True, base: Sizes | None = None
    ) -> dict[str, Any]:
        """Sizes for a forward pass over `batch` sequences: adds the axes b, s and the pairs of each span."""
        pairs = {name: span.pairs(sequence_length, causal) for name, span in self.spans.items()}
        return self.bound(base, b=batch, s=sequence_length, **pairs)

    def tensors(self) -> Iterator[tuple[Block, Tensor]]:
        """Every tensor with its block."""
        for block in self.blocks:
            for tensor in block.tensors:
                yield block, tensor

    def stored(self) -> Iterator[tuple[Block, Tensor]]:
        """Every tensor of the checkpoint: the model's, and those beside it."""
        for block in (*self.blocks, *self.beside):
            for tensor in block.tensors:
                yield block, tensor

    @property
    def layers(self) -> int:
        """Decoder (or encoder) layers, towers aside."""
        return sum(block.repeat for block in self.blocks if block.is_layer)


def _exact(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def place(architecture: Architecture, tensor: Any = 1, expert: Any = 1) -> dict[str, Any]:
    """Sizes on one rank of a layout: each split axis divided by its parallelism, and nothing else.

    KV heads fewer than ranks are replicated, so at least one stays on each. Divisors may be numpy columns.
    """
    sizes: dict[str, Any] = dict(architecture.sizes)
    for axis, split in architecture.splits.items():
        divided = sizes[axis] / (expert if split == "expert" else tensor)
        sizes[axis] = _exact(_at_least_one(divided) if split == "kv" else divided)
    return sizes


def _at_least_one(value: Any) -> Any:
    return value.clip(min=1) if hasattr(value, "clip") else max(value, 1)
