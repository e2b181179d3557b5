"""The figures of a diagnosis: per device, per cause, per class, per step and per collective."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from advisor_mcp.results import Row, gib
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.job import Job, Matched
from advisor_mcp.tracing.split import CAUSES
from advisor_mcp.tracing.timeline import UNKNOWN, Work

SHORT_KERNEL_NS = 10_000
_TWICE = ("all_reduce", "allreduce")
_ONCE = ("broadcast", "send", "recv", "reduce")


class DeviceRow(Row):
    """The four parts of one device's span, which sum to 100 percent."""

    rank: int | None = None
    device: int
    gpu: str | None = Field(default=None, description="As the trace names it")
    span_ms: float = Field(description="First start to last end of the device's events")
    compute_percent: float
    exposed_communication_percent: float
    exposed_copy_percent: float
    idle_percent: float
    communication_percent: float | None = Field(default=None, description="With what compute covers")
    overlap_percent: float | None = Field(default=None, description="Of communication time, covered by compute")


class IdleCauses(Row):
    """Idle time by cause, in percent of the span; causes without any are left out."""

    host_percent: float | None = Field(default=None, description="The host launched too late, for no other cause below")
    dataloader_percent: float | None = None
    synchronisation_percent: float | None = Field(default=None, description="A blocking call had drained the queue")
    api_calls_percent: float | None = Field(default=None, description="Allocation, module loading and other calls")
    stream_wait_percent: float | None = Field(
        default=None, description="Launched in time; waited for a stream, an event or a copy"
    )
    short_gaps_percent: float | None = Field(
        default=None, description="Below 30 µs between kernels that were launched in time"
    )
    unlinked_percent: float | None = Field(default=None, description="The next event's launch is not in the trace")


class ClassRow(Row):
    """A class of kernels."""

    kind: str
    percent_of_kernel_time: float
    count: int


class KernelRow(Row):
    """One kernel."""

    kernel: str
    kind: str
    count: int
    total_ms: float
    percent_of_kernel_time: float


class Launches(Row):
    """How kernels were launched."""

    kernels: int
    median_kernel_us: float
    short_kernels_percent: float = Field(description="Of kernels, those below 10 µs")
    median_launch_delay_us: float | None = Field(default=None, description="From the call's end to the kernel's start")
    graph_launches: int | None = None


class StepRow(Row):
    """One step and its parts."""

    step: str
    duration_ms: float
    compute_percent: float
    exposed_communication_percent: float
    exposed_copy_percent: float
    idle_percent: float


class Steps(Row):
    """The profiler's steps."""

    count: int
    median_ms: float
    shortest_ms: float
    longest_ms: float


class CollectiveRow(Row):
    """One kind of collective."""

    collective: str
    count: int
    total_ms: float
    median_bytes: int | None = None
    group_size: int | None = None
    mean_skew_ms: float | None = Field(
        default=None, description="Waiting of the first rank to arrive, over given ranks"
    )
    bus_bandwidth_gb_s: float | None = Field(
        default=None, description="Median, of the shortest time over ranks where several are given"
    )


class MemoryPeak(Row):
    """What the profiler's memory events say of a device."""

    device: int
    allocated_peak_gib: float
    reserved_peak_gib: float


def percent(value: float) -> float:
    """Two decimals: the parts of a span still sum to 100 within a hundredth."""
    return round(value, 2)


def device_row(case: Case) -> DeviceRow:
    """One device's parts."""
    split = case.split
    return DeviceRow(
        rank=case.timeline.rank,
        device=case.device or 0,
        gpu=case.facts.name or None,
        span_ms=round(case.span / MS, 3),
        compute_percent=percent(case.percent(split.compute)),
        exposed_communication_percent=percent(case.percent(split.exposed_communication)),
        exposed_copy_percent=percent(case.percent(split.exposed_copy)),
        idle_percent=percent(case.percent(split.idle)),
        communication_percent=percent(case.percent(split.communication)) if split.communication else None,
        overlap_percent=None if split.overlap is None else percent(100 * split.overlap),
    )


def idle_causes(case: Case) -> IdleCauses:
    """One device's idle time by cause."""
    found = {f"{cause}_percent": percent(case.percent(case.gaps.total(cause))) for cause in CAUSES}
    return IdleCauses(**{name: share for name, share in found.items() if share})


def class_rows(case: Case) -> list[ClassRow]:
    """Kernel time by class, the most first."""
    times: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for one in case.kernels:
        times[one.kind][0] += one.duration
        times[one.kind][1] += one.count
    rows = sorted(times.items(), key=lambda item: -item[1][0])
    return [
        ClassRow(kind=kind, percent_of_kernel_time=percent(100 * time / max(case.kernel_time, 1)), count=count)
        for kind, (time, count) in rows
    ]


