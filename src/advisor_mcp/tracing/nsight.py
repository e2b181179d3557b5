"""Nsight Systems' SQLite exports (`nsys export --type sqlite`), read without writing to them.

Tables exist only where something of the kind was captured, and newer schemas add columns and the suffixes `_V2`, `_V3`: tables
are found by name or suffix and columns read from the file. Times are whole nanoseconds since the session began. Identifiers pack
hardware, virtual machine, process and thread: the process is bits 24 to 47 (NVIDIA, "Common SQLite examples").
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from advisor_mcp.errors import CannotAnswer
from advisor_mcp.tracing.intervals import Column
from advisor_mcp.tracing.jsonstream import unzipped
from advisor_mcp.tracing.kernels import is_communication
from advisor_mcp.tracing.pieces import Pieces
from advisor_mcp.tracing.timeline import (
    UNKNOWN,
    Device,
    DeviceEvents,
    Host,
    HostEvents,
    Names,
    Span,
    Timeline,
    Work,
    device_events,
    host_events,
)

MOST_ROWS = 16_000_000
MOST_BYTES = 16 << 30
ROWS_AT_ONCE = 50_000
LONGEST_VALUE = 1 << 20
STEPS_BETWEEN_CHECKS = 1_000_000
CORRELATION_BITS = 36
PROCESS_SHIFT, PROCESS_MASK = 24, (1 << 24) - 1
PUSH_POP, START_END = 59, 60
NOTED_SETS = 0.005
WARNING, ERROR = 2, 3
NEEDS = "an export made with nsys export --type sqlite of a report taken with --trace=cuda,nvtx"

KERNELS, COPIES, SETS, GRAPHS = (
    f"CUPTI_ACTIVITY_KIND_{kind}" for kind in ("KERNEL", "MEMCPY", "MEMSET", "GRAPH_TRACE")
)
CALLS, WAITS = "CUPTI_ACTIVITY_KIND_RUNTIME", "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION"
RANGES, STRINGS = "NVTX_EVENTS", "StringIds"
_VERSION = re.compile(r"_v\d+$")
_OPERATOR_DETAILS = re.compile(r", (?:seq|op_id|sizes|input_op_ids) = .*$", re.DOTALL)
_IS_OPERATOR = re.compile(r", op_id = |^aten::|^torch::|^prims::")
_STEP = re.compile(r"^(?:ProfilerStep|train(?:ing)?[_ ]?step|step|iteration|iter|batch)[\s_#:=-]*\d+$", re.IGNORECASE)
_LOST = re.compile(r"lost|not all|dropped|incomplete|missing|too many|buffer", re.IGNORECASE)
_COPY_KINDS = {1: "HtoD", 2: "DtoH", 8: "DtoD", 10: "PtoP"}
_MEMORY_KINDS = {0: "Pageable", 1: "Pinned", 2: "Device"}


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the export and its columns; every column that is read but not there is null."""

    name: str
    columns: frozenset[str]

    def select(self, columns: Sequence[str], where: str = "") -> str:
        """A query for integer columns in this order; nulls and what is no number come as -1."""
        parts = [f'ifnull(cast("{name}" as integer), -1)' if name in self.columns else "-1" for name in columns]
        return f'SELECT {", ".join(parts)} FROM "{self.name}" {where}'


def read_nsight(path: Path, source: str, check: Callable[[], None] = lambda: None) -> Timeline:
    """The timeline of an export, which may be gzipped. `check` is called now and then and may raise to stop the work.

    Raises `CannotAnswer` for a file that is damaged or no export of Nsight Systems.
    """
    with _unpacked(path, source, check) as plain:
        try:
            with closing(_opened(plain)) as connection:
                connection.set_progress_handler(_checking(check), STEPS_BETWEEN_CHECKS)
                return _Export(connection, source, check).timeline(plain.stat().st_size)
        except (sqlite3.Error, OverflowError, ValueError) as error:
            check()  # an interrupted query is the caller's wish, not damage
            raise CannotAnswer(f"{source} is a damaged SQLite file: {_words(error)}", needs=[NEEDS]) from None


def _words(error: Exception) -> str:
    return "export it again" if isinstance(error, sqlite3.Error) else "a time or a number in it makes no sense"


