"""The finding `segment-churn`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.memory import Churn, DeviceMemory, MemoryHistory
from advisor_mcp.tracing.record_families import MEMORY, amount, worst

FLUSHES = 2
NO_FLUSH = (
    "Take torch.cuda.empty_cache() out of the loop: it gives back what the next step has to ask CUDA for again, and both "
    "calls wait for the device."
)


@MEMORY.kind("segment-churn")
def segment_churn(history: MemoryHistory) -> Iterator[Observation]:
    """Memory goes back to CUDA and is asked for again while the program runs. The allocator's steady state asks for nothing:
    cudaFree waits for the device, so the host can no longer run ahead.

    ## Formula
    retries: runs of segment_free or segment_unmap that the next segment_alloc, segment_map or oom follows under the same
    stack, as a request leaves them for which CUDA had no memory until cached segments were given back. Flushes: such runs under
    empty_cache().

    ## Threshold
    1 retry (num_alloc_retries, which training frameworks warn about from 1 on), or 2 flushes (chosen here: one, between
    phases, is deliberate).

    ## Could also be
    - garbage_collection_threshold, which gives back old blocks before it asks for a new one
    - two phases with different shapes, such as training and evaluation, that meet once

    ## Change
    Bring the peak down a few percent (a smaller micro batch, activation checkpointing), or keep sizes the same from step to
    step; PYTORCH_ALLOC_CONF=expandable_segments:True where sizes vary.

    ## Next measurement
    torch.cuda.memory_stats()["num_alloc_retries"] and ["num_device_free"] per step: both should stand still.

    ## References
    - torch 2.13 torch/cuda/memory.py, memory_stats: num_alloc_retries
    - https://zdevito.github.io/2022/08/04/cuda-caching-allocator.html
    """
    found = worst(history, _count)
    if found is None:
        return
    device, where = found
    churn = device.churn
    yield Observation(
        message=_message(churn),
        measured=churn.retries or churn.flushes,
        unit="retries" if churn.retries else "flushes",
        where=where,
        change=None if churn.retries else NO_FLUSH,
        rows=(
            f"{churn.segment_frees:,} segments ({amount(churn.freed)}) given back, {churn.segment_allocs:,} asked for",
        ),
    )


def _count(device: DeviceMemory) -> float | None:
    churn = device.churn
    return churn.retries + churn.flushes if churn.retries or churn.flushes >= FLUSHES else None


def _message(churn: Churn) -> str:
    if churn.retries:
        where = f", first at {churn.retry_site}" if churn.retry_site else ""
        return (
            f"{churn.retries} requests could be served only after cached memory had been given back to CUDA{where}: "
            f"{amount(churn.freed)} were given back in all."
        )
    return f"empty_cache() gave memory back {churn.flushes} times ({amount(churn.freed)} in all), called at {churn.flush_site}."
