"""Parameter counts: folds over the tensor inventory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from advisor_mcp.anatomy.inventory import Architecture

LOOKED_UP = ("token_embedding", "position_embedding", "per_layer_embedding")


@dataclass(frozen=True, slots=True)
class Parameters:
    """Exact counts. `active` = total - routed experts x (1 - experts used / experts); dense models use all.

    `embedding` are the parameters that are only looked up; a tied head makes the token embedding a matrix as well.
    """

    total: int
    active: int
    by_component: dict[str, int]
    embedding: int


def parameters(architecture: Architecture) -> Parameters:
    """Count the elements of every tensor, by role."""
    sizes = architecture.bound()
    found: Counter[str] = Counter()
    for block, tensor in architecture.tensors():
        found[tensor.role] += block.repeat * tensor.elements(sizes)
    total = sum(found.values())
    routed = found.get("routed_experts", 0)
    unused = routed - routed * sizes["topk"] // sizes["expert"] if routed else 0
    embedding = sum(found.get(role, 0) for role in LOOKED_UP)
    return Parameters(total, total - unused, dict(found.most_common()), embedding)
