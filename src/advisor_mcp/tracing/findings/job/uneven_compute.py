"""The finding `uneven-compute`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS
from advisor_mcp.tracing.families import JOB
from advisor_mcp.tracing.job import Job

SHARE = 5.0


@JOB.kind("uneven-compute")
def uneven_compute(job: Job) -> Iterator[Observation]:
    """Ranks compute for different times, so the faster ones wait at the next collective.

    ## Formula
    (most - least compute time of a rank) / span

    ## Threshold
    5 % of the span (chosen here)

    ## Could also be
    - pipeline stages with different layers, whose difference the schedule hides in part
    - windows of different length: compare the spans

    ## Change
    Balance what the ranks hold: sequences packed by length, experts by load, layers by cost (first and last stage have fewer).

    ## Next measurement
    The same steps with equal inputs on all ranks: what remains is the machine's.

    ## References
    - facebookresearch/HolisticTraceAnalysis@f4d0062: docs/source/features/temporal_breakdown.rst
    """
    if len(job.ranks) < 2:
        return
    computed = {rank: case.split.compute for rank, case in job.ranks.items()}
    most, least = max(computed, key=lambda rank: computed[rank]), min(computed, key=lambda rank: computed[rank])
    apart = computed[most] - computed[least]
    span = max(case.span for case in job.ranks.values())
    if 100 * apart / span >= SHARE:
        yield Observation(
            message=f"Rank {most} computes {computed[most] / MS:,.1f} ms and rank {least} {computed[least] / MS:,.1f} ms, "
            f"{100 * apart / span:.1f} % of the span apart.",
            measured=100 * apart / span,
            unit="percent of the span",
            where=f"ranks {most} and {least}",
            saves_at_most_ms=apart / MS,
            saves_at_most_percent=100 * apart / span,
        )
