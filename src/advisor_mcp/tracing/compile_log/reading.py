"""Reads TORCH_TRACE logs of one or several ranks into a `CompileLog`, as a stream."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, BinaryIO

from advisor_mcp.errors import UsageError
from advisor_mcp.tracing.compile_log import texts
from advisor_mcp.tracing.compile_log.envelopes import Envelope, Tally, entries
from advisor_mcp.tracing.compile_log.log import (
    CacheLookup,
    CacheState,
    Changed,
    Compilation,
    CompileLog,
    Failure,
    GraphBreak,
    Reason,
    Specialised,
)
from advisor_mcp.tracing.doubts import Doubt

MOST_ROWS = 100_000
MOST_STARTS = 10_000
_CACHE = re.compile(r"^(?P<cache>fx_graph|aotautograd|autograd|dynamo|precompile)_(?:bundled_)?cache_(?P<state>\w+)$")
_STATES: dict[str, CacheState] = {"hit": "hit", "miss": "miss", "bypass": "bypass", "disabled": "disabled"}
_LIMIT = re.compile(r"recompile limit exceeded|(?:recompile_limit|cache_size_limit)\b", re.IGNORECASE)
_LIMIT_TYPES = frozenset({"RecompileLimitExceeded", "CacheLimitExceeded", "FailOnRecompileLimitHit"})
_PAIR = re.compile(r'^"(?P<key>\w+)": (?P<value>.*?),?$')
_FRAME_TIMES = ("entire_frame_compile", "dynamo")  # outermost phases of one frame, old and new name
_WANTED = frozenset(
    {
        "artifact",
        "bwd_compilation_metrics",
        "chromium_event",
        "compilation_metrics",
        "dynamo_graph_break_reason",
        "dynamo_start",
        "str",
        "symbolic_shape_specialization",
    }
)


def read_compile_log(files: Sequence[BinaryIO], check: Callable[[], None] = lambda: None) -> CompileLog:
    """What the structured logs of one job say, one opened (and already gunzipped) file for each rank.

    Memory is bounded: payloads that are not asked for are skipped. `check` is called between reads and may raise to stop
    the work. Raises `UsageError` when none of the files has an entry.
    """
    read = [_File(number, check) for number in range(len(files))]
    for each, file in zip(read, files, strict=True):
        each.read(file)
    if not any(each.tally.entries for each in read):
        raise UsageError("there are no TORCH_TRACE entries: give a log that torch wrote under TORCH_TRACE=DIR")
    return _joined([each for each in read if each.tally.entries])


@dataclass(slots=True)
class _Frame:
    """A compilation while its entries come in."""

    compile_id: str
    frame_id: int | None
    number: int
    function: str | None = None
    where: str | None = None
    attempts: int = 0
    reasons: tuple[Reason, ...] = ()
    started: bool = False
    metrics: Mapping[str, Any] | None = None
    timed_ms: float | None = None


@dataclass
class _File:
    """One file's entries, folded."""

    number: int
    check: Callable[[], None]
    tally: Tally = field(default_factory=Tally)
    kinds: Counter[str] = field(default_factory=Counter)
    rank: int | None = None
    version: str | None = None
    names: dict[int, str] = field(default_factory=dict)
    frames: list[_Frame] = field(default_factory=list)
    latest: dict[str, _Frame] = field(default_factory=dict)
    breaks: list[GraphBreak] = field(default_factory=list)
    lookups: list[CacheLookup] = field(default_factory=list)
    instants: list[CacheLookup] = field(default_factory=list)
    changed: list[Changed] = field(default_factory=list)
    specialised: list[Specialised] = field(default_factory=list)
    starts: dict[tuple[str, str], float] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    backward_ms: float = 0.0
    first: str | None = None
    last: str | None = None

    def read(self, file: BinaryIO) -> None:
        """Fold every entry of a file."""
        for entry in entries(file, _WANTED.__contains__, self.tally, self.check):
            self.kinds[entry.kind] += 1
            self.first, self.last = self.first or entry.time, entry.time
            if not entry.body:
                continue
            if type(entry.body.get("rank")) is int:
                self.rank = entry.body["rank"]
            try:
                _HANDLERS[entry.kind](self, entry)
            except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
                self.tally.damaged += 1

    def frame(self, entry: Envelope, new: bool = False) -> _Frame:
        """The compilation that an entry belongs to; `new` begins another one under the same id."""
        compile_id = _compile_id(entry.body) or "-"
        known = self.latest.get(compile_id)
        if known is None or (new and (known.started or known.metrics is not None)):
            number = entry.body.get("frame_compile_id")
            known = _Frame(compile_id, entry.body.get("frame_id"), number if type(number) is int else 0)
            self.latest[compile_id] = known
            if len(self.frames) < MOST_ROWS:
                self.frames.append(known)
        attempt = entry.body.get("attempt")
        known.attempts = max(known.attempts, attempt if type(attempt) is int else 0)
        return known

    def string(self, entry: Envelope) -> None:
        text, number = entry.body["str"]
        self.names[number] = texts.base_name(text)

    def start(self, entry: Envelope) -> None:
        frame = self.frame(entry, new=True)
        frame.started = True
        stack = entry.body["dynamo_start"].get("stack") or ()
        if stack:
            frame.function, frame.where = str(stack[-1]["name"]), self.place(stack[-1])

    def place(self, frame: Mapping[str, Any]) -> str:
        path = frame.get("uninterned_filename") or self.names.get(frame.get("filename", -1), "?")
        return texts.place(str(path), frame.get("line"))

    def metrics(self, entry: Envelope) -> None:
        found = entry.body["compilation_metrics"]
        frame = self.frame(entry, new=self.finished(entry))
        frame.metrics = {name: found.get(name) for name in _METRICS}
        if found.get("co_name"):
            frame.function = str(found["co_name"])
            frame.where = texts.place(str(found.get("co_filename")), found.get("co_firstlineno"))
        if found.get("recompile_reason") and not frame.reasons:
            frame.reasons = texts.reasons(str(found["recompile_reason"]))
        self.version = self.version or found.get("pytorch_version")

    def finished(self, entry: Envelope) -> bool:
        known = self.latest.get(_compile_id(entry.body) or "-")
        return known is not None and known.metrics is not None

    def backward(self, entry: Envelope) -> None:
        found = entry.body["bwd_compilation_metrics"]
        micros = found.get("duration_us") or found.get("backward_cumulative_compile_time_us")
        self.backward_ms += micros / 1e3 if micros else (found.get("inductor_compile_time_s") or 0.0) * 1e3

    def specialisation(self, entry: Envelope) -> None:
        found = entry.body["symbolic_shape_specialization"]
        sources = tuple(str(source) for source in found.get("sources") or ())
        _add(self.specialised, Specialised(_compile_id(entry.body), sources, texts.scrubbed(str(found.get("value")))))

    def artifact(self, entry: Envelope) -> None:
        name = str(entry.body["artifact"]["name"])
        if name == "recompile_reasons":
            self.frame(entry, new=self.finished(entry)).reasons = texts.reasons(entry.text)
        elif name == "dynamo_graph_break_reason":
            self.broke(entry)
        elif name == "torch_version":
            self.version = json.loads(entry.text).get("pytorch_version")
        elif found := _CACHE.match(name):
            _add(self.lookups, self.lookup(found, entry, _small_json(entry)))

    def broke(self, entry: Envelope) -> None:
        where, reason, hint, skipped = texts.graph_break(entry.text)
        _add(self.breaks, GraphBreak(self.rank, _compile_id(entry.body), where, reason, hint, skipped))

    def lookup(self, found: re.Match[str], entry: Envelope, said: Mapping[str, Any]) -> CacheLookup:
        state = (
            "guard_miss" if said.get("cache_status_detailed") == "guard_miss" else _STATES.get(found["state"], "miss")
        )
        reason, saved = said.get("cache_bypass_reason"), said.get("time_saved_ms")
        return CacheLookup(
            rank=self.rank,
            cache="aot_autograd" if "autograd" in found["cache"] else found["cache"],
            state=state,
            compile_id=_compile_id(entry.body),
            key=str(said["key"]) if said.get("key") else None,
            reason=texts.scrubbed(str(reason)) if reason else None,
            saved_ms=float(saved) if isinstance(saved, int | float) else None,
        )

    def event(self, entry: Envelope) -> None:
        pairs = _pairs(entry)
        name, phase = _first(pairs, "name"), _last(pairs, "ph")
        key = (name, _last(pairs, "compile_id"))
        if phase == "B" and len(self.starts) < MOST_STARTS:
            self.starts[key] = float(_first(pairs, "ts"))
        elif phase == "E" and key in self.starts:
            self.took(entry, name, (float(_first(pairs, "ts")) - self.starts.pop(key)) / 1e3)
        elif phase == "i" and name == "automatic_dynamic":
            self.turned(entry, pairs)
        elif phase == "i" and (found := _CACHE.match(name)):
            _add(self.instants, self.lookup(found, entry, dict(pairs)))

    def took(self, entry: Envelope, name: str, took_ms: float) -> None:
        self.phases[name] = self.phases.get(name, 0.0) + max(0.0, took_ms)
        if name in _FRAME_TIMES and _compile_id(entry.body):
            frame = self.frame(entry)
            frame.timed_ms = max(frame.timed_ms or 0.0, took_ms)

    def turned(self, entry: Envelope, pairs: Sequence[tuple[str, str]]) -> None:
        change = Changed(
            _compile_id(entry.body),
            texts.scrubbed(_last(pairs, "name")),
            _last(pairs, "dim_changed"),
            texts.scrubbed(_last(pairs, "cached"), 40),
            texts.scrubbed(_last(pairs, "new"), 40),
        )
        _add(self.changed, change)

    def compilations(self) -> Iterator[Compilation]:
        """The compilations of the file; an attempt that was refused before it began takes its frame's name."""
        named = {frame.frame_id: frame for frame in reversed(self.frames) if frame.function}
        for frame in self.frames:
            if frame.compile_id == "-" or not (frame.started or frame.metrics or frame.reasons):
                continue
            same = named.get(frame.frame_id)
            if not frame.function and same:
                frame.function, frame.where = same.function, same.where
            yield _compilation(self.rank, frame)

    def doubts(self) -> Iterator[Doubt]:
        """What could not be read of this file."""
        name = f"rank {self.rank}" if self.rank is not None else f"file {self.number + 1}"
        if self.tally.damaged or self.tally.overlong:
            count = self.tally.damaged + self.tally.overlong
            yield Doubt("damaged-entries", f"{count:,} entries of {name} could not be read: counts are lower bounds")
        if self.tally.foreign_lines:
            yield Doubt("foreign-lines", f"{self.tally.foreign_lines:,} lines of {name} are no log entries")
        if self.tally.cut_off:
            yield Doubt(
                "truncated-log", f"the log of {name} ends in the middle of an entry: what came later is missing"
            )
        if len(self.frames) >= MOST_ROWS:
            yield Doubt("too-many-compilations", f"only the first {MOST_ROWS:,} compilations of {name} are counted")