def kernel_rows(case: Case, most: int) -> list[KernelRow]:
    """The kernels with the most time."""
    return [
        KernelRow(
            kernel=one.short,
            kind=one.kind,
            count=one.count,
            total_ms=round(one.duration / MS, 3),
            percent_of_kernel_time=percent(case.of_kernels([one])),
        )
        for one in case.kernels[:most]
    ]


def launches(case: Case) -> Launches | None:
    """How the device's kernels were launched; None without kernels."""
    rows = np.isin(case.events.work, (Work.COMPUTE, Work.COMMUNICATION))
    durations = case.events.duration[rows]
    if not len(durations):
        return None
    calls, starts = case.launch[rows], case.events.start[rows]
    linked = calls != UNKNOWN
    delay = np.maximum(starts[linked] - case.host.end[calls[linked]], 0)
    return Launches(
        kernels=len(durations),
        median_kernel_us=round(float(np.median(durations)) / 1e3, 3),
        short_kernels_percent=percent(100 * float(np.mean(durations < SHORT_KERNEL_NS))),
        median_launch_delay_us=round(float(np.median(delay)) / 1e3, 3) if len(delay) else None,
        graph_launches=len(case.hosts.graph_launches) or None,
    )


def step_rows(case: Case) -> list[StepRow]:
    """Every step with its parts."""
    return [
        StepRow(
            step=step.name[:40],
            duration_ms=round((step.end - step.start) / MS, 3),
            compute_percent=percent(100 * split.compute / split.span),
            exposed_communication_percent=percent(100 * split.exposed_communication / split.span),
            exposed_copy_percent=percent(100 * split.exposed_copy / split.span),
            idle_percent=percent(100 * split.idle / split.span),
        )
        for step, split in case.step_splits
    ]


def steps(case: Case) -> Steps | None:
    """The steps as the profiler recorded them on the host; None where it recorded none."""
    lengths = [(step.end - step.start) / MS for step in case.timeline.steps]
    if not lengths:
        return None
    low, high, median = min(lengths), max(lengths), float(np.median(lengths))
    return Steps(count=len(lengths), median_ms=round(median, 3), shortest_ms=round(low, 3), longest_ms=round(high, 3))


def collective_rows(job: Job) -> list[CollectiveRow]:
    """Collectives by kind and group size; over several ranks with the waiting removed."""
    if len(job.ranks) > 1 and job.matched:
        return _collectives([(one, one.latency) for one in job.matched])
    found: list[tuple[Matched, int]] = []
    for rank, case in job.ranks.items():
        for row in case.timeline.collectives:
            place = np.searchsorted(case.rows, row.event)
            if place < len(case.rows) and case.rows[place] == row.event:
                duration = int(case.events.duration[place])
                found.append((Matched(row.name, {rank: duration}, row), duration))
    return _collectives(found)


def _collectives(found: Sequence[tuple[Matched, int]]) -> list[CollectiveRow]:
    groups: dict[tuple[str, int | None], list[tuple[Matched, int]]] = defaultdict(list)
    for one, duration in found:
        recorded = one.collective
        name = recorded.name if recorded else one.name
        groups[name, recorded.group_size if recorded else None].append((one, duration))
    rows = []
    for (name, size), members in groups.items():
        sizes = [max(one.collective.bytes_in, one.collective.bytes_out) for one, _ in members if one.collective]
        known = [count for count in sizes if count]
        skews = [one.skew for one, _ in members if len(one.durations) > 1]
        rates = [
            _bus(name, size) * count / time for count, (_, time) in zip(sizes, members, strict=False) if count and time
        ]
        rows.append(
            CollectiveRow(
                collective=name[:60],
                count=len(members),
                total_ms=round(sum(time for _, time in members) / MS, 3),
                median_bytes=int(np.median(known)) if known else None,
                group_size=size,
                mean_skew_ms=round(float(np.mean(skews)) / MS, 3) if skews else None,
                bus_bandwidth_gb_s=round(float(np.median(rates)), 2) if rates and size else None,
            )
        )
    return sorted(rows, key=lambda row: -row.total_ms)


def _bus(name: str, size: int | None) -> float:
    """nccl-tests' factor from bytes over time to bus bandwidth."""
    plain = name.lower().removeprefix("_").replace("_base", "")
    if not size or size < 2 or plain in _ONCE:
        return 1.0
    return (2 if plain in _TWICE else 1) * (size - 1) / size


def memory_peaks(cases: Sequence[Case]) -> list[MemoryPeak]:
    """The peaks that the profiler's memory events hold, of every device."""
    return [
        MemoryPeak(device=device, allocated_peak_gib=gib(allocated), reserved_peak_gib=gib(reserved))
        for timeline in {id(case.timeline): case.timeline for case in cases}.values()
        for device, (allocated, reserved) in sorted(timeline.memory_peaks.items())
        if allocated
    ]
