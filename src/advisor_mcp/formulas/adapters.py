"""LoRA adapters: exact trainable parameters over the tensor inventory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from advisor_mcp.anatomy.inventory import Architecture, Tensor, count
from advisor_mcp.errors import UsageError, nearest, shown

ALL = "all-linear"
NEVER_ALL = ("lm_head", "router", "vision", "audio")  # "all-linear" leaves head, routers and towers alone


@dataclass(frozen=True, slots=True)
class Adapters:
    """`parameters` of all adapters, over `modules` matrices; `skipped` are targets whose weights are stacked experts."""

    parameters: int
    modules: int
    targets: tuple[str, ...]
    skipped: tuple[str, ...]


def lora(architecture: Architecture, rank: int, targets: Sequence[str]) -> Adapters:
    """Count the adapters A (rank x in) and B (out x rank) of every targeted matrix: rank x (in + out) each (arXiv:2106.09685).

    A target is the last part of a module's name (q_proj), or "all-linear". Raises `UsageError` for one that no matrix has.
    """
    sizes = architecture.bound()
    matrices = [(block, tensor) for block, tensor in architecture.tensors() if tensor.matrix]
    known = sorted({module(tensor) for _, tensor in matrices})
    for target in targets:
        if target != ALL and target not in known:
            raise UsageError(
                f"no matrix of this model is called {shown(target)}{nearest(target, known)} (it has {', '.join(known)}, or {ALL})"
            )
    found = modules = 0
    skipped: list[str] = []
    for block, tensor in matrices:
        if not _targeted(tensor, targets):
            continue
        if len(tensor.axes) != 2:
            skipped.append(module(tensor))
            continue
        copies = block.repeat * int(count(tensor.copies, sizes))
        found += copies * rank * sum(tensor.shape(sizes))
        modules += copies
    return Adapters(found, modules, tuple(targets), tuple(dict.fromkeys(skipped)))


def module(tensor: Tensor) -> str:
    """The last part of the module's name: q_proj of model.layers.0.self_attn.q_proj.weight."""
    parts = tensor.name.split(".")
    return parts[-2] if parts[-1] == "weight" and len(parts) > 1 else parts[-1]


def _targeted(tensor: Tensor, targets: Sequence[str]) -> bool:
    return module(tensor) in targets or (ALL in targets and tensor.role not in NEVER_ALL)
