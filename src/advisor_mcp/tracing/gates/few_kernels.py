"""The trust gate `few-kernels`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import Case
from advisor_mcp.tracing.families import GATES

FEWEST = 10


@GATES.kind("few-kernels")
def few_kernels(case: Case) -> Iterator[Observation]:
    """A window with a handful of kernels shows no run: a graph's capture, a single operator, or the first moments.

    ## Formula
    kernels of the device

    ## Threshold
    10 (chosen here: a step of any model has more)

    ## Could also be
    - a benchmark of one kernel, for which the parts are right and the shares mean little

    ## Change
    Record whole steps; under CUDA graphs the replay, not the capture.

    ## Next measurement
    A window of three steps.

    ## Lowers
    - all

    ## References
    - https://docs.pytorch.org/docs/stable/profiler.html
    """
    count = sum(one.count for one in case.kernels)
    if case.device is not None and count < FEWEST:
        yield Observation(message=f"The device ran {count} kernels in this window.", measured=count, unit="kernels")