@contextmanager
def _unpacked(path: Path, source: str, check: Callable[[], None]) -> Iterator[Path]:
    """The file itself, or what a gzipped one holds, in a temporary file of bounded size."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            yield path
            return
        file.seek(0)
        with tempfile.NamedTemporaryFile(suffix=".sqlite") as into:
            _copy(unzipped(cast(BinaryIO, file)), cast(BinaryIO, into), source, check)
            yield Path(into.name)


def _copy(out_of: BinaryIO, into: BinaryIO, source: str, check: Callable[[], None]) -> None:
    room = min(MOST_BYTES, shutil.disk_usage(tempfile.gettempdir()).free // 2)
    pieces = Pieces(out_of)
    while part := pieces.read(1 << 20):
        check()
        into.write(part)
        if into.tell() > room:
            raise CannotAnswer(f"{source} unpacks to more than {room:,} bytes: unpack it yourself", needs=[NEEDS])
    if pieces.broken:
        raise CannotAnswer(f"{source} is a damaged gzip file: copy it whole", needs=[NEEDS])
    into.flush()


def _opened(path: Path) -> sqlite3.Connection:
    """The file, opened so that nothing in it can run or be written."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA query_only = ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    return connection


def _checking(check: Callable[[], None]) -> Callable[[], int]:
    def handler() -> int:
        check()  # an exception here interrupts the query
        return 0

    return handler


