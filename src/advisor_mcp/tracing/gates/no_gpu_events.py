"""The trust gate `no-gpu-events`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import Case
from advisor_mcp.tracing.families import GATES


@GATES.kind("no-gpu-events")
def no_gpu_events(case: Case) -> Iterator[Observation]:
    """A trace without device events says nothing about a device: neither that it was idle nor that it was busy.

    ## Formula
    kernels + copies + sets = 0

    ## Threshold
    none recorded

    ## Could also be
    - a run on the CPU
    - a profiler without ProfilerActivity.CUDA, or without rights to the counters

    ## Change
    Profile with activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA].

    ## Next measurement
    The same run with ProfilerActivity.CUDA.

    ## Lowers
    - dataloader-stall

    ## References
    - pytorch/pytorch: torch/profiler/profiler.py (activities)
    """
    if case.device is None:
        yield Observation(
            message="The trace holds no GPU events, so nothing can be said about a GPU.", measured=0, unit="GPU events"
        )
