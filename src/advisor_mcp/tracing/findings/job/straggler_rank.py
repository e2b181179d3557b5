"""The finding `straggler-rank`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS
from advisor_mcp.tracing.families import JOB
from advisor_mcp.tracing.job import Job

SHARE = 2.0
LEAD = 0.5
FEWEST = 4


@JOB.kind("straggler-rank")
def straggler_rank(job: Job) -> Iterator[Observation]:
    """One rank comes last to most collectives, and the others wait for it.

    ## Formula
    wait of a rank = duration of its part of a collective - the shortest part of that collective; a straggler has the shortest part of at
    least half of the time that is waited, over matched collectives (TraceLens takes waits from the starts, which needs equal clocks)

    ## Threshold
    2 % of the span waited on average by the others (nsys-ai's for communication), in at least 4 collectives

    ## Could also be
    - uneven work by design: more layers, experts or tokens on that rank
    - another straggler in each step: then no single rank is named

    ## Change
    Compare that rank with a fast one (advisor-mcp diagnose-trace SLOW --baseline FAST): clocks, data loading, host; balance its work.

    ## Next measurement
    advisor-mcp inspect-gpus on that rank's machine under load: clocks, throttling, PCIe.

    ## References
    - AMD-AGI/TraceLens@171dd74: TraceLens/NcclAnalyser/nccl_analyser.py (comm_latency, build_df_straggler_summary)
    """
    matched = [one for one in job.matched if len(one.durations) == len(job.ranks)]
    if len(job.ranks) < 2 or len(matched) < FEWEST:
        return
    waited = Counter[int]()
    for one in matched:
        waited[one.last] += sum(duration - one.latency for duration in one.durations.values())
    total = sum(waited.values())
    rank, mine = waited.most_common(1)[0]
    span = max(case.span for case in job.ranks.values())
    each = mine / (len(job.ranks) - 1)
    share = 100 * each / span
    if total and mine / total >= LEAD and share >= SHARE:
        others = [other for other in job.ranks if other != rank]
        yield Observation(
            message=f"Rank {rank} comes last to {sum(one.last == rank for one in matched)} of {len(matched)} collectives; "
            f"{'the other rank waits' if len(others) == 1 else f'each of the other {len(others)} ranks waits'} {each / MS:,.1f} ms "
            f"({share:.1f} % of the span) for it.",
            measured=share,
            unit="percent of the span",
            where=f"rank {rank}",
            saves_at_most_ms=each / MS,
            saves_at_most_percent=share,
            rows=tuple(f"{time / MS:,.1f} ms waited for rank {one}" for one, time in waited.most_common(5)),
        )