_HANDLERS: dict[str, Callable[[_File, Envelope], None]] = {
    "artifact": _File.artifact,
    "bwd_compilation_metrics": _File.backward,
    "chromium_event": _File.event,
    "compilation_metrics": _File.metrics,
    "dynamo_graph_break_reason": _File.broke,
    "dynamo_start": _File.start,
    "str": _File.string,
    "symbolic_shape_specialization": _File.specialisation,
}
_METRICS = (
    "entire_frame_compile_time_s",
    "backend_compile_time_s",
    "inductor_compile_time_s",
    "dynamo_time_before_restart_s",
    "graph_op_count",
    "restart_reasons",
    "fail_type",
    "fail_reason",
    "fail_user_frame_filename",
    "fail_user_frame_lineno",
)


def _add(rows: list[Any], row: object) -> None:
    if len(rows) < MOST_ROWS:
        rows.append(row)


def _compile_id(body: Mapping[str, Any]) -> str | None:
    """``0/1``, or ``!2/0/1`` under compiled autograd; None for what belongs to no compilation."""
    frame, number, outer = (body.get(name) for name in ("frame_id", "frame_compile_id", "compiled_autograd_id"))
    inner = None if frame is None else f"{frame}/{number if number is not None else '-'}"
    if outer is None:
        return inner
    return f"!{outer}" + (f"/{inner}" if inner else "")


