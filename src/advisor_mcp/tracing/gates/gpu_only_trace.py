"""The trust gate `gpu-only-trace`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import Case
from advisor_mcp.tracing.families import GATES
from advisor_mcp.tracing.timeline import Host


@GATES.kind("gpu-only-trace")
def gpu_only_trace(case: Case) -> Iterator[Observation]:
    """Without the host's calls the idle time is known, but not what held the device up.

    ## Formula
    calls of the CUDA or HIP API = 0 while device events > 0

    ## Threshold
    none recorded

    ## Could also be
    - a trace that was cut down to its kernels afterwards

    ## Change
    Profile with ProfilerActivity.CPU as well.

    ## Next measurement
    The same run with both activities.

    ## Withholds
    - launch-bound
    - host-sync
    - dataloader-stall
    - stream-wait

    ## References
    - AMD-AGI/TraceLens@171dd74: TraceLens/Reporting/generate_perf_report_pytorch.py (gpu_only: only timeline and kernel summary)
    """
    if case.device is not None and not np.any(case.host.kind == Host.API):
        yield Observation(
            message=f"The trace has {len(case.events):,} GPU events and no call of the host, so idle time has no cause.",
            measured=len(case.events),
            unit="GPU events",
        )
