"""The finding `small-collectives`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing import intervals
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE

SMALL_BYTES = 1 << 20
FEWEST = 20
SHARE = 2.0


@TIMELINE.kind("small-collectives")
def small_collectives(case: Case) -> Iterator[Observation]:
    """Many collectives of little data cost their latency each: one larger one costs it once.

    ## Formula
    exposed time of collectives that carry less than 1 MiB / span, where there are at least 20 of them

    ## Threshold
    2 % of the span (as for exposed communication); 1 MiB (chosen here: latency rules below it. Two 2080 Ti take 13 microseconds for
    32 KiB, 47 for 1 MiB and 3,299 for 128 MiB: nccl-tests#44)

    ## Could also be
    - expert or tensor parallelism at a small batch, where the messages cannot be joined
    - waiting for another rank, which makes any collective long

    ## Change
    Join them: larger buckets (DDP bucket_cap_mb in MiB; DeepSpeed reduce_bucket_size and Megatron --ddp-bucket-size in elements), one
    flat tensor in place of many, fewer FSDP units, metrics reduced together.

    ## Next measurement
    nccl-tests at the sizes listed, on the same ranks.

    ## References
    - NVIDIA/nccl-tests@a0b82b2: doc/PERFORMANCE.md
    - NVIDIA/nccl-tests#44
    - https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
    """
    small = [one for one in case.timeline.collectives if 0 < max(one.bytes_in, one.bytes_out) < SMALL_BYTES]
    mine = np.isin([one.event for one in small], case.rows)
    small = [one for one, is_mine in zip(small, mine, strict=True) if is_mine]
    if len(small) < FEWEST:
        return
    places = np.searchsorted(case.rows, [one.event for one in small])
    exposed = intervals.intersection(case.times(places), case.busy.exposed_communication)
    lost = intervals.length(exposed)
    if case.percent(lost) >= SHARE:
        sizes = np.array([max(one.bytes_in, one.bytes_out) for one in small])
        yield Observation(
            message=f"{len(small):,} collectives of less than 1 MiB (median {int(np.median(sizes)):,} bytes) are exposed for "
            f"{lost / MS:,.1f} ms ({case.percent(lost):.1f} % of the span).",
            measured=case.percent(lost),
            unit="percent of the span",
            saves_at_most_ms=lost / MS,
            saves_at_most_percent=case.percent(lost),
        )
