"""The finding `dataloader-stall`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing import intervals
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE

SHARE = 5.0


@TIMELINE.kind("dataloader-stall")
def dataloader_stall(case: Case) -> Iterator[Observation]:
    """The next batch is not ready when the device is: it waits for data.

    ## Formula
    idle time of the device during the data loader's __next__ / span; without a device, that call's share of the steps

    ## Threshold
    5 % (torch-tb-profiler recommends workers above it, of the step time)

    ## Could also be
    - a slow disk or network file system, or decompression on few cores
    - a first batch that starts the workers
    - a synchronisation before the loader is asked: then the loading itself is not slow, only never hidden (see host-sync)

    ## Change
    DataLoader(num_workers=4 or more, persistent_workers=True, pin_memory=True, prefetch_factor=2 or more), and move work out of
    __getitem__ and the collate function.

    ## Next measurement
    The loader alone: batches per second of a loop over it that does nothing, against steps per second.

    ## References
    - https://docs.pytorch.org/docs/stable/data.html
    - pytorch/kineto@041e7ce: tb_plugin/torch_tb_profiler/profiler/data.py (dataloader_ratio)
    """
    loading = case.hosts.times(case.hosts.dataloader)
    if not len(loading[0]):
        return
    if case.device is None:
        yield from _on_the_host(case, loading)
        return
    lost = intervals.length(intervals.intersection(case.idle, loading))
    if case.percent(lost) >= SHARE:
        waits = len(intervals.clipped(loading, case.start, case.end)[0])
        yield Observation(
            message=f"The device idles {lost / MS:,.1f} ms ({case.percent(lost):.1f} % of the span) while the host waits for "
            f"the data loader, in {waits} waits.",
            measured=case.percent(lost),
            unit="percent of the span",
            saves_at_most_ms=lost / MS,
            saves_at_most_percent=case.percent(lost),
        )


def _on_the_host(case: Case, loading: intervals.Set) -> Iterator[Observation]:
    steps = case.timeline.steps
    total = sum(step.end - step.start for step in steps)
    lost = sum(intervals.length(intervals.clipped(loading, step.start, step.end)) for step in steps)
    if total and 100 * lost / total >= SHARE:
        yield Observation(
            message=f"{lost / MS:,.1f} ms of {len(steps)} steps ({100 * lost / total:.1f} %) are spent in the data loader.",
            measured=100 * lost / total,
            unit="percent of the steps",
            saves_at_most_ms=lost / MS,
            saves_at_most_percent=100 * lost / total,
        )
