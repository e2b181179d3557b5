"""The roofline of a whole model: one prefill, one decoded token for each sequence, or one training pass, on one rank.

`lower` attaches formats to the operation inventory once; `step` then folds it for any lengths and batch. Counted are the
operations that `flops.forward` counts, and the bytes that must cross the memory's interface: weights, caches and states.
Activations are taken to stay on chip between operations, elementwise operations to be fused into their neighbours, and
links to cost nothing, so that the times are bounds from below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from advisor_mcp.anatomy.inventory import Architecture, Block, Cache, Op, Sizes, Tensor, Terms, place, total
from advisor_mcp.errors import CannotAnswer
from advisor_mcp.formulas.ceilings import Ceilings
from advisor_mcp.formulas.flops import BACKWARD, latent_surplus
from advisor_mcp.formulas.precision import BYTES, WeightFormat, tensor_bytes
from advisor_mcp.formulas.roofline import Limit
from advisor_mcp.formulas.state import cache_dtype

Phase = Literal["prefill", "decode", "training"]
LOOKUPS = ("lookup", "select")
SCORES, INDEX, REST = "attention scores", "index", "norms and the like"
MOST_TOKENS = 2**32  # a batch beyond it is none
# which arithmetic a stored format may be multiplied in, the ones a device has not being passed over
ARITHMETIC: dict[str, tuple[str, ...]] = {
    "fp8": ("fp8",), "fp8_block": ("fp8",), "int8": ("int8",), "mxfp4": ("fp4", "fp8"), "nvfp4": ("fp4", "fp8"),
    "gptq": (), "awq": (), "nf4": (), "fp32": ("fp32",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """Operations of one group in every layer of a kind, on one rank.

    `flops` are the terms of one layer, `decoding` those that decoding adds; a `product` multiplies with weights alone.
    `shared_bytes` are the weights that every token uses, of all layers, `routed_bytes` those of `experts` experts, of which
    a token uses `used`. `arithmetic` names the rate.
    """

    group: str
    block: str
    layers: int
    operations: int
    arithmetic: str
    flops: Terms
    decoding: Terms = ()
    shared_bytes: float = 0.0
    routed_bytes: float = 0.0
    experts: int = 1
    used: int = 1
    product: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A cache of every layer of a kind, and the pair counts of the operation that reads it (none: it is read whole)."""

    group: str
    block: str
    token_bytes: float
    fixed_bytes: float
    cap_tokens: int | None
    reach: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lowered:
    """A model in its formats on one rank of a tensor-parallel group, ready to be folded."""

    architecture: Architecture
    sizes: Sizes
    items: tuple[Item, ...]
    kept: tuple[Kept, ...]
    kernels: int


@dataclass(slots=True)
class Part:
    """One group of operations in a step, over all its layers.

    `seconds` is the least time with its layers one after another; `compute_s` and `memory_s` are what either ceiling alone
    takes. `floor_bytes` differ from `bytes` where every token may use the same experts.
    """

    group: str
    dtype: str
    operations: int = 0
    flops: float = 0.0
    bytes: float = 0.0
    floor_bytes: float = 0.0
    compute_s: float = 0.0
    memory_s: float = 0.0
    seconds: float = 0.0
    items: list[Item] = field(default_factory=list)

    @property
    def limit(self) -> Limit:
        """What bounds it."""
        return "compute" if self.compute_s >= self.memory_s else "memory"


@dataclass(frozen=True, slots=True)
class Step:
    """A step's groups, the longest first.

    Three bounds, each above the one before: `floor_s` lets all operations overlap and every token use the same experts,
    `overlapped_s` has experts chosen alike, `seconds` has the operations one after another as well.
    """

    parts: tuple[Part, ...]
    floor_s: float
    launch_s: float | None

    @property
    def flops(self) -> float:
        """FLOPs of the step."""
        return sum(part.flops for part in self.parts)

    @property
    def bytes(self) -> float:
        """Bytes that cross the memory's interface."""
        return sum(part.bytes for part in self.parts)

    @property
    def overlapped_s(self) -> float:
        """The least time when all operations overlap."""
        return max(sum(part.compute_s for part in self.parts), sum(part.memory_s for part in self.parts))

    @property
    def seconds(self) -> float:
        """The least time when operations run one after another."""
        return sum(part.seconds for part in self.parts)

    @property
    def limit(self) -> Limit:
        """What bounds most of that time."""
        compute = sum(part.seconds for part in self.parts if part.limit == "compute")
        return "compute" if 2 * compute >= self.seconds else "memory"


