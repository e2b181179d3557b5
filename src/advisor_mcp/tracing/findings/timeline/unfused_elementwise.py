"""The finding `unfused-elementwise`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE
from advisor_mcp.tracing.kernels import kernel_class
from advisor_mcp.tracing.timeline import Work

SHARE = 20.0


@TIMELINE.kind("unfused-elementwise")
def unfused_elementwise(case: Case) -> Iterator[Observation]:
    """Chains of elementwise kernels each read and write their tensors again, where one fused kernel would do it once.

    ## Formula
    sum over chains (at least two eager elementwise or copying kernels in a row on one stream) of their time / kernel time; a fused
    kernel takes at least as long as the longest of its chain, so the rest is what can be saved

    ## Threshold
    20 % of kernel time, and 1 % of the span to save (both chosen here)

    ## Could also be
    - dtype conversions under autocast, or a model that is mostly elementwise: the names below say which
    - chains that a view, a random number or a Python branch between them keeps apart

    ## Change
    torch.compile the model or the block; fused norms, rotary embeddings and activations (Liger, Transformer Engine) where it cannot be
    compiled.

    ## Next measurement
    The same step under torch.compile: the kernels are then named triton_poi_fused and triton_red_fused, and are fewer.

    ## References
    - https://docs.pytorch.org/docs/stable/generated/torch.compile.html
    """
    rows, chain = _chains(case)
    if not len(rows):
        return
    durations = case.events.duration[rows]
    share = 100 * int(durations.sum()) / max(case.kernel_time, 1)
    longest = np.zeros(int(chain.max()) + 1, np.int64)
    np.maximum.at(longest, chain, durations)
    saved = min(int(durations.sum() - longest.sum()), case.split.compute)
    if share < SHARE or not case.matters(saved):
        return
    names, counts = np.unique(case.events.name[rows], return_counts=True)
    times = {name: int(durations[case.events.name[rows] == name].sum()) for name in names}
    chosen = sorted(zip(names, counts, strict=True), key=lambda pair: -times[pair[0]])
    by_name = {one.name: one.short for one in case.kernels}
    yield Observation(
        message=f"{share:.1f} % of kernel time are {len(rows):,} elementwise kernels in {len(longest):,} chains that nothing fused.",
        measured=share,
        unit="percent of kernel time",
        saves_at_most_ms=saved / MS,
        saves_at_most_percent=case.percent(saved),
        rows=tuple(
            f"{times[name] / MS:,.1f} ms in {count} x {by_name[case.timeline.names[int(name)]]}"
            for name, count in chosen[:5]
        ),
    )


def _chains(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The rows of eager elementwise kernels that follow or precede another one on their stream, and the chain that each is in."""
    kernels = np.flatnonzero(np.isin(case.events.work, (Work.COMPUTE, Work.COMMUNICATION)))
    if not len(kernels):
        return kernels, kernels
    kernels = kernels[np.argsort(case.events.stream[kernels], kind="stable")]
    fusable = np.array([_is_fusable(name) for name in case.timeline.names], np.bool_)
    member = fusable[case.events.name[kernels]]
    same_stream = case.events.stream[kernels][1:] == case.events.stream[kernels][:-1]
    linked = member[1:] & member[:-1] & same_stream
    before, after = np.concatenate(([False], linked)), np.concatenate((linked, [False]))
    inside = before | after
    return kernels[inside], (np.cumsum(inside & ~before) - 1)[inside]


def _is_fusable(name: str) -> bool:
    return "triton" not in name and kernel_class(name) in ("elementwise", "copy")