def _small_json(entry: Envelope) -> Mapping[str, Any]:
    """A payload as JSON; of one too long to be kept whole, the short pairs at its beginning."""
    try:
        found = json.loads(entry.text)
    except (ValueError, RecursionError):
        return dict(
            re.findall(r'"(key|cache_state|cache_status_detailed|cache_bypass_reason)": "([^"]*)"', entry.text[:4096])
        )
    return found if isinstance(found, dict) else {}


def _pairs(entry: Envelope) -> list[tuple[str, str]]:
    """The keys and values of a chromium event, nested ones included, in order: torch writes one on a line."""
    lines = entry.payload
    if len(lines) == 1:  # older versions write the event on one line
        lines = json.dumps(json.loads(lines[0]), indent=0).splitlines()
    found = (_PAIR.match(line) for line in lines)
    return [(pair["key"], pair["value"].strip('"')) for pair in found if pair]


def _first(pairs: Sequence[tuple[str, str]], key: str) -> str:
    return next((value for name, value in pairs if name == key), "")


def _last(pairs: Sequence[tuple[str, str]], key: str) -> str:
    return next((value for name, value in reversed(pairs) if name == key), "")


def _compilation(rank: int | None, frame: _Frame) -> Compilation:
    found = frame.metrics or {}
    total = _ms(found.get("entire_frame_compile_time_s"))
    return Compilation(
        rank=rank,
        compile_id=frame.compile_id,
        frame_id=frame.frame_id,
        number=frame.number,
        function=frame.function,
        where=frame.where,
        total_ms=frame.timed_ms if total is None else total,
        backend_ms=_ms(found.get("backend_compile_time_s")),
        inductor_ms=_ms(found.get("inductor_compile_time_s")),
        restarts=frame.attempts,
        restart_ms=_ms(found.get("dynamo_time_before_restart_s")) or 0.0,
        graph_ops=found.get("graph_op_count"),
        reasons=frame.reasons,
        failure=_failure(found),
    )