def lower(
    architecture: Architecture, fmt: WeightFormat, ceilings: Ceilings, kv_dtype: str = "auto", tensor_parallel: int = 1
) -> Lowered:
    """Attach weight and cache formats, and the arithmetic that the device has for them, to the operations outside the towers."""
    sizes = architecture.bound(place(architecture, tensor=tensor_parallel))
    everywhere = {tensor.name: tensor for block in architecture.blocks for tensor in block.tensors}
    blocks = [block for block in architecture.blocks if block.tower is None]
    make = _Items(architecture, sizes, fmt, ceilings, kv_dtype, everywhere)
    items = [item for block in blocks for item in make.of(block)]
    kept = [each for block in blocks for each in _caches(architecture, block, sizes, kv_dtype)]
    # a state whose reader is not among the operations still has to be moved
    unread = {(each.group, each.block) for each in kept} - {(item.group, item.block) for item in items}
    items += [Item(group, block, 0, 0, fmt.kept_dtype, ()) for group, block in sorted(unread)]
    kernels = sum(block.repeat * len(block.ops) for block in blocks)
    return Lowered(architecture, sizes, tuple(items), tuple(kept), kernels)


@dataclass(frozen=True, slots=True)
class _Items:
    """Makes the items of a block: operations of one group and one arithmetic together."""

    architecture: Architecture
    sizes: Sizes
    fmt: WeightFormat
    ceilings: Ceilings
    kv_dtype: str
    everywhere: dict[str, Tensor]

    def of(self, block: Block) -> Iterator[Item]:
        own = {tensor.name: tensor for tensor in block.tensors}
        found: dict[tuple[str, str], list[tuple[Op, list[Tensor]]]] = {}
        for op in block.ops:
            if op.kind not in LOOKUPS:
                named = (own.get(name) or self.everywhere.get(name) for name in op.weights)
                tensors = [tensor for tensor in named if tensor is not None]
                found.setdefault((_group(op, tensors), self._arithmetic(op, tensors)), []).append((op, tensors))
        for (group, arithmetic), members in found.items():
            tensors = list(dict.fromkeys(tensor for _, each in members for tensor in each))
            if tensors or any(op.flops for op, _ in members):
                yield self._item(block, group, arithmetic, [op for op, _ in members], tensors)

    def _item(self, block: Block, group: str, arithmetic: str, ops: list[Op], tensors: list[Tensor]) -> Item:
        routed = {tensor: axis for tensor in tensors if (axis := self._expert_axis(tensor))}
        size = {tensor: block.repeat * tensor_bytes(tensor, self.sizes, self.fmt) for tensor in tensors}
        axis = next(iter(routed.values()), None)
        return Item(
            group,
            block.name,
            block.repeat,
            block.repeat * (sum(bool(op.flops) for op in ops) or len(ops)),
            arithmetic,
            tuple(term for op in ops for term in op.flops),
            latent_surplus(block, self.sizes) if group == SCORES else (),
            sum(bytes_ for tensor, bytes_ in size.items() if tensor not in routed),
            sum(bytes_ for tensor, bytes_ in size.items() if tensor in routed),
            int(self.sizes[axis]) if axis else 1,
            int(self.sizes[self.architecture.routing[axis]]) if axis else 1,
            all(op.kind == "linear" and op.flops for op in ops) and bool(tensors),
        )

    def _expert_axis(self, tensor: Tensor) -> str | None:
        axes = (*tensor.copies, *tensor.axes) if tensor.role == "routed_experts" else ()
        return next((axis for axis in self.architecture.routing if axis in axes), None)

    def _arithmetic(self, op: Op, tensors: Sequence[Tensor]) -> str:
        """The fastest arithmetic of the device that suits the operands' formats; what is kept as it is has its own."""
        plain = self.fmt.kept_dtype
        if op.kind == "attention" and self.kv_dtype == "fp8":
            return self.ceilings.fastest(("fp8", plain))
        if op.kind != "linear" or not tensors:
            return plain
        coding = next((coding for coding, layers in self.fmt.parts(tensors[0]) if coding is not None and layers), None)
        # a GGUF block's values are small integers, which llama.cpp multiplies with activations in 8 bits
        return plain if coding is None else self.ceilings.fastest((*ARITHMETIC.get(coding.name, ("int8",)), plain))


