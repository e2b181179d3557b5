"""Memory of a forward pass without gradients: which activations are alive at once."""

from __future__ import annotations

from typing import Any

from advisor_mcp.anatomy.inventory import Architecture, Block, Sizes, count

WIDTHS = {"act": 2, "fp32": 4, "int": 8}
# Beside what the operations of a layer need, eager code holds three values of residual width by reference: the embeddings
# and the layer's input (in the model's loop), and the normalised input (in the caller of the MLP or attention).
HELD_RESIDUALS = 3


def live_peak(block: Block, sizes: Sizes, activation_bytes: int = 2) -> Any:
    """Bytes of the activations that are alive at once at the worst operation of one layer.

    A value lives from the operation that writes it to the last one that reads it; attention is fused (no score matrix).
    """
    last_read: dict[str, int] = {}
    for index, op in enumerate(block.ops):
        last_read.update(dict.fromkeys(op.reads, index))
    produced = {name for op in block.ops for name in op.out}
    alive = {name for name in last_read if name not in produced}
    peak = 0
    for index, op in enumerate(block.ops):
        alive.update(op.out)
        peak = max(peak, sum(_bytes(block, name, sizes, activation_bytes) for name in alive))
        alive -= {name for name in alive if last_read.get(name, len(block.ops)) <= index}
    return peak


def _bytes(block: Block, name: str, sizes: Sizes, activation_bytes: int) -> Any:
    value = block.values.get(name)
    if value is None:
        return 0
    width = activation_bytes if value.width == "act" else WIDTHS[value.width]
    return width * count(value.axes, sizes)


def inference_workspace(
    architecture: Architecture, base: Sizes, step_tokens: int, sequences: int, activation_bytes: int = 2
) -> tuple[int, int]:
    """Bytes one rank needs beside weights and state: activations of a step over `step_tokens`, and the step's logits.

    Logits are made for the last token of each sequence, in the activations' format and once more in fp32 for sampling.
    """
    sizes = architecture.workload(step_tokens, base=base)
    layers = (block for block in architecture.blocks if block.is_layer)
    activations = max((live_peak(block, sizes, activation_bytes) for block in layers), default=0)
    activations += HELD_RESIDUALS * activation_bytes * sizes["b"] * sizes["s"] * sizes.get("h", 0)
    logits = sequences * sizes.get("vocab", 0) * (activation_bytes + 4)  # a lone encoder may have none
    return int(activations), int(logits)
