"""What a sequence keeps between tokens: caches and recurrent states, folded over the third, short inventory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from advisor_mcp.anatomy.inventory import Architecture, Cache, Sizes, total
from advisor_mcp.formulas.precision import BYTES


@dataclass(frozen=True, slots=True)
class StateGroup:
    """Layers whose caches are alike. `bytes_per_token` is over all of them, up to `cap_tokens`; `fixed_bytes` likewise."""

    kind: str
    layers: int
    bytes_per_token: float
    tokens_per_entry: int
    cap_tokens: int | None
    fixed_bytes: float
    dtype: str

    def bytes_at(self, sequence_length: int) -> float:
        """Bytes of one sequence of that length."""
        kept = sequence_length if self.cap_tokens is None else min(sequence_length, self.cap_tokens)
        entries = kept // self.tokens_per_entry
        return self.fixed_bytes + entries * self.bytes_per_token * self.tokens_per_entry


def state_groups(architecture: Architecture, sizes: Sizes, kv_dtype: str = "auto") -> list[StateGroup]:
    """The groups of one sequence's state on one device with these sizes.

    "auto" keeps each cache's own dtype (the model's, where the cache names none); a named dtype applies to all.
    """
    layers: dict[Cache, int] = {}
    for cache, repeat in _caches(architecture):
        layers[cache] = layers.get(cache, 0) + repeat
    return [_group(cache, count, sizes, cache_dtype(architecture, cache, kv_dtype)) for cache, count in layers.items()]


def _caches(architecture: Architecture) -> Iterator[tuple[Cache, int]]:
    for block in architecture.blocks:
        for cache in block.caches:
            yield cache, block.repeat


def cache_dtype(architecture: Architecture, cache: Cache, kv_dtype: str) -> str:
    """The dtype a cache is kept in: the one asked for, or for "auto" its own, else the model's."""
    if kv_dtype != "auto":
        return kv_dtype
    own = cache.dtype or architecture.dtype or "bf16"
    return "bf16" if own == "fp8" else own


def _group(cache: Cache, layers: int, sizes: Sizes, dtype: str) -> StateGroup:
    width = layers * BYTES[dtype]
    per_token = width * total(cache.entry, sizes) / cache.tokens_per_entry
    return StateGroup(
        cache.kind,
        layers,
        _whole(per_token),
        cache.tokens_per_entry,
        cache.cap_tokens,
        _whole(width * total(cache.fixed, sizes)),
        dtype,
    )


def _whole(value: Any) -> Any:
    return int(value) if float(value).is_integer() else value


def state_bytes(groups: list[StateGroup], sequence_length: int) -> int:
    """Bytes of one sequence of that length over all groups."""
    return math.ceil(sum(group.bytes_at(sequence_length) for group in groups))


VLLM_BLOCK = 16


def engine_bytes(groups: list[StateGroup], sequence_length: int) -> dict[str, int]:
    """Bytes that engines allocate for one sequence of that length, on one device.

    Hugging Face keeps the last W - 1 tokens of a window; vLLM allocates blocks of 16 tokens, and one more than a window's.
    """
    return {
        "hf": math.ceil(sum(_as_hugging_face(group).bytes_at(sequence_length) for group in groups)),
        "vllm": math.ceil(sum(_in_blocks(group, sequence_length) for group in groups)),
    }


def _as_hugging_face(group: StateGroup) -> StateGroup:
    if group.kind != "sliding" or group.cap_tokens is None:
        return group
    return replace(group, cap_tokens=group.cap_tokens - 1)


def _in_blocks(group: StateGroup, sequence_length: int) -> float:
    rounded = -(-sequence_length // VLLM_BLOCK) * VLLM_BLOCK
    if group.cap_tokens is not None:
        rounded = min(rounded, (-(-group.cap_tokens // VLLM_BLOCK) + 1) * VLLM_BLOCK)
    return replace(group, cap_tokens=None).bytes_at(rounded)


def longest_sequence(groups: list[StateGroup], available: float, most: int) -> int:
    """The longest sequence, up to `most` tokens, whose state fits in `available` bytes (0 when not even one token does)."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if state_bytes(groups, middle) <= available else (low, middle - 1)
    return low
