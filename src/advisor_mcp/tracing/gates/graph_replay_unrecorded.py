"""The trust gate `graph-replay-unrecorded`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import GATES
from advisor_mcp.tracing.timeline import UNKNOWN

SHARE = 5.0
LONGEST_PAUSE_NS = 100_000
"""Nodes of one replay follow each other within microseconds; a longer pause means that something between was not recorded."""


@GATES.kind("graph-replay-unrecorded")
def graph_replay_unrecorded(case: Case) -> Iterator[Observation]:
    """The profiler records some replays of CUDA graphs in part or not at all: a busy device then looks idle.

    ## Formula
    (idle time between two nodes of one replay, pauses of 0.1 ms and more) / span; and replays without any device event

    ## Threshold
    5 % of the span, or any replay without an event (chosen here)

    ## Could also be
    - a node that really waits, such as a collective in a graph or a host callback

    ## Change
    Profile the same step without graphs, or with Nsight Systems and --cuda-graph-trace=node (its default takes a graph as a whole).

    ## Next measurement
    The step's wall time with and without the profiler: an idle share that is real survives without it.

    ## Lowers
    - idle
    - launch-bound
    - host-sync
    - stream-wait
    - exposed-communication

    ## References
    - AMD-AGI/TraceLens#728
    - AMD-AGI/Hyperloom#1047
    - https://docs.nvidia.com/nsight-systems/UserGuide/index.html
    """
    launches = case.hosts.graph_launches
    if case.device is None or not len(launches):
        return
    silent = np.setdiff1d(launches, case.timeline.launch) if len(case.timeline.device_indices) == 1 else ()
    inside = _inside_replays(case, launches)
    if case.percent(inside) < SHARE and not len(silent):
        return
    told = [f"{len(silent)} of {len(launches)} graph replays have no GPU event"] if len(silent) else []
    if inside:
        told.append(
            f"{inside / MS:,.1f} ms idle ({case.percent(inside):.1f} % of the span) lie between nodes of one replay"
        )
    yield Observation(
        message=f"{' and '.join(told)}; the device may have been busy there.",
        measured=case.percent(inside),
        unit="percent of the span",
    )


def _inside_replays(case: Case, launches: np.ndarray) -> int:
    """Nanoseconds of the longer gaps whose next event is a later node of a replay that had already begun."""
    every = case.timeline.launch
    gaps = case.gaps
    call = every[gaps.next]
    begun = np.full(len(case.host) + 1, np.iinfo(np.int64).max)
    linked = case.launch != UNKNOWN
    np.minimum.at(begun, case.launch[linked], case.events.start[linked])
    later = np.isin(call, launches) & (begun[call] < gaps.start) & (gaps.duration >= LONGEST_PAUSE_NS)
    return int(gaps.duration[later].sum())
