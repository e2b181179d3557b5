"""The roofline of one operation: its FLOPs, the fewest bytes it can move, and the least time a device needs for it.

The model (Williams, Waterman and Patterson, Communications of the ACM 2009): time >= max(FLOPs / rate, bytes / bandwidth).
Every operand crosses the memory's interface once; what caches keep on top of that is nothing. Sizes may be numpy columns
in `matmul` and `attention`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from advisor_mcp.formulas.precision import BYTES

Limit = Literal["compute", "memory", "launch"]
WIDTHS = BYTES | {"tf32": 4, "fp4": 0.5}
OUTPUT = {
    "fp8": 2,
    "int8": 4,
    "fp4": 2,
}  # bytes of a result that is not as wide as what was multiplied: bf16, int32, bf16


@dataclass(frozen=True, slots=True)
class Roof:
    """A device's two ceilings for one dtype: FLOP/s and bytes/s."""

    flops_per_s: float
    bytes_per_s: float

    @property
    def ridge(self) -> float:
        """FLOPs per byte from which on arithmetic takes longer than memory."""
        return self.flops_per_s / self.bytes_per_s


@dataclass(frozen=True, slots=True)
class Work:
    """What an operation costs whatever runs it: FLOPs, and bytes when each operand is read and each result written once."""

    flops: Any
    bytes: Any

    @property
    def intensity(self) -> Any:
        """FLOPs per byte."""
        return self.flops / self.bytes


@dataclass(frozen=True, slots=True)
class Attainable:
    """Work under a roof: the seconds each ceiling alone would take, and for a launch where that is known."""

    work: Work
    compute_s: float
    memory_s: float
    launch_s: float = 0.0

    @property
    def seconds(self) -> float:
        """The least time: the longest of the three."""
        return max(self.compute_s, self.memory_s, self.launch_s)

    @property
    def limit(self) -> Limit:
        """Which ceiling that is."""
        if self.launch_s > max(self.compute_s, self.memory_s):
            return "launch"
        return "compute" if self.compute_s >= self.memory_s else "memory"


def under(roof: Roof, work: Work, launch_s: float = 0.0) -> Attainable:
    """The work under that roof."""
    return Attainable(work, work.flops / roof.flops_per_s, work.bytes / roof.bytes_per_s, launch_s)


def matmul(m: Any, n: Any, k: Any, batch: Any = 1, dtype: str = "bf16", weight_bits: float | None = None) -> Work:
    """`batch` products of (m, k) by (k, n): 2mnk FLOPs and the three matrices once.

    The second operand may be stored in `weight_bits` bits an element (a weight-only format); the result of fp8 and fp4 is
    taken as bf16, of int8 as int32.
    """
    width = WIDTHS[dtype]
    second = width if weight_bits is None else weight_bits / 8
    moved = width * m * k + second * k * n + OUTPUT.get(dtype, width) * m * n
    return Work(2 * batch * m * n * k, batch * moved)


def rows_to_ridge(n: int, k: int, ridge: float, dtype: str = "bf16", weight_bits: float | None = None) -> int | None:
    """The fewest rows m of an (m, k) by (k, n) product at which it is compute bound; None where no m is enough.

    2mnk >= ridge (a mk + w kn + c mn) solved for m, with a, w, c the bytes of an element of the operands and the result.
    """
    width = WIDTHS[dtype]
    second = width if weight_bits is None else weight_bits / 8
    gained = 2 * n * k - ridge * (width * k + OUTPUT.get(dtype, width) * n)
    return max(math.ceil(ridge * second * k * n / gained), 1) if gained > 0 else None


def causal_pairs(queries: Any, context: Any) -> Any:
    """Query-key pairs where the last of `queries` positions sees all of `context` and each earlier one position less."""
    return queries * context - queries * (queries - 1) // 2


def attention(
    batch: Any, query_heads: Any, kv_heads: Any, head_dim: Any, query_length: Any, context_length: Any,
    value_head_dim: Any = None, causal: bool = True, materialised: bool = False, dtype: str = "bf16", kv_dtype: str | None = None,
) -> Work:  # fmt: skip
    """Scores and weighted sums: 2 FLOPs per pair, head and element of a key and of a value.

    Fused attention reads queries, keys and values and writes its output, once each; keys and values are shared by the query
    heads of a group. A causal mask lets the last query see all of the context, which counts the queries' own positions;
    fused attention passes over what it hides. Materialised attention multiplies every pair and masks afterwards
    (`_scaled_dot_product_attention_math`, pytorch@008887dc557e aten/src/ATen/native/transformers/attention.cpp), so that a
    causal mask spares nothing; it also writes and reads the scores and the probabilities of every pair, the mask being
    applied on the way.
    """
    values = head_dim if value_head_dim is None else value_head_dim
    spared = causal and not materialised
    pairs = causal_pairs(query_length, context_length) if spared else query_length * context_length
    width, kept = WIDTHS[dtype], WIDTHS[kv_dtype or dtype]
    moved = width * batch * query_heads * query_length * (head_dim + values)
    moved = moved + kept * batch * kv_heads * context_length * (head_dim + values)
    if materialised:
        moved = moved + 4 * width * batch * query_heads * query_length * context_length
    return Work(2 * batch * query_heads * pairs * (head_dim + values), moved)