class _Export:
    """One export while it is read."""

    def __init__(self, connection: sqlite3.Connection, source: str, check: Callable[[], None]) -> None:
        self.connection, self.source, self.check = connection, source, check
        self.tables = self._tables()
        self.names, self.threads, self.streams = Names(), Names(), Names()
        self.strings: dict[int, str] = {}
        self.notes: list[str] = []
        self.rows = 0
        self.cut = False

    def _tables(self) -> dict[str, Table]:
        """The plain tables by name without the suffix of a version; of several versions the newest."""
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY length(name), name"
        found: dict[str, Table] = {}
        for (name,) in self.connection.execute(query):
            columns = self.connection.execute("SELECT name FROM pragma_table_info(?)", (name,))
            found[re.sub(r"_V\d+$", "", name)] = Table(name, frozenset(column for (column,) in columns))
        return found

    def timeline(self, size: int) -> Timeline:
        """Everything that is read of the export."""
        if not {KERNELS, COPIES, CALLS, GRAPHS, RANGES} & self.tables.keys():
            raise CannotAnswer(
                f"{self.source} is an SQLite file but no export of Nsight Systems with CUDA or NVTX events",
                needs=[NEEDS],
            )
        self._strings()
        host = self._host()
        device = self._device()
        self._note_sets(device)
        self._missing()
        self._diagnostics()
        return Timeline(
            source=self.source,
            device_events=device,
            host_events=host,
            names=self.names.listed(),
            steps=self._steps(host),
            devices=self._devices(),
            base_ns=self._base(),
            events=self.rows,
            bytes=size,
            truncated=f"only the first {MOST_ROWS:,} events of each table were read" if self.cut else None,
            notes=tuple(self.notes),
        )

    def _strings(self) -> None:
        table = self.tables.get(STRINGS)
        if table and {"id", "value"} <= table.columns:
            rows = self.connection.execute(f'SELECT cast(id as integer), cast(value as text) FROM "{table.name}"')
            self.strings = {number: text for number, text in rows if number is not None and text is not None}

    def _fetched(self, name: str, columns: Sequence[str], where: str = "") -> list[Column]:
        """The columns of a table as int64, nothing of a table that is not there."""
        table = self.tables.get(name)
        blocks = [np.empty((0, len(columns)), np.int64)]
        if table is None or not {"start", "end"} <= table.columns:
            return list(blocks[0].T)
        cursor = self.connection.execute(f"{table.select(columns, where)} LIMIT {MOST_ROWS + 1}")
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            self.check()
            blocks.append(np.array(rows, np.int64))
        found = np.concatenate(blocks)
        self.cut = self.cut or len(found) > MOST_ROWS
        self.rows += len(found[:MOST_ROWS])
        return list(found[:MOST_ROWS].T)

    def _device(self) -> DeviceEvents:
        """Kernels, graphs traced as a whole and copies of every device.

        Sets of memory are left out, as in Nsight's own summaries of GPU time; where they take time, a note says so.
        """
        parts = [self._kernels(), self._graphs(), self._copies()]
        joined: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        joined["device"] = self._physical(joined.pop("process"), joined["device"])
        return device_events(**joined)

    def _common(
        self, found: Mapping[str, Column], name: Column, work: Any, size: Column, blocks: Column
    ) -> dict[str, Any]:
        process = _process(found["globalPid"])
        return {
            "start": found["start"],
            "end": np.maximum(found["end"], found["start"]),
            "device": found["deviceId"],
            "stream": self._streams(process, found["streamId"]),
            "name": name,
            "work": np.broadcast_to(np.asarray(work, np.int64), name.shape),
            "correlation": _correlation(process, found["correlationId"]),
            "bytes": size,
            "blocks": blocks,
            "process": process,
        }

    def _common_columns(self, table: str, *more: str) -> dict[str, Column]:
        columns = ("start", "end", "deviceId", "streamId", "correlationId", "globalPid", *more)
        return dict(zip(columns, self._fetched(table, columns), strict=True))

    def _kernels(self) -> dict[str, Any]:
        found = self._common_columns(KERNELS, "demangledName", "shortName", "gridX", "gridY", "gridZ")
        chosen = np.where(found["demangledName"] >= 0, found["demangledName"], found["shortName"])
        name, spelled = self._named(chosen, "kernel")
        talks = np.array([is_communication(text) for text in spelled], bool)
        work = np.where(talks[np.unique(chosen, return_inverse=True)[1]], Work.COMMUNICATION, Work.COMPUTE)
        grid = found["gridX"] * found["gridY"] * found["gridZ"]
        known = (found["gridX"] > 0) & (found["gridY"] > 0) & (found["gridZ"] > 0)
        return self._common(found, name, work, np.full(len(name), UNKNOWN), np.where(known, grid, UNKNOWN))

    def _graphs(self) -> dict[str, Any]:
        """CUDA graphs recorded as a whole (--cuda-graph-trace=graph): when they ran is known, their kernels are not."""
        found = self._common_columns(GRAPHS)
        count = len(found["start"])
        if count:
            self.notes.append(
                f"{count:,} CUDA graph launches were recorded as a whole: their kernels are not known; "
                "record with --cuda-graph-trace=node"
            )
        name = np.full(count, self.names("CUDA graph") if count else 0)
        nothing = np.full(count, UNKNOWN)
        return self._common(found, name, Work.COMPUTE, nothing, nothing)

    def _copies(self) -> dict[str, Any]:
        found = self._common_columns(COPIES, "bytes", "copyKind", "srcKind", "dstKind")
        kinds = np.stack([found["copyKind"], found["srcKind"], found["dstKind"]], axis=1)
        unique, places = np.unique(kinds, axis=0, return_inverse=True)
        spelled = np.array([self.names(_copy_name(*map(int, kind))) for kind in unique], np.int64)
        name = spelled[places.reshape(-1)] if len(unique) else np.empty(0, np.int64)
        return self._common(found, name, Work.COPY, found["bytes"], np.full(len(name), UNKNOWN))

    def _note_sets(self, device: DeviceEvents) -> None:
        start, end = self._fetched(SETS, ("start", "end"))
        taken = int(np.maximum(end - start, 0).sum())
        if len(device) and taken > NOTED_SETS * int(device.end.max() - device.start[0]):
            self.notes.append(f"{len(start):,} sets of memory take {taken / 1e6:,.1f} ms, which count as idle here")

    def _named(self, ids: Column, what: str) -> tuple[Column, list[str]]:
        """Name indices for a column of string ids, and the distinct strings in the order of their ids."""
        unique, places = np.unique(ids, return_inverse=True)
        spelled = [self.strings.get(int(number), f"unnamed {what}") for number in unique]
        indices = np.array([self.names(text) for text in spelled], np.int64)
        return (indices[places.reshape(-1)] if len(unique) else np.empty(0, np.int64)), spelled

    def _streams(self, process: Column, stream: Column) -> Column:
        """Stream numbers are a process' own."""
        unique, places = np.unique(np.stack([process, stream], axis=1), axis=0, return_inverse=True)
        indices = np.array([self.streams(f"{one[0]}/{one[1]}") for one in unique], np.int64)
        return indices[places.reshape(-1)] if len(unique) else np.empty(0, np.int64)

    def _physical(self, process: Column, device: Column) -> Column:
        """Device numbers of the machine: where processes use one number for different GPUs, the export's own table tells them apart."""
        gpu_of = self._gpus_of_processes()
        used = {(int(one[0]), int(one[1])) for one in np.unique(np.stack([process, device], axis=1), axis=0)}
        by_number: dict[int, set[int]] = {}
        for pid, number in used:
            by_number.setdefault(number, set()).add(gpu_of.get((pid, number), number))
        if all(len(gpus) == 1 for gpus in by_number.values()):
            return device
        mapped = device.copy()
        for pid, number in used:
            mapped[(process == pid) & (device == number)] = gpu_of.get((pid, number), number)
        return mapped

    def _gpus_of_processes(self) -> dict[tuple[int, int], int]:
        table = self.tables.get("TARGET_INFO_CUDA_DEVICE")
        if table is None or not {"pid", "cudaId", "gpuId"} <= table.columns:
            return {}
        rows = self.connection.execute(table.select(("pid", "cudaId", "gpuId")))
        return {(pid & PROCESS_MASK, cuda): gpu for pid, cuda, gpu in rows}

    def _host(self) -> HostEvents:
        """Calls of the CUDA API and NVTX ranges; PyTorch's emit_nvtx writes its operators as ranges."""
        parts = [self._calls(), self._nvtx()]
        joined: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return host_events(**joined, shape=np.full(len(joined["start"]), UNKNOWN, np.int32))

    def _calls(self) -> dict[str, Any]:
        columns = ("start", "end", "globalTid", "correlationId", "nameId")
        found = dict(zip(columns, self._fetched(CALLS, columns), strict=True))
        if CALLS not in self.tables:
            return self._waits()
        unique, places = np.unique(found["nameId"], return_inverse=True)
        spelled = [_VERSION.sub("", self.strings.get(int(number), "unnamed call")) for number in unique]
        indices = np.array([self.names(text) for text in spelled], np.int64)
        name = indices[places.reshape(-1)] if len(unique) else np.empty(0, np.int64)
        correlation = _correlation(
            _process(found["globalTid"]) if self._has_processes() else None, found["correlationId"]
        )
        return self._ranges(found["start"], found["end"], found["globalTid"], name, Host.API, correlation)

    def _waits(self) -> dict[str, Any]:
        """Synchronisations alone, where the calls were not exported: they say when the host waited, not in which thread."""
        columns = ("start", "end", "globalPid", "syncType")
        start, end, pid, kind = self._fetched(WAITS, columns)
        spelled = {1: "cudaEventSynchronize", 3: "cudaStreamSynchronize", 4: "cudaDeviceSynchronize"}
        waits = np.isin(kind, list(spelled))
        name = np.array([self.names(spelled[int(one)]) for one in kind[waits]], np.int64)
        return self._ranges(start[waits], end[waits], pid[waits], name, Host.API, np.full(int(waits.sum()), UNKNOWN))

    def _has_processes(self) -> bool:
        """Whether device events say of which process they are; without that, correlations are compared alone."""
        present = [self.tables[name] for name in (KERNELS, COPIES, SETS, GRAPHS) if name in self.tables]
        return all("globalPid" in table.columns for table in present)

    def _nvtx(self) -> dict[str, Any]:
        table = self.tables.get(RANGES)
        empty = np.empty(0, np.int64)
        if table is None or not {"start", "end", "globalTid"} <= table.columns:
            return self._ranges(empty, empty, empty, empty, empty, empty)
        text = "cast(text as text)" if "text" in table.columns else "NULL"
        numbers = table.select(("start", "end", "globalTid", "textId"))
        wanted = f"eventType IN ({PUSH_POP}, {START_END}) AND " if "eventType" in table.columns else ""
        query = f'{numbers.replace(" FROM ", f", {text} FROM ", 1)} WHERE {wanted}"end" IS NOT NULL LIMIT {MOST_ROWS}'
        times: list[tuple[int, int, int]] = []
        names: list[int] = []
        kinds: list[int] = []
        for start, end, thread, number, said in self.connection.execute(query):
            spelled = said if said is not None else self.strings.get(number, "unnamed range")
            kinds.append(Host.OPERATOR if _IS_OPERATOR.search(spelled) else Host.RANGE)
            names.append(self.names(_OPERATOR_DETAILS.sub("", spelled)[:200]))
            times.append((start, end, thread))
        self.rows += len(times)
        starts, ends, threads = np.array(times, np.int64).reshape(-1, 3).T
        nothing = np.full(len(times), UNKNOWN)
        return self._ranges(starts, ends, threads, np.array(names, np.int64), np.array(kinds, np.int64), nothing)

    def _ranges(
        self, start: Column, end: Column, thread: Column, name: Column, kind: Any, correlation: Column
    ) -> dict[str, Any]:
        unique, places = np.unique(thread, return_inverse=True)
        threads = np.array([self.threads(str(one)) for one in unique], np.int64)
        return {
            "start": start,
            "end": np.maximum(end, start),
            "thread": threads[places.reshape(-1)] if len(unique) else np.empty(0, np.int64),
            "name": name,
            "kind": np.broadcast_to(np.asarray(kind, np.int64), start.shape),
            "correlation": correlation,
        }

    def _steps(self, host: HostEvents) -> tuple[Span, ...]:
        """Ranges that are named and numbered as steps, where one thread's do not overlap."""
        steps = {index: name for index, name in enumerate(self.names.listed()) if _STEP.match(name)}
        rows = np.flatnonzero((host.kind == Host.RANGE) & np.isin(host.name, list(steps)))
        if not len(rows):
            return ()
        rows = rows[host.thread[rows] == host.thread[rows[0]]]
        spans = [Span(steps[int(host.name[row])], int(host.start[row]), int(host.end[row])) for row in rows]
        apart = all(one.end <= two.start for one, two in pairwise(spans))
        return tuple(spans) if apart else ()

    def _devices(self) -> dict[int, Device]:
        table = self.tables.get("TARGET_INFO_GPU")
        if table is None or "id" not in table.columns:
            return {}
        numbers = ("id", "smCount", "computeMajor", "computeMinor", "totalMemory")
        named = 'cast("name" as text)' if "name" in table.columns else "NULL"
        query = table.select(numbers).replace(" FROM ", f", {named} FROM ", 1)
        return {
            number: Device(
                (name or "")[:80],
                units if units > 0 else None,
                (major, minor) if major > 0 and minor >= 0 else None,
                memory if memory > 0 else None,
            )
            for number, units, major, minor, memory, name in self.connection.execute(query)
        }

    def _base(self) -> int:
        table = self.tables.get("TARGET_INFO_SESSION_START_TIME")
        if table is None or "utcEpochNs" not in table.columns:
            return 0
        row = self.connection.execute(table.select(("utcEpochNs",))).fetchone()
        return max(0, row[0]) if row else 0

    def _missing(self) -> None:
        """Tables that are not there, with what cannot be said for it."""
        for name, what in (
            (CALLS, "why the device idled and how long launches took cannot be said"),
            (KERNELS, "no kernel was recorded"),
            (RANGES, "operators and steps are not named"),
        ):
            if name not in self.tables:
                self.notes.append(f"the export has no {name}: {what}")

    def _diagnostics(self) -> None:
        """What the profiler itself says was lost."""
        table = self.tables.get("DIAGNOSTIC_EVENT")
        if table is None or not {"severity", "text"} <= table.columns:
            return
        query = f'SELECT cast(text as text) FROM "{table.name}" WHERE severity IN ({WARNING}, {ERROR}) LIMIT 10000'
        lost = [text for (text,) in self.connection.execute(query) if text and _LOST.search(text)]
        if lost:
            said = re.sub(r"\S*[/\\]\S*", "(path)", " ".join(lost[0].split()))[:160]
            self.notes.append(f"Nsight Systems reports {len(lost)} losses, the first: {said}")


def _process(identifier: Column) -> Column:
    """The process of global thread or process identifiers; 0 where there is none."""
    return np.where(identifier >= 0, (identifier >> PROCESS_SHIFT) & PROCESS_MASK, 0)


def _correlation(process: Column | None, correlation: Column) -> Column:
    """Correlations are a process' own: both in one number, -1 where there is none."""
    whole = correlation & ((1 << CORRELATION_BITS) - 1)
    whole = whole if process is None else (process << CORRELATION_BITS) | whole
    return np.where(correlation > 0, whole, UNKNOWN)


def _copy_name(kind: int, source: int, destination: int) -> str:
    """As the PyTorch profiler spells it: ``Memcpy HtoD (Pinned -> Device)``."""
    names = [_MEMORY_KINDS.get(each, "Unknown") for each in (source, destination)]
    return f"Memcpy {_COPY_KINDS.get(kind, 'other')} ({names[0]} -> {names[1]})"