def _group(op: Op, tensors: Sequence[Tensor]) -> str:
    """What an operation is listed under: a product's role, else its kind; what costs no FLOPs goes together."""
    if not op.flops:
        return REST
    if op.kind == "linear" and tensors:
        # a tied head multiplies with the embedding
        named = {"attention": "attention projections", "token_embedding": "lm_head"}
        return named.get(tensors[0].role, tensors[0].role)
    return SCORES if op.kind == "attention" else op.kind


def _caches(architecture: Architecture, block: Block, sizes: Sizes, kv_dtype: str) -> Iterator[Kept]:
    for cache in block.caches:
        width = BYTES[cache_dtype(architecture, cache, kv_dtype)] * block.repeat
        per_token = width * total(cache.entry, sizes) / cache.tokens_per_entry
        group = _reader(block, cache)
        reach = tuple(axis for op in block.ops if _group(op, ()) == group for axis in _pair_axes(op))
        yield Kept(group, block.name, per_token, width * total(cache.fixed, sizes), cache.cap_tokens, reach)


def _reader(block: Block, cache: Cache) -> str:
    """The group that reads a cache: an indexer reads the keys of its own, attention all others, a scan what is recurrent."""
    kinds = dict.fromkeys(op.kind for op in block.ops if op.flops and op.kind != "linear")
    if cache.entry:
        return INDEX if any("index_hd" in axes for _, axes in cache.entry) else SCORES
    return next((kind for kind in ("scan", "conv", *kinds) if kind in kinds and kind != "attention"), REST)


def _pair_axes(op: Op) -> list[str]:
    return [axis for _, axes in op.flops for axis in axes if isinstance(axis, str) and axis.startswith("pairs")]


@dataclass(frozen=True, slots=True)
class Workload:
    """What one step does: its phase, the tokens a sequence has (in decoding: with the one that is made), and sequences."""

    phase: Phase
    sequence_length: int
    batch: int

    @property
    def tokens(self) -> int:
        """Tokens that pass through the layers."""
        return self.batch * (1 if self.phase == "decode" else self.sequence_length)


def step(lowered: Lowered, ceilings: Ceilings, work: Workload) -> Step:
    """Fold a lowered model over a workload: per group FLOPs, bytes, and the least time under the device's ceilings.

    Prefill makes logits for the last token of each sequence only and writes the caches; decoding reads caches and states,
    writes one token's, and works on the latent itself where there is one. Training reads weights in both passes and writes
    their gradients; the optimizer is not in it. Experts are chosen alike (each as likely as any other), save in `floor_s`.
    Raises `CannotAnswer` for a missing rate, and for decoding with a model that keeps no cache of its own tokens.
    """
    sizes, last = _sizes(lowered, work)
    bandwidth = 1e9 * ceilings.bandwidth().value
    passes = 1 + BACKWARD if work.phase == "training" else 1
    state = _state_bytes(lowered, work, sizes)
    rates = {
        name: 1e12 * ceilings.rate(name).value for name in {item.arithmetic for item in lowered.items if item.flops}
    }
    parts: dict[tuple[str, str], Part] = {}
    for item in lowered.items:
        part = parts.setdefault((item.group, item.arithmetic), Part(item.group, item.arithmetic))
        terms = item.flops + item.decoding if work.phase == "decode" else item.flops
        flops = passes * item.layers * total(terms, last if item.block == "head" else sizes)
        kept = state.pop((item.group, item.block), 0.0)
        moved = passes * (item.shared_bytes + item.routed_bytes * touched(item, work.tokens) / item.experts) + kept
        _add(part, item, flops, moved, flops / rates[item.arithmetic] if flops else 0.0, moved / bandwidth)
        part.floor_bytes += passes * (item.shared_bytes + item.routed_bytes * item.used / item.experts) + kept
    floor = max(sum(part.compute_s for part in parts.values()), sum(p.floor_bytes for p in parts.values()) / bandwidth)
    launch = ceilings.launch()
    launched = None if launch is None else 1e-6 * launch.value * lowered.kernels
    return Step(tuple(sorted(parts.values(), key=lambda part: -part.seconds)), floor, launched)


