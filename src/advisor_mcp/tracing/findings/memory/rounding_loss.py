"""The finding `rounding-loss`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.memory import DeviceMemory, Held, MemoryHistory
from advisor_mcp.tracing.record_families import MEMORY, amount, worst

SHARE = 0.1
SMALLEST_BLOCK = 512


@MEMORY.kind("rounding-loss", severity="info")
def rounding_loss(history: MemoryHistory) -> Iterator[Observation]:
    """Blocks in use are larger than what was asked for, by more than the allocator's ordinary rounding to 512 bytes.

    ## Formula
    (allocated - requested bytes of the blocks in use) / allocated bytes

    ## Threshold
    10 % of the allocated bytes (chosen here: PyTorch says to compare the two and names no number), and more than 512 bytes
    a block, which ordinary rounding can take (kMinBlockSize).

    ## Could also be
    - many requests between 1 and 2 MiB, whose rest is too small to be split off
    - max_split_size_mb, below which large blocks are not split

    ## Change
    Leave roundup_power2_divisions out of PYTORCH_ALLOC_CONF, or give it more divisions; raise max_split_size_mb.

    ## Next measurement
    torch.cuda.memory_stats()["allocated_bytes.all.peak"] against ["requested_bytes.all.peak"] with and without the setting.

    ## References
    - torch 2.13 torch/cuda/memory.py, memory_stats: requested_bytes
    - torch 2.13 c10/core/AllocatorConfig.h: kMinBlockSize, kSmallSize, roundup_power2_divisions
    """
    found = worst(history, _share)
    if found is None or (held := found[0].held) is None:
        return
    share = 100 * held.rounding / held.allocated
    yield Observation(
        message=f"The blocks in use are {amount(held.rounding)} ({share:.1f} %) larger than what was asked for.",
        measured=share,
        unit="percent of allocated memory",
        where=found[1],
        rows=(f"{held.blocks:,} blocks in use, {amount(held.allocated)} for {amount(held.requested)} asked for",),
    )


def _share(device: DeviceMemory) -> float | None:
    held: Held | None = device.held
    if held is None or held.rounding <= SMALLEST_BLOCK * held.blocks or held.rounding < SHARE * held.allocated:
        return None
    return held.rounding / held.allocated
