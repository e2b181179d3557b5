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
    - a profiler without ProfilerActivity.CUDA, or a torch without it (torch.profiler.supported_activities())
    - a container that may not profile (CUPTI_ERROR_INSUFFICIENT_PRIVILEGES)

    ## Change
    Profile with activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA].

    ## Next measurement
    The same run with ProfilerActivity.CUDA.

    ## Lowers
    - dataloader-stall

    ## References
    - torch 2.13: torch/profiler/profiler.py (activities)
    - conda-forge/pytorch-cpu-feedstock#367
    - PaddlePaddle/Paddle#35857
    """
    if case.device is None:
        yield Observation(
            message="The trace holds no GPU events, so nothing can be said about a GPU.", measured=0, unit="GPU events"
        )
