"""The finding `allocator-fragmentation`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.memory import DeviceMemory, Held, MemoryHistory, OutOfMemory
from advisor_mcp.tracing.record_families import MEMORY, amount, worst

SHARE = 0.1
IN_USE_ALREADY = (
    "Expandable segments are in use already. Bring sizes together: pad sequences to a few lengths, allocate what stays "
    "before what comes and goes, and give CUDA graphs and side streams their memory early."
)


@MEMORY.kind("allocator-fragmentation")
def allocator_fragmentation(history: MemoryHistory) -> Iterator[Observation]:
    """The allocator holds enough free memory for a request, but in pieces between blocks in use: none is large enough.

    ## Formula
    free bytes of segments that are partly in use (inactive_split_bytes) / reserved bytes. At an out-of-memory error
    everything that could be given back has been, so what is reserved and not in use is in such pieces.

    ## Threshold
    An error where an out-of-memory error was for no more than what was held free (pytorch/pytorch#13751 says what is
    left at that point). A warning where the pieces together would hold the largest request of the record, none does, and
    they are 10 % of what is reserved (the 10 % is chosen here: PyTorch names no number).

    ## Could also be
    - memory of CUDA graphs' private pools, which nothing else may use
    - memory freed on one stream that another stream needs
    - a snapshot taken between phases, such as after the backward pass, when activations have just been freed

    ## Change
    PYTORCH_ALLOC_CONF=expandable_segments:True before the first CUDA call (PYTORCH_CUDA_ALLOC_CONF before torch 2.9, still
    read). Where that is not supported, max_split_size_mb as a last resort.

    ## Next measurement
    The same run with expandable segments, and torch.cuda.memory_stats()["inactive_split_bytes.all.peak"] before and after.

    ## References
    - torch 2.13 torch/cuda/memory.py, memory_stats: inactive_split_bytes
    - torch 2.13 c10/core/AllocatorConfig.h: PYTORCH_ALLOC_CONF, expandable_segments
    - pytorch/pytorch#13751
    - pytorch/pytorch docs/source/notes/cuda.rst, memory management
    """
    found = worst(history, _share)
    if found is None:
        return
    device, where = found
    refused = _refused(device)
    share = 100 * (_share(device) or 0.0)
    yield Observation(
        message=_failed(refused, share) if refused else _in_pieces(device, share),
        measured=share,
        unit="percent of reserved memory",
        where=where,
        change=IN_USE_ALREADY if history.expandable else None,
        severity="error" if refused else None,
        rows=tuple(_rows(device.held)) if device.held else (),
    )


def _share(device: DeviceMemory) -> float | None:
    """The share of reserved memory that is free in pieces, where that matters."""
    if refused := _refused(device):
        return (refused.held_free or 0) / (refused.reserved or 1)
    held = device.held
    if held is None or not held.reserved or not device.largest_request:
        return None
    matters = held.split_free >= device.largest_request > held.largest_free and held.split_free >= SHARE * held.reserved
    return held.split_free / held.reserved if matters else None


def _refused(device: DeviceMemory) -> OutOfMemory | None:
    """The request that failed although as much was held free."""
    failed = [each for each in device.out_of_memory if each.held_free is not None and each.held_free >= each.size]
    return max(failed, key=lambda each: each.held_free or 0, default=None)


def _failed(refused: OutOfMemory, share: float) -> str:
    return (
        f"{amount(refused.size)} could not be allocated at {refused.site} while the allocator held "
        f"{amount(refused.held_free or 0)} that nothing used, {share:.1f} % of what it had reserved, in pieces too small."
    )


def _in_pieces(device: DeviceMemory, share: float) -> str:
    held = device.held or Held(*[0] * 11)
    return (
        f"{amount(held.split_free)} ({share:.1f} % of reserved memory) are free only in pieces between blocks in use: the "
        f"largest free block is {amount(held.largest_free)}, and the program asks for up to {amount(device.largest_request)} "
        "at once."
    )


def _rows(held: Held) -> Iterator[str]:
    yield f"reserved {amount(held.reserved)} in {held.segments:,} segments"
    yield f"in use {amount(held.active)}, free in pieces {amount(held.split_free)}, releasable {amount(held.releasable)}"
    yield f"largest free block {amount(held.largest_free)}"
    if held.private_pools:
        yield f"reserved for private pools (CUDA graphs) {amount(held.private_pools)}"
