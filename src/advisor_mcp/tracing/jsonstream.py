"""The events of a trace file as decoded batches: bounded memory, any size, and the invalid JSON that profilers really write.

A window of the file is cut at its last ``},{`` and decoded in one go. That the decoder accepts the piece proves the cut: JSON has
one reading, so a piece that is a whole array was cut between two of its members. Where it does not, the window is read event by
event, repaired where profilers are known to err, and what cannot be repaired is counted.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Generic, TypeVar

WINDOW = 1 << 20
LONGEST_HEAD = 16 << 20
LONGEST_EVENT = 8 << 20
GZIP = b"\x1f\x8b"

Event = TypeVar("Event")

_EVENTS = re.compile(rb'"traceEvents"\s*:\s*\[')
_BETWEEN = re.compile(rb"\}\s*,\s*(?=\{)")
_NEXT_EVENT = re.compile(r'\}\s*,\s*(?=\{\s*"(?:ph|name|cat|pid|tid|ts|args|id)"\s*:)')
_LONE_BACKSLASH = re.compile(r'\\(?!["\\/bfnrt]|u[0-9a-fA-F]{4})')
_BARE_WORD = re.compile(r"(?<=[:,\[])(\s*)(-?)(?:inf|nan|N/A|undefined|None)(?=\s*[,}\]])", re.IGNORECASE)


@dataclass
class Ending:
    """How the reading went, known when the last batch was taken. `bytes` are uncompressed; `at` is the byte it stopped at."""

    bytes: int = 0
    events: int = 0
    repaired: int = 0
    skipped: int = 0
    truncated: str | None = None
    head: dict[str, Any] = field(default_factory=dict)


def unzipped(file: BinaryIO) -> BinaryIO:
    """The file's content, through gzip where it starts with gzip's magic number."""
    start = file.read(2)
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if start == GZIP else file  # type: ignore[return-value]


def chunks(file: BinaryIO, ending: Ending, size: int = WINDOW) -> Iterator[bytes]:
    """The file in pieces; a compressed stream that breaks off ends there and says so in `ending`."""
    while True:
        try:
            piece = file.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            ending.truncated = "the compressed stream breaks off" if isinstance(error, EOFError) else "it is damaged"
            return
        if not piece:
            return
        ending.bytes += len(piece)
        yield piece


class EventStream(Generic[Event]):
    """Batches of a trace's events; `ending` holds the metadata beside them and what went wrong.

    `decode` turns a JSON array into events and raises `ValueError` for one it cannot read; `convert` makes an event of a decoded
    object, or None of one that is not an event.
    """

    def __init__(
        self,
        file: BinaryIO,
        decode: Callable[[bytes], list[Event]],
        convert: Callable[[Mapping[str, Any]], Event | None],
    ) -> None:
        self.ending = Ending()
        self._chunks = chunks(file, self.ending)
        self._decode = decode
        self._convert = convert
        self._rest = b""

    def batches(self) -> Iterator[list[Event]]:
        """Every batch in the file's order. Raises `ValueError` where the file holds no list of events."""
        self._find_events()
        open_ended = True
        while open_ended:
            piece = next(self._chunks, b"")
            open_ended = bool(piece)
            self._rest += piece
            batch, closed = self._window(at_end=not piece)
            self.ending.events += len(batch)
            if batch:
                yield batch
            if closed:
                self._read_tail()
                return
        if self.ending.truncated is None:
            self.ending.truncated = "it breaks off inside the list of events"

    def _find_events(self) -> None:
        """Go to the first event, keeping the metadata before it."""
        held = b""
        for piece in self._chunks:
            held += piece
            if held.lstrip()[:1] == b"[":
                self._rest = held.lstrip()[1:]
                return
            for match in _EVENTS.finditer(held):
                head = _object(held[: match.start()] + b'"traceEvents": []}')
                if head is not None:
                    self.ending.head.update(head)
                    self._rest = held[match.end() :]
                    return
            if len(held) > LONGEST_HEAD:
                break
        raise ValueError("no list of events")

    def _window(self, at_end: bool) -> tuple[list[Event], bool]:
        """The events that the window holds whole, and whether the list ends in it."""
        cut = self._cut()
        if cut:
            try:
                batch = self._decode(b"[" + self._rest[: cut[0]] + b"]")
            except ValueError:
                return self._one_by_one(at_end)
            self._rest = self._rest[cut[1] :]
            if not at_end:
                return batch, False
            last, closed = self._one_by_one(at_end)
            return batch + last, closed
        if at_end or len(self._rest) > LONGEST_EVENT:
            return self._one_by_one(at_end)
        return [], False

    def _cut(self) -> tuple[int, int] | None:
        """Where the last event that is followed by another one ends, and where that one starts."""
        end = len(self._rest)
        for _ in range(64):
            brace = self._rest.rfind(b"}", 0, end)
            if brace < 0:
                return None
            match = _BETWEEN.match(self._rest, brace)
            if match:
                return brace + 1, match.end()
            end = brace
        return None

    def _one_by_one(self, at_end: bool) -> tuple[list[Event], bool]:
        text = self._rest.decode("utf-8", errors="replace")
        decoder = json.JSONDecoder(strict=False)
        found: list[Event] = []
        place, closed = 0, False
        while True:
            place = _past_comma(text, place)
            if place >= len(text):
                break
            if text[place] == "]":
                place, closed = place + 1, True
                break
            try:
                value, after = decoder.raw_decode(text, place)
            except (ValueError, RecursionError):
                next_event = _NEXT_EVENT.search(text, place)
                if next_event is None:
                    break
                value, after = _repaired(text[place : next_event.start() + 1]), next_event.start() + 1
                if value is None:
                    self.ending.skipped += 1
                else:
                    self.ending.repaired += 1
            event = self._convert(value) if isinstance(value, dict) else None
            if event is not None:
                found.append(event)
            place = after
        self._rest = text[place:].encode("utf-8", errors="replace")
        if len(self._rest) > LONGEST_EVENT and not closed:
            raise ValueError("an event without an end")
        if at_end and not closed:
            self.ending.truncated = self.ending.truncated or "it breaks off inside an event"
        return found, closed

    def _read_tail(self) -> None:
        """Keep the metadata after the events, where it can be read."""
        tail = self._rest
        for piece in self._chunks:
            tail += piece
            if len(tail) > LONGEST_HEAD:
                return
        rest = tail.strip().removeprefix(b",")
        self.ending.head.update(_object(b"{" + rest) or {})


def _past_comma(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n,":
        place += 1
    return place


def _object(raw: bytes) -> dict[str, Any] | None:
    text = raw.decode("utf-8", errors="replace")
    for attempt in (text, _mended(text)):
        try:
            value = json.loads(attempt, strict=False)
        except (ValueError, RecursionError):
            continue
        return value if isinstance(value, dict) else None
    return None


def _repaired(text: str) -> Any:
    try:
        return json.loads(_mended(text), strict=False)
    except (ValueError, RecursionError):
        return None


def _mended(text: str) -> str:
    """With words that are no JSON as null (kineto #105) and lone backslashes doubled (pytorch #98432)."""
    return _LONE_BACKSLASH.sub(r"\\\\", _BARE_WORD.sub(r"\1null", text))
