"""What an operator computes and moves at least, from the shapes and types that the profiler recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

Shape: TypeAlias = list[int]

BYTES = {
    "float": 4, "double": 8, "half": 2, "bfloat16": 2, "int": 4, "long": 8, "long int": 8, "short": 2, "char": 1, "signed char": 1,
    "unsigned char": 1, "byte": 1, "bool": 1, "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1,
}  # fmt: skip
DTYPES = {
    "float": "fp32",
    "double": "fp64",
    "half": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8",
    "float8_e4m3fnuz": "fp8",
}
ALIGNED_BYTES = 16
"""Operands of tensor cores are loaded 16 bytes at a time (NVIDIA, matrix multiplication guide): 8 elements of fp16, 16 of fp8."""


@dataclass(frozen=True)
class Cost:
    """The least an operator does: floating-point operations, bytes with every operand moved once, and the dtype it computes in.

    `product` are m, n, k and the number of products, where it is a matrix product.
    """

    flops: int
    bytes: int
    dtype: str | None
    product: tuple[int, int, int, int] | None = None

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flops / self.bytes if self.bytes else 0.0

    @property
    def aligned(self) -> bool:
        """Whether the rows of a product of 2- or 1-byte types are whole multiples of 16 bytes: n and k are the lengths of rows that
        are loaded and stored, m only counts them."""
        size = {"fp16": 2, "bf16": 2, "fp8": 1}.get(self.dtype or "")
        return (
            self.product is None or size is None or all(side * size % ALIGNED_BYTES == 0 for side in self.product[1:3])
        )


def cost(operator: str, recorded: str) -> Cost | None:
    """The cost of an operator from its recorded shapes and types; None where they are missing or the operator is not known."""
    dims, types = _parsed(recorded)
    if dims is None:
        return None
    name = operator.removeprefix("aten::").rstrip("_")
    size = [BYTES.get(kind, 0) for kind in types]
    dtype = next((DTYPES[kind] for kind in types if kind in DTYPES), None)
    if name in _PRODUCTS:
        return _product(_PRODUCTS[name](dims), size, dtype)
    if "scaled_dot_product" in name or name == "_flash_attention_forward":
        return _attention(dims, size, dtype, heads_first=name != "_flash_attention_forward")
    if name in _ELEMENTWISE:
        return _elementwise(dims, size, dtype)
    return None


def _parsed(recorded: str) -> tuple[list[Shape] | None, list[str]]:
    """Shapes and types out of `dims|types`; tensors only, the scalars among the inputs are empty shapes."""
    dims_text, _, types_text = recorded.partition("|")
    try:
        dims, types = json.loads(dims_text or "null"), json.loads(types_text or "[]")
    except ValueError:
        return None, []
    if not isinstance(dims, list) or not isinstance(types, list):
        return None, []
    found = [
        (one, str(kind).removeprefix("c10::").lower())
        for one, kind in zip(dims, [*types, *[""] * len(dims)], strict=False)
        if isinstance(one, list) and one and all(type(side) is int and side > 0 for side in one)
    ]
    return ([one for one, _ in found], [kind for _, kind in found]) if found else (None, [])


def _last_two(dims: Sequence[Shape]) -> tuple[Shape, Shape] | None:
    return (dims[-2], dims[-1]) if len(dims) >= 2 else None


def _first_two(dims: Sequence[Shape]) -> tuple[Shape, Shape] | None:
    return (dims[0], dims[1]) if len(dims) >= 2 else None


def _transposed(dims: Sequence[Shape]) -> tuple[Shape, Shape] | None:
    """`linear` multiplies by its weight's transpose."""
    return (dims[0], dims[1][::-1]) if len(dims) >= 2 and len(dims[1]) == 2 else None


_PRODUCTS = {
    "mm": _first_two, "bmm": _first_two, "matmul": _first_two, "_scaled_mm": _first_two, "linear": _transposed, "addmm": _last_two,
    "baddbmm": _last_two, "_addmm_activation": _last_two,
}  # fmt: skip
_ELEMENTWISE = frozenset(
    {
        "add", "sub", "mul", "div", "neg", "exp", "pow", "sqrt", "rsqrt", "sigmoid", "silu", "gelu", "relu", "tanh", "clamp",
        "where", "copy", "to", "_to_copy", "clone", "fill",
    }
)  # fmt: skip


def _product(pair: tuple[Shape, Shape] | None, size: list[int], dtype: str | None) -> Cost | None:
    if pair is None or len(pair[0]) < 2 or len(pair[1]) < 2 or pair[0][-1] != pair[1][-2] or not size or not size[-1]:
        return None
    left, right = pair
    count = max(prod(left[:-2]), prod(right[:-2])) if len(right) > 2 else 1
    m = left[-2] if len(right) > 2 else prod(left[:-1])
    k, n = left[-1], right[-1]
    moved = (prod(left) + prod(right)) * size[-1] + count * m * n * (2 if size[-1] == 1 else size[-1])
    return Cost(2 * m * n * k * count, moved, dtype, (m, n, k, count))


def _attention(dims: list[Shape], size: list[int], dtype: str | None, heads_first: bool) -> Cost | None:
    """Both products of attention without a causal mask, each of query, key, value and output moved once."""
    if len(dims) < 3 or any(len(one) != 4 for one in dims[:3]) or not size[0]:
        return None
    batch, first, second, width = dims[0]
    heads, length = (first, second) if heads_first else (second, first)
    context = dims[1][2 if heads_first else 1]
    moved = (2 * prod(dims[0]) + prod(dims[1]) + prod(dims[2])) * size[0]
    return Cost(2 * batch * heads * length * context * (width + dims[2][3]), moved, dtype)


def _elementwise(dims: list[Shape], size: list[int], dtype: str | None) -> Cost | None:
    if not all(size):
        return None
    largest = max(range(len(dims)), key=lambda place: prod(dims[place]))
    moved = sum(prod(one) * width for one, width in zip(dims, size, strict=True)) + prod(dims[largest]) * size[largest]
    return Cost(prod(dims[largest]), moved, dtype)