def _add(part: Part, item: Item, flops: float, moved: float, compute_s: float, memory_s: float) -> None:
    part.operations += item.operations
    part.flops += flops
    part.bytes += moved
    part.compute_s += compute_s
    part.memory_s += memory_s
    part.seconds += max(compute_s, memory_s)
    part.items.append(item)


def _sizes(lowered: Lowered, work: Workload) -> tuple[Sizes, Sizes]:
    """The sizes of a step, and those of its logits."""
    architecture = lowered.architecture
    if work.phase != "decode":
        sizes = architecture.workload(work.sequence_length, work.batch, base=lowered.sizes)
        return sizes, sizes if work.phase == "training" or not lowered.kept else {**sizes, "s": 1}
    if not lowered.kept or any(cache.kind == "cross" for block in architecture.blocks for cache in block.caches):
        raise CannotAnswer(
            f"decoding is described for models that keep a cache of their own tokens alone, which {architecture.family} does not",
            needs=["phase prefill"],
        )
    reach = {
        name: span.pairs(work.sequence_length) - span.pairs(work.sequence_length - 1)
        for name, span in architecture.spans.items()
    }
    sizes = architecture.bound(lowered.sizes, b=work.batch, s=1, **reach)
    return sizes, sizes


def _state_bytes(lowered: Lowered, work: Workload, sizes: Sizes) -> dict[tuple[str, str], float]:
    """Bytes of caches and states that cross the memory's interface, by group and block."""
    found: dict[tuple[str, str], float] = {}
    for kept in lowered.kept if work.phase != "training" else ():
        held = work.sequence_length if kept.cap_tokens is None else min(work.sequence_length, kept.cap_tokens)
        if work.phase == "decode":
            read = min([held, max((sizes[axis] for axis in kept.reach), default=held)])
            moved = read * kept.token_bytes + 2 * kept.fixed_bytes  # a state is read and written, a cache read
        else:
            moved = held * kept.token_bytes + kept.fixed_bytes
        key = (kept.group, kept.block)
        found[key] = found.get(key, 0.0) + work.batch * moved
    return found


def touched(item: Item, tokens: float) -> float:
    """Experts that `tokens` tokens use between them, each choosing `used` of `experts` alike: E (1 - (1 - k/E)^T)."""
    if item.experts == item.used:
        return item.experts
    return item.experts * -math.expm1(tokens * math.log1p(-item.used / item.experts))


def tokens_to_ridge(part: Part, ceilings: Ceilings, sizes: Sizes) -> int | None:
    """The fewest tokens in a step at which a group of weight products leaves the memory roof; None for other groups.

    Both sides grow with the layers alike, and backward passes triple both, so the phase does not matter.
    """
    if not all(item.product for item in part.items):
        return None
    one = {**sizes, "b": 1, "s": 1}
    per_token = sum(item.layers * total(item.flops, one) for item in part.items) / (
        1e12 * ceilings.rate(part.dtype).value
    )
    bandwidth = 1e9 * ceilings.bandwidth().value

    def is_computing(tokens: int) -> bool:
        moved = sum(i.shared_bytes + i.routed_bytes * touched(i, tokens) / i.experts for i in part.items)
        return bool(tokens * per_token >= moved / bandwidth)

    return fewest(is_computing)


def fewest(holds: Callable[[int], bool], most: int = MOST_TOKENS) -> int | None:
    """The smallest count up to `most` from which on a condition holds, which once true stays true; None if none does."""
    if not holds(most):
        return None
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
