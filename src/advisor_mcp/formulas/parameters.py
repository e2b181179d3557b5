"""Parameter counts: folds over the tensor inventory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from advisor_mcp.anatomy.inventory import Architecture, Sizes, Tensor


@dataclass(frozen=True, slots=True)
class Parameters:
    """Exact counts. `active` = total - routed experts x (1 - experts used / experts); dense models use all."""

    total: int
    active: int
    by_component: dict[str, int]


def parameters(architecture: Architecture) -> Parameters:
    """Count the elements of every tensor, by role."""
    sizes = architecture.bound()
    found: Counter[str] = Counter()
    unused = Fraction(0)
    for block, tensor in architecture.tensors():
        elements = block.repeat * tensor.elements(sizes)
        found[tensor.role] += elements
        if tensor.role == "routed_experts":
            unused += elements * (1 - _used(architecture, tensor, sizes))
    total = sum(found.values())
    return Parameters(total, total - int(unused), dict(found.most_common()))


def _used(architecture: Architecture, tensor: Tensor, sizes: Sizes) -> Fraction:
    """The share of a routed tensor that one token uses: experts used / experts, along the axis that counts its experts."""
    for experts, used in architecture.routing.items():
        if experts in tensor.copies or experts in tensor.axes:
            return Fraction(int(sizes[used]), int(sizes[experts]))
    return Fraction(1)
