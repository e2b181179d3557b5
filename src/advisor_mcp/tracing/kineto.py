"""The PyTorch profiler's traces (Kineto), in all dialects, and other Chrome traces of GPU work, read as one stream."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from math import prod
from typing import Any, BinaryIO

import msgspec
import numpy as np

from advisor_mcp.errors import CannotAnswer
from advisor_mcp.tracing.jsonstream import Ending, EventStream
from advisor_mcp.tracing.kernels import is_communication
from advisor_mcp.tracing.timeline import (
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

MOST_EVENTS = 16_000_000
SHORTEST_PYTHON_US = 50.0
"""Python functions below this are left out: they are most of a trace with stacks, and explain no gap worth a finding."""

EXACT_BELOW = 2.0**42
"""Microseconds up to which a double resolves half a nanosecond; beyond, times are decoded as decimals."""

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


class Args(msgspec.Struct, gc=False):
    """The arguments that are read; every other one is skipped undecoded."""

    correlation: Any = None
    device: Any = None
    stream: Any = None
    bytes: Any = None
    grid: Any = None
    external: Any = msgspec.field(default=None, name="External id")
    dims: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Input Dims")
    types: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Input type")
    collective: Any = msgspec.field(default=None, name="Collective name")
    elements_in: Any = msgspec.field(default=None, name="In msg nelems")
    elements_out: Any = msgspec.field(default=None, name="Out msg nelems")
    group_size: Any = msgspec.field(default=None, name="Group size")
    dtype: Any = None
    group: Any = msgspec.field(default=None, name="Process Group Name")
    sequence: Any = msgspec.field(default=None, name="Seq")
    allocated: Any = msgspec.field(default=None, name="Total Allocated")
    reserved: Any = msgspec.field(default=None, name="Total Reserved")
    device_id: Any = msgspec.field(default=None, name="Device Id")
    device_type: Any = msgspec.field(default=None, name="Device Type")


class Event(msgspec.Struct, gc=False):
    """One event of a Chrome trace; `ts` and `dur` in microseconds."""

    ph: Any = None
    cat: Any = None
    name: Any = None
    ts: Any = None
    dur: Any = None
    pid: Any = None
    tid: Any = None
    args: Args | None = None


class _ExactEvent(Event, gc=False):
    """The same, with times that lose nothing."""

    ts: Decimal | None = None
    dur: Decimal | None = None


def _convert(value: Mapping[str, Any]) -> Event | None:
    """An event from a decoded object, whatever the types of its fields; None for one without a time."""
    args = value.get("args")
    known: dict[str, Any] = {}
    if isinstance(args, Mapping):
        for name, wanted in zip(Args.__struct_fields__, Args.__struct_encode_fields__, strict=True):
            if wanted in args:
                held = args[wanted]
                known[name] = msgspec.Raw(json.dumps(held).encode()) if name in ("dims", "types") else held
    fields = {name: value.get(name) for name in ("ph", "cat", "name", "ts", "dur", "pid", "tid")}
    return Event(**fields, args=Args(**known) if known else None)


class _Reading:
    """The columns of a trace while it is read."""

    def __init__(self) -> None:
        self.names, self.threads, self.shapes = Names(), Names(), Names()
        self.device = {name: array("q") for name in ("start", "end", "correlation", "bytes", "blocks")}
        self.device |= {name: array("i") for name in ("device", "stream", "name", "work")}
        self.host = {name: array("q") for name in ("start", "end", "correlation")}
        self.host |= {name: array("i") for name in ("thread", "name", "kind", "shape")}
        self.collectives: list[Collective] = []
        self.steps: list[tuple[str, int]] = []  # name and host row
        self.window: list[int] = []
        self.memory_peaks: dict[int, tuple[int, int]] = {}
        self.streams = Names()
        self.communication: dict[int, bool] = {}
        self.events = 0

    def take(self, events: Sequence[Event]) -> None:
        """Add a batch: sort its events by what they are, convert their times at once, append the columns."""
        on_device: list[tuple[Event, Work]] = []
        on_host: list[tuple[Event, Host]] = []
        for event in events:
            category = event.cat
            if event.ph != "X":
                self.events += event.ph is not None
                if event.ph == "i" or event.ph == "I":
                    self._instant(event)
                continue
            self.events += 1
            if type(category) is not str or event.ts is None:
                continue
            kind = HOST_KINDS.get(category)
            if kind is None:
                category = category.lower()
                work = DEVICE_WORK.get(category)
                if work is not None:
                    on_device.append((event, work))
                    continue
                kind = HOST_KINDS.get(category)
                if kind is None:
                    continue
            if kind is Host.PYTHON and (not event.dur or event.dur < SHORTEST_PYTHON_US):
                continue
            on_host.append((event, kind))
        if on_device:
            self._take_device(on_device)
        if on_host:
            self._take_host(on_host)

    def _take_device(self, found: list[tuple[Event, Work]]) -> None:
        into, names = self.device, self.names
        first = len(into["start"])
        _append_times(into["start"], into["end"], [event for event, _ in found])
        for row, (event, work) in enumerate(found, first):
            args = event.args or Args()
            name = names(str(event.name))
            if work is Work.COMPUTE and self._communicates(name, event.name):
                work = Work.COMMUNICATION
                self._collective(row, args)
            into["work"].append(work)
            into["name"].append(name)
            into["device"].append(_whole(args.device if args.device is not None else event.pid, 0, 2**31))
            into["stream"].append(self.streams(str(args.stream if args.stream is not None else event.tid)))
            into["correlation"].append(_correlation(args))
            into["bytes"].append(_whole(args.bytes))
            into["blocks"].append(_product(args.grid))

    def _take_host(self, found: list[tuple[Event, Host]]) -> None:
        into, names, threads = self.host, self.names, self.threads
        first = len(into["start"])
        _append_times(into["start"], into["end"], [event for event, _ in found])
        add_name, add_thread, add_kind = into["name"].append, into["thread"].append, into["kind"].append
        add_correlation, add_shape = into["correlation"].append, into["shape"].append
        for row, (event, kind) in enumerate(found, first):
            name, args = str(event.name), event.args
            add_name(names(name))
            add_thread(threads(f"{event.pid}/{event.tid}"))
            add_kind(kind)
            add_correlation(_correlation(args) if kind is Host.API and args else UNKNOWN)
            add_shape(self._shape(name, args) if kind is Host.OPERATOR and args else UNKNOWN)
            if name.startswith(STEP):
                self.steps.append((name, row))

    def _shape(self, name: str, args: Args) -> int:
        dims = bytes(args.dims)
        if not dims or not any(word in name for word in SHAPED):
            return UNKNOWN
        return self.shapes((dims + b"|" + bytes(args.types)).decode("utf-8", "replace"))

    def _communicates(self, index: int, name: Any) -> bool:
        known = self.communication.get(index)
        if known is None:
            known = self.communication[index] = is_communication(str(name))
        return known

    def _collective(self, row: int, args: Args) -> None:
        if args.collective is None:
            return
        size = _DTYPE_BYTES.get(str(args.dtype).lower(), 0)
        self.collectives.append(
            Collective(
                row,
                printable(str(args.collective))[:64],
                max(_whole(args.elements_in), 0) * size,
                max(_whole(args.elements_out), 0) * size,
                _whole(args.group_size, 0),
                str(args.group or "")[:64],
                _whole(args.sequence),
            )
        )

    def _instant(self, event: Event) -> None:
        if event.name == "[memory]" and event.args is not None and _whole(event.args.device_type, 0) != 0:
            index = _whole(event.args.device_id, 0)
            allocated, reserved = _whole(event.args.allocated, 0), _whole(event.args.reserved, 0)
            known = self.memory_peaks.get(index, (0, 0))
            self.memory_peaks[index] = (max(known[0], allocated), max(known[1], reserved))
        elif isinstance(event.name, str) and event.name.startswith("Record Window") and event.ts is not None:
            self.window.append(_nanoseconds([event.ts])[0])


def _correlation(args: Args) -> int:
    """What links a launch with its device event; roctracer wrote it under the other name."""
    return _whole(args.correlation if args.correlation is not None else args.external)


def _append_times(starts: array[int], ends: array[int], events: list[Event]) -> None:
    start = _nanoseconds([event.ts for event in events])
    duration = _nanoseconds([event.dur or 0 for event in events])
    starts.frombytes(start.tobytes())
    ends.frombytes((start + np.maximum(duration, 0)).tobytes())


def _nanoseconds(microseconds: list[Any]) -> Any:
    """Times in microseconds (whole, floating or decimal) as int64 nanoseconds, rounded to the nearest."""
    try:
        given = np.array(microseconds)
        if given.dtype.kind in "iu":
            return given.astype(np.int64) * 1000
        if given.dtype.kind == "f" and not np.isnan(given).any() and np.abs(given).max(initial=0) < 9e15:
            whole = np.floor(given)
            return whole.astype(np.int64) * 1000 + np.rint((given - whole) * 1000).astype(np.int64)
    except (ValueError, OverflowError):
        pass
    return np.array([_one(value) for value in microseconds], np.int64)


def _one(value: Any) -> int:
    try:
        found = int((Decimal(str(value)) * 1000).to_integral_value())
    except (ArithmeticError, ValueError):
        return 0
    return found if abs(found) < 2**62 else 0


def _whole(value: Any, default: int = UNKNOWN, limit: int = 2**62) -> int:
    if type(value) is int:
        return value if -limit < value < limit else default
    try:
        found = int(value)
    except (TypeError, ValueError, OverflowError):
        return default
    return found if -limit < found < limit else default


def _product(grid: Any) -> int:
    if not isinstance(grid, list) or not grid or not all(type(part) is int and 0 < part < 2**32 for part in grid):
        return UNKNOWN
    return min(prod(grid), 2**62)


def read_kineto(file: BinaryIO, source: str, check: Callable[[int], None] = lambda _: None) -> Timeline:
    """The timeline of a trace, from its uncompressed bytes; `check` is called with the bytes read after every batch.

    Raises `CannotAnswer` where there is no list of events.
    """
    quick, exact = msgspec.json.Decoder(list[Event]), msgspec.json.Decoder(list[_ExactEvent])
    coarse = False

    def decode(raw: bytes) -> list[Event]:
        nonlocal coarse
        if not coarse:
            events = quick.decode(raw)
            coarse = any(type(event.ts) is float and abs(event.ts) >= EXACT_BELOW for event in events)
            if not coarse:
                return events
        try:
            return list[Event](exact.decode(raw))
        except msgspec.ValidationError:
            return quick.decode(raw)

    stream = EventStream(file, decode, _convert)
    reading = _Reading()
    try:
        for batch in stream.batches():
            reading.take(batch)
            check(stream.ending.bytes)
            if len(reading.host["start"]) + len(reading.device["start"]) > MOST_EVENTS:
                stream.ending.truncated = f"only the first {stream.ending.events:,} events were read"
                break
    except ValueError as error:
        raise CannotAnswer(
            f"{source} holds no trace that can be read: {error}", needs=["a trace as torch.profiler exports it"]
        ) from None
    if not reading.events:
        raise CannotAnswer(
            f"{source} holds no trace that can be read: no event in it has a phase",
            needs=["a trace as torch.profiler exports it"],
        )
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
        shapes=reading.shapes.listed(),
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
        base_ns=max(_whole(head.get("baseTimeNanoseconds"), 0), 0),
        window=(min(reading.window), max(reading.window)) if len(reading.window) > 1 else None,
        memory_peaks=reading.memory_peaks,
        recorded=frozenset(
            name for name in ("with_stack", "profile_memory", "record_shapes", "with_flops") if head.get(name)
        ),
        events=ending.events,
        bytes=ending.bytes,
        truncated=ending.truncated,
        skipped=ending.skipped,
        repaired=ending.repaired,
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
    found = _whole(of.get(name))
    return found if found >= 0 else None


def _devices(given: Any) -> dict[int, Device]:
    found: dict[int, Device] = {}
    for one in given if isinstance(given, list) else ():
        if isinstance(one, dict) and _whole(one.get("id")) >= 0:
            major, minor = _whole(one.get("computeMajor")), _whole(one.get("computeMinor"), 0)
            found[_whole(one["id"])] = Device(
                printable(str(one.get("name") or ""))[:80],
                _named_whole(one, "numSms"),
                (major, minor) if major >= 0 else None,
                _named_whole(one, "totalGlobalMem"),
            )
    return found
