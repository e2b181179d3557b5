"""The finding `oom-peak`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.memory import DeviceMemory, MemoryHistory, OutOfMemory
from advisor_mcp.tracing.record_families import MEMORY, amount, most_first, worst


@MEMORY.kind("oom-peak", severity="error")
def oom_peak(history: MemoryHistory) -> Iterator[Observation]:
    """The program asked for more memory than the device could give, after everything cached had been given back.

    ## Formula
    size of the refused request, against what the device still had free and what was in use (sum of allocations less
    completed frees, with what was in use before the record began)

    ## Threshold
    Any `oom` event in the record.

    ## Could also be
    - another process on the same GPU: what is reserved and what the device has free do not add up to the card
    - a limit set with set_per_process_memory_fraction
    - fragmentation, where the allocator held as much as was asked (then `allocator-fragmentation` stands beside this)
    - an error that the program catches, such as a search for the largest batch

    ## Change
    Look at what holds the peak: smaller micro batches or activation checkpointing where it is allocated in forward,
    sharded or 8-bit optimizer states where it is the optimizer, fused or chunked losses where it is the logits.

    ## Next measurement
    A snapshot of a run that just fits, with context='all', to see the peak of a whole step by place in the code.

    ## References
    - torch 2.13 torch/cuda/memory.py, _snapshot: TraceEntry oom, device_free
    - torch 2.13 c10/core/CachingDeviceAllocator.h: num_ooms
    """
    found = worst(history, lambda device: max((each.size for each in device.out_of_memory), default=None))
    if found is None:
        return
    device, where = found
    refused = max(device.out_of_memory, key=lambda each: (each.at_end, each.size))
    yield Observation(
        message=_message(device, refused),
        measured=refused.size / 2**30,
        unit="GiB asked for",
        where=where,
        rows=most_first([f"{amount(held.size)} {held.name}" for held in (device.peak.by_site if device.peak else ())]),
    )


def _message(device: DeviceMemory, refused: OutOfMemory) -> str:
    count = len(device.out_of_memory)
    reserved = f" of {amount(refused.reserved)} reserved" if refused.reserved is not None else ""
    return (
        f"{amount(refused.size)} could not be allocated at {refused.site}: {amount(refused.active)}{reserved} were in use and "
        f"the device had {amount(refused.free_on_device)} free"
        + (f" (the largest of {count} such errors)." if count > 1 else ".")
    )