def _ms(seconds: object) -> float | None:
    return seconds * 1e3 if isinstance(seconds, int | float) else None


def _failure(found: Mapping[str, Any]) -> Failure | None:
    kind, reason = found.get("fail_type"), str(found.get("fail_reason") or "")
    if not kind:
        return None
    path, line = found.get("fail_user_frame_filename"), found.get("fail_user_frame_lineno")
    where = texts.place(str(path), line) if path else None
    limit = kind in _LIMIT_TYPES or bool(_LIMIT.search(reason))
    return Failure(str(kind), texts.scrubbed(reason.split("\n  Explanation:")[0]), where, limit)


def _joined(files: Sequence[_File]) -> CompileLog:
    spans = [span for span in map(_span_ms, files) if span is not None]
    compilations = tuple(made for each in files for made in each.compilations())
    return CompileLog(
        ranks=tuple(each.rank for each in files),
        torch_version=next((each.version for each in files if each.version), None),
        span_ms=max(spans, default=None),
        envelopes=dict(sum((each.kinds for each in files), Counter())),
        compilations=compilations,
        breaks=tuple(_breaks(files)),
        lookups=tuple(row for each in files for row in each.lookups or each.instants),
        changed=tuple(row for each in files for row in each.changed),
        specialised=tuple(row for each in files for row in each.specialised),
        phases_ms=_phases(files),
        backward_ms=sum(each.backward_ms for each in files),
        doubts=tuple(doubt for each in files for doubt in each.doubts()),
    )


def _breaks(files: Sequence[_File]) -> Iterator[GraphBreak]:
    """The breaks with their artifacts; logs older than those (torch 2.5) say in the metrics why a trace began anew."""
    for each in files:
        yield from (replace(row, rank=each.rank) for row in each.breaks)
        for frame in () if each.breaks else each.frames:
            for text in (frame.metrics or {}).get("restart_reasons") or ():
                first = texts.scrubbed(str(text).split("\n")[0])
                yield GraphBreak(each.rank, frame.compile_id, frame.where, first, None, False)


def _phases(files: Sequence[_File]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for name, took in (pair for each in files for pair in each.phases.items()):
        totals[name] = totals.get(name, 0.0) + took
    return dict(sorted(totals.items(), key=lambda pair: -pair[1]))


def _span_ms(file: _File) -> float | None:
    """Time between the first and the last entry; the prefix has no year, so a log over New Year has none."""
    if file.first is None or file.last is None:
        return None
    ends = [datetime.strptime(f"2024{time}", "%Y%m%d %H:%M:%S.%f") for time in (file.first, file.last)]
    took = (ends[1] - ends[0]).total_seconds() * 1e3
    return took if took >= 0 else None
