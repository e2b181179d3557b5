"""Memory of serving a model, engine-neutral: what each GPU holds, and how much more it could."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.inventory import Architecture, place
from advisor_mcp.errors import UsageError
from advisor_mcp.formulas.memory import inference_workspace
from advisor_mcp.formulas.precision import WeightFormat, weight_bytes
from advisor_mcp.formulas.state import StateGroup, longest_sequence, state_bytes, state_groups

UNBOUNDED_TOKENS = 2**24  # a longest sequence is searched up to here where the model states no limit


@dataclass(frozen=True, slots=True)
class ServingMemory:
    """Bytes on one GPU (the one that holds most). `kv` and `state` are of all sequences held at once."""

    weights: int
    kv: int
    state: int
    activations: int
    logits: int
    groups: tuple[StateGroup, ...]

    @property
    def workspace(self) -> int:
        """Activations of one step and its logits."""
        return self.activations + self.logits

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv + self.state + self.workspace


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much fits beside weights and activations: sequences of the asked length, their tokens, the longest sequence."""

    max_concurrency: int
    kv_tokens: int
    max_sequence_length: int


USUAL_RANKS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64)


def check_tensor_parallel(architecture: Architecture, ranks: int) -> None:
    """Raise `UsageError` where the ranks do not divide what tensor parallelism divides, naming the sizes that do."""
    if not divides(architecture, ranks):
        usable = [str(n) for n in USUAL_RANKS if divides(architecture, n)]
        raise UsageError(
            f"tensor_parallel {ranks} does not divide this model's heads and widths ({_split_sizes(architecture)}); "
            f"usable are {', '.join(usable)}"
        )


def _split_sizes(architecture: Architecture) -> str:
    named = {
        "qh": "attention heads",
        "kvh": "KV heads",
        "ffn": "MLP width",
        "moe_ffn": "expert width",
        "inner": "inner width",
    }
    return ", ".join(
        f"{architecture.sizes[axis]:,} {name}" for axis, name in named.items() if axis in architecture.sizes
    )


def largest_tensor_parallel(architecture: Architecture, gpus: int) -> int:
    """The most of `gpus` GPUs that one replica can be split over, so that whole replicas use them all."""
    return max(n for n in range(1, min(gpus, 1024) + 1) if gpus % n == 0 and divides(architecture, n))


def divides(architecture: Architecture, ranks: int) -> bool:
    """Whether tensor parallelism over that many ranks divides the model's heads and widths."""
    for axis, split in architecture.splits.items():
        size = architecture.sizes[axis]
        # vocabularies are padded by every engine; KV heads fewer than ranks are replicated
        if (split == "kv" and size % ranks and ranks % size) or (
            split == "tensor" and axis != "vocab" and size % ranks
        ):
            return False
    return True


def serving_memory(
    architecture: Architecture,
    fmt: WeightFormat,
    kv_dtype: str,
    sequence_length: int,
    concurrency: int,
    tensor_parallel: int,
    step_tokens: int,
) -> ServingMemory:
    """Memory per GPU for `concurrency` sequences of `sequence_length` tokens, each layer split over `tensor_parallel` GPUs.

    `step_tokens` is the most that one forward pass processes (a chunk of prompts). Weights and caches are exact counts;
    the workspace is the peak of live activations of one layer, attention fused, and the logits of each sequence's last token.
    """
    check_tensor_parallel(architecture, tensor_parallel)
    base = place(architecture, tensor=tensor_parallel)
    sizes = architecture.bound(base)
    groups = tuple(state_groups(architecture, sizes, kv_dtype))
    fixed = int(sum(group.fixed_bytes for group in groups))
    step = min(step_tokens, sequence_length * concurrency)
    activations, logits = inference_workspace(
        architecture, base, step, concurrency, 4 if fmt.kept_dtype == "fp32" else 2
    )
    cached = state_bytes(list(groups), sequence_length) - fixed
    return ServingMemory(
        int(weight_bytes(architecture, sizes, fmt)),
        cached * concurrency,
        fixed * concurrency,
        activations,
        logits,
        groups,
    )


def capacity(
    memory: ServingMemory, architecture: Architecture, budget: float, sequence_length: int, concurrency: int
) -> Capacity:
    """What `budget` bytes of each GPU of one replica hold beside the weights and the activations of a step.

    The longest sequence is for `concurrency` of them, and not beyond the model's own limit.
    """
    left = budget - memory.weights - memory.activations
    groups = list(memory.groups)
    logits = memory.logits / concurrency
    each = state_bytes(groups, sequence_length) + logits
    most = max(int(left // each), 0) if each else 0
    limit = architecture.max_sequence_length or UNBOUNDED_TOKENS
    longest = longest_sequence(groups, left / concurrency - logits, limit) if left > 0 else 0
    # part of a sequence counts as its share of tokens
    tokens = max(int(left / each * sequence_length), 0) if each else 0
    return Capacity(most, tokens, longest)
