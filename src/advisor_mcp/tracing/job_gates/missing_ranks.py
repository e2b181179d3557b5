"""The trust gate `missing-ranks`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.families import JOB_GATES
from advisor_mcp.tracing.job import Job


@JOB_GATES.kind("missing-ranks", severity="info")
def missing_ranks(job: Job) -> Iterator[Observation]:
    """The traces of some ranks only: who the ranks wait for may be one that is not here.

    ## Formula
    ranks given < world size that the traces state

    ## Threshold
    at least two ranks given, and one missing

    ## Could also be
    - ranks of another group, which these do not wait for

    ## Change
    Record all ranks, or at least one of each node and stage.

    ## Next measurement
    The same steps of all ranks.

    ## Lowers
    - straggler-rank
    - uneven-compute

    ## References
    - https://docs.pytorch.org/docs/stable/profiler.html
    """
    world = max((case.timeline.world_size or 0 for case in job.cases), default=0)
    given = len({case.timeline.rank for case in job.cases if case.timeline.rank is not None})
    if 1 < given < world:
        yield Observation(
            message=f"{given} of the job's {world} ranks are here.", measured=world - given, unit="ranks missing"
        )
