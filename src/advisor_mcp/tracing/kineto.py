"""The PyTorch profiler's traces (Kineto), in all dialects, and other Chrome traces of GPU work, read as one stream."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from typing import Any, BinaryIO

import numpy as np

from advisor_mcp.errors import CannotAnswer
from advisor_mcp.tracing.events import (
    Args,
    Event,
    blocks,
    convert,
    correlation,
    decoder,
    nanosecond,
    nanoseconds,
    whole,
)
from advisor_mcp.tracing.jsonstream import WINDOW, Ending, EventStream
from advisor_mcp.tracing.kernels import is_communication
from advisor_mcp.tracing.timeline import (
    LONGEST_LABEL,
    UNKNOWN,
    Collective,
    Device,
    Host,
    Names,
    Span,
    Timeline,
    Work,
    column,
    device_events,
    host_events,
    printable,
)

MOST_EVENTS, MOST_KEPT = 64_000_000, 8_000_000
"""How many are looked at, and how many of those are held (40 bytes each, 64 those of a device)."""

MOST_DEVICES = 256
SHORTEST_PYTHON_NS = 50_000
"""Python functions below this are left out: they are most of a trace with stacks, and explain no gap worth a finding."""

DEVICE_WORK = {
    "kernel": Work.COMPUTE,
    "gpu_memcpy": Work.COPY,
    "memcpy": Work.COPY,
    "gpu_memset": Work.SET,
    "memset": Work.SET,
}
HOST_KINDS = {
    "cuda_runtime": Host.API,
    "cuda_driver": Host.API,
    "hip_runtime": Host.API,
    "runtime": Host.API,
    "privateuse1_runtime": Host.API,
    "cpu_op": Host.OPERATOR,
    "operator": Host.OPERATOR,
    "user_annotation": Host.RANGE,
    "python_function": Host.PYTHON,
    "overhead": Host.RANGE,
}
SHAPED = (
    "mm",
    "linear",
    "matmul",
    "conv",
    "attention",
    "gemm",
    "flash",
    "einsum",
    "add",
    "mul",
    "copy_",
    "softmax",
    "norm",
)
STEP = "ProfilerStep"
_DTYPE_BYTES = {
    "float": 4, "float32": 4, "double": 8, "float64": 8, "half": 2, "float16": 2, "bfloat16": 2, "c10::half": 2,
    "c10::bfloat16": 2, "int": 4, "int32": 4, "long": 8, "int64": 8, "byte": 1, "char": 1, "uint8": 1, "int8": 1, "bool": 1,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1,
}  # fmt: skip


_NOTHING = Args()


class _Kinds(dict[str | None, "Work | Host | None"]):
    """What an event is by its category, however that is capitalised; None for those that are not looked at."""

    def __init__(self) -> None:
        for known in (DEVICE_WORK, HOST_KINDS):
            self.update(known)
            self.update({name.capitalize(): kind for name, kind in known.items()})

    def __missing__(self, category: str | None) -> Work | Host | None:
        return self.get((category or "").lower())


class _Reading:
    """The columns of a trace while it is read."""

    def __init__(self) -> None:
        self.names, self.threads, self.shapes, self.streams = Names(), Names(), Names(), Names()
        self.kinds = _Kinds()
        self.device = {name: array("q") for name in ("start", "end", "correlation", "bytes", "blocks")}
        self.device |= {name: array("i") for name in ("device", "stream", "name", "work")}
        self.host = {name: array("q") for name in ("start", "end", "correlation")}
        self.host |= {name: array("i") for name in ("thread", "name", "kind", "shape")}
        self.collectives: list[Collective] = []
        self.steps: list[tuple[str, int]] = []  # name and host row
        self.window: tuple[int, int] | None = None
        self.memory_peaks: dict[int, tuple[int, int]] = {}
        self.communication: dict[int, bool] = {}
        self.shaped: dict[int, bool] = {}
        self.has_phases = False
        self.untimed = 0

    def take(self, events: Sequence[Event]) -> None:
        """Add a batch: sort its events by what they are, convert their times at once, append the columns."""
        on_device: list[Event] = []
        on_host: list[Event] = []
        works: list[Work] = []
        hosts: list[Host] = []
        kinds = self.kinds
        for event in events:
            if event.ph == "X":
                kind = kinds[event.cat]
                if type(kind) is Host:
                    on_host.append(event)
                    hosts.append(kind)
                elif type(kind) is Work:
                    on_device.append(event)
                    works.append(kind)
            elif event.ph == "i" or event.ph == "I":
                self._instant(event)
        self.has_phases = self.has_phases or any(event.ph is not None for event in events)
        if on_device:
            self._take_device(on_device, np.array(works, np.int32))
        if on_host:
            self._take_host(on_host, np.array(hosts, np.int32))

    def _times(self, events: list[Event]) -> tuple[Any, Any, Any]:
        """Starts and durations, and a mask of the events that have them; the others are counted."""
        start, timed = nanoseconds([event.ts for event in events])
        duration, measured = nanoseconds([event.dur or 0 for event in events])
        self.untimed += len(events) - int((timed & measured).sum())
        return start, np.maximum(duration, 0), timed & measured

    def _take_device(self, events: list[Event], work: Any) -> None:
        into, streams = self.device, self.streams.known
        start, duration, kept = self._times(events)
        events = list(compress(events, kept.tolist()))
        names = [self.names.known[event.name] for event in events]
        first = len(into["name"])
        work = work[kept]
        for row in np.flatnonzero(work == Work.COMPUTE).tolist():
            if self._communicates(names[row], events[row].name):
                work[row] = Work.COMMUNICATION
                self._collective(first + row, events[row].args or _NOTHING)
        _append(into, start=start[kept], end=(start + duration)[kept], work=work)
        into["name"].extend(names)
        for event in events:
            args = event.args or _NOTHING
            into["device"].append(whole(args.device if args.device is not None else event.pid, 0, 2**31))
            into["stream"].append(streams[str(args.stream if args.stream is not None else event.tid)])
            into["correlation"].append(correlation(args))
            into["bytes"].append(whole(args.bytes))
            into["blocks"].append(blocks(args.grid))

    def _take_host(self, events: list[Event], kind: Any) -> None:
        into, known, threads = self.host, self.names.known, self.threads.known
        start, duration, kept = self._times(events)
        kept &= (kind != Host.PYTHON) | (duration >= SHORTEST_PYTHON_NS)
        events, kind = list(compress(events, kept.tolist())), kind[kept]
        first, names = len(into["name"]), []
        add_correlation, add_shape = into["correlation"].append, into["shape"].append
        for event, is_kind in zip(events, kind.tolist(), strict=True):
            spelled, args = event.name, event.args
            name = known[spelled]
            names.append(name)
            add_correlation(correlation(args) if args and is_kind == Host.API else UNKNOWN)
            add_shape(self._shape(name, spelled, args) if args and is_kind == Host.OPERATOR else UNKNOWN)
            if spelled.startswith(STEP):
                self.steps.append((printable(spelled, LONGEST_LABEL), first + len(names) - 1))
        _append(into, start=start[kept], end=(start + duration)[kept], kind=kind)
        into["name"].extend(names)
        into["thread"].extend([threads[f"{event.pid}/{event.tid}"] for event in events])

    def _shape(self, index: int, name: str, args: Args) -> int:
        dims = bytes(args.dims)
        if not dims:
            return UNKNOWN
        shaped = self.shaped.get(index)
        if shaped is None:
            shaped = self.shaped[index] = any(word in name for word in SHAPED)
        return self.shapes((dims + b"|" + bytes(args.types)).decode("utf-8", "replace")) if shaped else UNKNOWN

    def _communicates(self, index: int, name: str) -> bool:
        known = self.communication.get(index)
        if known is None:
            known = self.communication[index] = is_communication(name)
        return known

    def _collective(self, row: int, args: Args) -> None:
        if args.collective is None:
            return
        size = _DTYPE_BYTES.get(str(args.dtype).lower(), 0)
        self.collectives.append(
            Collective(
                row,
                printable(str(args.collective), LONGEST_LABEL),
                max(whole(args.elements_in), 0) * size,
                max(whole(args.elements_out), 0) * size,
                whole(args.group_size, 0),
                printable(str(args.group or ""), LONGEST_LABEL),
                whole(args.sequence),
            )
        )

    def _instant(self, event: Event) -> None:
        if event.name == "[memory]" and event.args is not None and whole(event.args.device_type, 0) != 0:
            index = whole(event.args.device_id, 0, MOST_DEVICES)
            allocated, reserved = whole(event.args.allocated, 0), whole(event.args.reserved, 0)
            known = self.memory_peaks.get(index, (0, 0))
            self.memory_peaks[index] = (max(known[0], allocated), max(known[1], reserved))
        elif event.name.startswith("Record Window"):
            time = nanosecond(event.ts)
            if time is not None:
                self.window = (min(time, self.window[0]), max(time, self.window[1])) if self.window else (time, time)


def _append(into: dict[str, array[int]], **columns: Any) -> None:
    for name, found in columns.items():
        into[name].frombytes(found.tobytes())


def read_kineto(
    file: BinaryIO, source: str, check: Callable[[int], None] = lambda _: None, window: int = WINDOW
) -> Timeline:
    """The timeline of a trace, from its uncompressed bytes; `check` is called with the bytes read after every window.

    Raises `CannotAnswer` where there is no list of events, or none that can be a trace's.
    """
    stream = EventStream(file, decoder(), convert, window)
    reading = _Reading()
    needs = ["a trace as torch.profiler exports it"]
    try:
        for batch in stream.batches():
            reading.take(batch)
            check(stream.ending.bytes)
            kept = len(reading.host["start"]) + len(reading.device["start"])
            if kept > MOST_KEPT or stream.ending.events > MOST_EVENTS:
                stream.ending.truncated = f"only the first {stream.ending.events:,} events were read"
                break
    except ValueError as error:
        raise CannotAnswer(f"{source} holds no trace that can be read: {error}", needs) from None
    if not reading.has_phases:
        reason = stream.ending.truncated or "no event in it has a phase"
        raise CannotAnswer(f"{source} holds no trace that can be read: {reason}", needs)
    devices = len(np.unique(column(reading.device["device"])))
    if devices > MOST_DEVICES:
        raise CannotAnswer(f"{source} names {devices:,} devices, more than one process can use", needs)
    return _timeline(source, reading, stream.ending)


def _timeline(source: str, reading: _Reading, ending: Ending) -> Timeline:
    device = {name: column(held) for name, held in reading.device.items()}
    host = {name: column(held) for name, held in reading.host.items()}
    rows = np.argsort(np.lexsort((device["end"], device["start"]))) if reading.collectives else ()
    head = ending.head
    distributed = head.get("distributedInfo")
    distributed = distributed if isinstance(distributed, dict) else {}
    steps = [Span(printable(name), int(host["start"][row]), int(host["end"][row])) for name, row in reading.steps]
    return Timeline(
        source=printable(source),
        device_events=device_events(**device),
        host_events=host_events(**host),
        names=reading.names.listed(),
        shapes=list(reading.shapes.known),
        steps=tuple(sorted(_distinct(steps), key=lambda step: step.start)),
        collectives=tuple(
            Collective(
                int(rows[one.event]), one.name, one.bytes_in, one.bytes_out, one.group_size, one.group, one.sequence
            )
            for one in reading.collectives
        ),
        devices=_devices(head.get("deviceProperties")),
        rank=_named_whole(distributed, "rank"),
        world_size=_named_whole(distributed, "world_size"),
        base_ns=max(whole(head.get("baseTimeNanoseconds"), 0), 0),
        window=reading.window,
        memory_peaks=reading.memory_peaks,
        recorded=frozenset(
            name for name in ("with_stack", "profile_memory", "record_shapes", "with_flops") if head.get(name)
        ),
        events=ending.events,
        bytes=ending.bytes,
        truncated=ending.truncated,
        skipped=ending.skipped + reading.untimed,
    )


def _distinct(steps: list[Span]) -> list[Span]:
    """One span a step: older profilers record a step as an operator and as an annotation."""
    longest: dict[str, Span] = {}
    for step in steps:
        known = longest.get(step.name)
        if known is None or step.end - step.start > known.end - known.start:
            longest[step.name] = step
    return list(longest.values())


def _named_whole(of: Mapping[str, Any], name: str) -> int | None:
    found = whole(of.get(name))
    return found if found >= 0 else None


def _devices(given: Any) -> dict[int, Device]:
    found: dict[int, Device] = {}
    for one in given if isinstance(given, list) else ():
        if isinstance(one, dict) and whole(one.get("id")) >= 0:
            major, minor = whole(one.get("computeMajor")), whole(one.get("computeMinor"), 0)
            found[whole(one["id"])] = Device(
                printable(str(one.get("name") or ""), LONGEST_LABEL),
                _named_whole(one, "numSms"),
                (major, minor) if major >= 0 else None,
                _named_whole(one, "totalGlobalMem"),
            )
    return found
