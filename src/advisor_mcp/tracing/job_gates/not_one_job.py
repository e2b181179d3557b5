"""The trust gate `not-one-job`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.families import JOB_GATES
from advisor_mcp.tracing.job import Job

SHARED = 0.1


@JOB_GATES.kind("not-one-job")
def not_one_job(job: Job) -> Iterator[Observation]:
    """Several traces are read as the ranks of one job. Ranks differ, run on one kind of GPU and run much the same kernels.

    ## Formula
    a rank that comes twice, GPUs of different names, or two traces that share less than a tenth of their kernels' names

    ## Threshold
    any (a tenth: chosen here; pipeline stages share their blocks' kernels)

    ## Could also be
    - one trace given twice, or the same rank at two times
    - a job that was put together from different machines or roles

    ## Change
    Give the traces of one job together, and compare two runs with baseline.

    ## Next measurement
    The ranks in distributedInfo of each trace.

    ## Withholds
    - straggler-rank
    - uneven-compute

    ## References
    - https://docs.pytorch.org/docs/stable/profiler.html
    """
    if len({id(case.timeline) for case in job.cases}) < 2:
        return
    told = [text for text in (_twice(job), _devices(job), _kernels(job)) if text]
    if told:
        yield Observation(
            message=f"The traces may not be ranks of one job: {'; '.join(told)}.", measured=len(told), unit="signs"
        )


def _twice(job: Job) -> str | None:
    ranks = Counter(
        case.timeline.rank
        for case in {id(one.timeline): one for one in job.cases}.values()
        if case.timeline.rank is not None
    )
    twice = sorted(rank for rank, count in ranks.items() if count > 1)
    return f"rank {twice[0]} comes {ranks[twice[0]]} times" if twice else None


def _devices(job: Job) -> str | None:
    names = sorted({case.facts.name for case in job.cases if case.facts.name})
    return f"the GPUs differ ({names[0]}, {names[1]})" if len(names) > 1 else None


def _kernels(job: Job) -> str | None:
    sets = [({one.name for one in case.kernels}, case.timeline.source) for case in job.cases if case.kernels]
    for names, source in sets[1:]:
        if len(names & sets[0][0]) < SHARED * min(len(names), len(sets[0][0])):
            return f"{sets[0][1]} and {source} hardly share a kernel"
    return None
