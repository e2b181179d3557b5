"""The trust gate `uneven-steps`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import GATES

FACTOR = 1.5
FEWEST = 3


@GATES.kind("uneven-steps", severity="info")
def uneven_steps(case: Case) -> Iterator[Observation]:
    """Shares of the whole span are no step's shares where one step is far longer than the others.

    ## Formula
    longest step / median step, of at least three

    ## Threshold
    1.5 (chosen here)

    ## Could also be
    - an evaluation, a checkpoint or a recompilation in that step

    ## Change
    Compare the steps one by one (detail="full" lists them) and leave the odd one out.

    ## Next measurement
    More steps, after a longer warm-up.

    ## Lowers
    - launch-bound
    - dataloader-stall

    ## References
    - torch 2.13: torch/profiler/profiler.py (schedule)
    """
    steps = case.timeline.steps
    lengths = np.array([step.end - step.start for step in steps])
    if len(lengths) < FEWEST:
        return
    median = float(np.median(lengths))
    if median and lengths.max() / median >= FACTOR:
        worst = steps[int(np.argmax(lengths))]
        yield Observation(
            message=f"{worst.name} took {lengths.max() / MS:,.1f} ms, {lengths.max() / median:.1f} times the median of "
            f"{median / MS:,.1f} ms over {len(lengths)} steps.",
            measured=float(lengths.max() / median),
            unit="times the median step",
        )
