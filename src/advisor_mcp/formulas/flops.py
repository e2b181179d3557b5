"""FLOPs: folds over the operation inventory, and the conventions by which people state them.

Counted are matrix products, attention scores and weighted sums: 2 FLOPs per multiply-add. Norms, activations, softmax,
rotary embeddings and lookups are not, as in torch.utils.flop_counter.
"""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.inventory import Architecture, Axes, Block, Sizes, Terms, total
from advisor_mcp.errors import UsageError
from advisor_mcp.formulas.parameters import parameters

BACKWARD = 2  # a product's backward pass is two products of the same size: one per operand


@dataclass(frozen=True, slots=True)
class ForwardFlops:
    """Forward FLOPs of one sequence: all, those of attention scores and sums, and those inside the layers."""

    total: float
    attention: float
    layers: float


def forward(architecture: Architecture, sizes: Sizes) -> ForwardFlops:
    """Sum the operations of a forward pass over the sequences that `sizes` describes; towers are left out."""
    everything = attention = layers = 0
    for block in architecture.blocks:
        if block.tower is not None:
            continue
        for op in block.ops:
            cost = block.repeat * total(op.flops, sizes)
            everything += cost
            attention += cost if op.kind == "attention" else 0
            layers += cost if block.is_layer else 0
    return ForwardFlops(everything, attention, layers)


def absorbed(architecture: Architecture, sizes: Sizes) -> float | None:
    """Forward FLOPs where latent attention works on the latent itself, as engines decode; None without such layers.

    Folding the up-projection into queries and outputs costs what the up-projection costs; scores and sums then run over
    the latent: 2 x pairs x heads x (2 x kv_rank + rope_dim) in place of 2 x pairs x heads x (qk_dim + v_dim).
    """
    if "kv_rank" not in sizes:
        return None
    found = [(block.repeat, terms) for block in architecture.blocks if (terms := latent_surplus(block, sizes))]
    if not found:
        return None
    return float(forward(architecture, sizes).total + sum(repeat * total(terms, sizes) for repeat, terms in found))


def latent_surplus(block: Block, sizes: Sizes) -> Terms:
    """What one layer's latent attention costs more on the latent itself than on keys and values made from it.

    Empty for a block without a latent cache.
    """
    if not any(cache.kind == "latent" for cache in block.caches):
        return ()
    wider = 2 * sizes["kv_rank"] + sizes["rope_dim"] - sizes["nope_dim"] - sizes["rope_dim"] - sizes["v_dim"]
    attentions = [op for op in block.ops if op.kind == "attention"]
    return tuple((2 * wider, ("b", axis, "qh")) for op in attentions for axis in _pairs(op.flops[0][1]))


def _pairs(axes: Axes) -> list[str]:
    return [axis for axis in axes if isinstance(axis, str) and axis.startswith("pairs")]


@dataclass(frozen=True, slots=True)
class Convention:
    """FLOPs per trained token (forward and backward) by one convention, and what full or selective recomputation adds.

    `recomputed` are the forward FLOPs that full recomputation runs again, `selective` those of the attention core.
    """

    id: str
    flops_per_token: float
    recomputed: float
    selective: float
    used_by: str


def conventions(architecture: Architecture, sequence_length: int) -> list[Convention]:
    """The five conventions in use, for a sequence of that length.

    `matmul_causal` and `matmul_full` come from the operation inventory, with and without the causal mask; the others are
    the closed formulas 6N + 12LHQT (arXiv:2204.02311, appendix B) and 6N with total or active parameters.
    """
    counted = parameters(architecture)
    found = []
    for causal, used_by in (
        (True, "Megatron-LM, up to small terms: attention halved by the causal mask"),
        (False, "torchtitan and DeepSpeed, up to small terms: attention counted as if not causal"),
    ):
        run = forward(architecture, architecture.workload(sequence_length, causal=causal))
        per_token = (1 + BACKWARD) * run.total / sequence_length
        name = "matmul_causal" if causal else "matmul_full"
        found.append(
            Convention(name, per_token, run.layers / sequence_length, run.attention / sequence_length, used_by)
        )
    attention = _palm_attention(architecture, sequence_length)
    palm = 6 * counted.active + attention
    found.append(
        Convention(
            "palm", palm, palm / 3, attention / 3, "PaLM, llm-foundry, nanoGPT: 6N + 12LHQT, N active parameters"
        )
    )
    for name, n, used_by in (
        ("six_n_total", counted.total, "the rule of thumb 6N; misleading for mixtures of experts"),
        ("six_n_active", counted.active, "the rule of thumb 6N on active parameters; no attention term"),
    ):
        found.append(Convention(name, 6 * n, 2 * n, 0, used_by))
    return found


def _palm_attention(architecture: Architecture, sequence_length: int) -> float:
    """12 L H Q T: every layer's heads times head size times the whole sequence, windows ignored as the formula has it."""
    sizes = architecture.workload(sequence_length, causal=False)
    found = 0.0
    for block in architecture.blocks:
        for op in block.ops:
            if op.kind == "attention" and block.tower is None:
                per_pair = total(
                    tuple((c, tuple(a for a in axes if not str(a).startswith("pairs"))) for c, axes in op.flops), sizes
                )
                found += block.repeat * per_pair * sequence_length
    return 3 * found


def hardware_share(architecture: Architecture, convention: Convention, recompute: str | int) -> float:
    """HFU / MFU of a convention: 1 + recomputed forward FLOPs / FLOPs per token.

    `recompute` is none, selective, full or a number of blocks; raises `UsageError` for more blocks than layers.
    """
    if recompute == "none":
        return 1.0
    if recompute == "selective":
        return 1 + convention.selective / convention.flops_per_token
    share = 1.0 if recompute == "full" else int(recompute) / architecture.layers
    if share > 1:
        raise UsageError(
            f"recompute {recompute} names more blocks than the model's {architecture.layers} layers; give at most that many"
        )
    return 1 + share * convention.recomputed / convention.flops_per_token
