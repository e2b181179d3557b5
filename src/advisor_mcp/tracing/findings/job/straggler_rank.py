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
LEAD_OVER_CHANCE = 1.5
FEWEST = 4


@JOB.kind("straggler-rank")
def straggler_rank(job: Job) -> Iterator[Observation]:
    """Ranks wait for each other at collectives: for one that comes last to most of them, or for changing ones.

    ## Formula
    wait of a rank = duration of its part of a collective - the shortest part of that collective; a straggler is waited for
    in at least half of all waiting and 1.5 times its share by chance (TraceLens takes waits from the starts, which needs equal clocks)

    ## Threshold
    2 % of the span waited on average by the others (nsys-ai's for communication), in at least 4 collectives

    ## Could also be
    - uneven work by design: more layers, experts or tokens on that rank
    - waiting for a rank whose trace is not here

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
    others = len(job.ranks) - 1
    span = max(case.span for case in job.ranks.values())
    lead = max(LEAD, LEAD_OVER_CHANCE / len(job.ranks))
    single = bool(total) and mine / total >= lead
    each = (mine if single else total) / (others if single else len(job.ranks))
    share = 100 * each / span
    if share < SHARE:
        return
    who = (
        f"Rank {rank} comes last to {sum(one.last == rank for one in matched)} of {len(matched)} collectives; the other ranks wait"
        if single
        else f"Ranks arrive unevenly at {len(matched)} collectives, no single one last (most often rank {rank}); a rank waits"
    )
    yield Observation(
        message=f"{who} {each / MS:,.1f} ms ({share:.1f} % of the span){' each for it' if single else ' on average'}.",
        measured=share,
        unit="percent of the span",
        where=f"rank {rank}" if single else None,
        saves_at_most_ms=each / MS,
        saves_at_most_percent=share,
        rows=tuple(f"{time / MS:,.1f} ms waited for rank {one}" for one, time in waited.most_common(5)),
    )
