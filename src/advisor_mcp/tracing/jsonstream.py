"""The events of a trace file as decoded batches: bounded memory, any size, and the invalid JSON that profilers really write.

A window of the file is cut at its last ``},{`` and decoded in one go. That the decoder accepts the piece proves the cut: JSON has
one reading, so a piece that is a whole array was cut between two of its members. Where it does not, the window is mended
where profilers are known to err, else read event by event, and what cannot be read is counted. Work on what is no JSON is
bounded by the file's size: a file that was made to be slow is given up.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO, Generic, TypeVar

WINDOW = 1 << 20
LONGEST_HEAD = 16 << 20
LONGEST_EVENT = 8 << 20
LONGEST_CLOSE = 1 << 16
MOST_STARTS = 16
"""Places in the head that are tried as the start of the events."""

GZIP = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"

Event = TypeVar("Event")

_EVENTS = re.compile(rb'"traceEvents"\s*:\s*\[')
_BETWEEN = re.compile(rb"\}\s*,\s*(?=\{)")
_SPACE = re.compile(r"[ \t\r\n,]*")
# where an event ends: before another, which begins with a key that the Trace Event Format gives one, or with the list
_END_OF_EVENT = re.compile(
    r'\}\s*(?:,\s*(?=\{\s*"(?:ph|name|cat|pid|tid|ts|tts|dur|tdur|args|id|s|sf|bp|cname|scope|bind_id)"\s*:)'
    r'|(?=\]\s*(?:\}|,\s*"|$)))'
)
_CLOSERS = re.compile(r"[\]}\s]*,?\s*")
_GOES_ON = re.compile(r"[\]}\s]*,\s*(?=\{)")
_BACKSLASH = re.compile(rb'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})?')
_BARE_WORD = re.compile(rb"(?<=[:,\[])(\s*)-?(?:inf|infinity|nan|N/A|undefined|None)(?=\s*[,}\]])", re.IGNORECASE)
_SPACED = bytes(max(place, 32) for place in range(256))
_DECODER = json.JSONDecoder(strict=False)

PATIENCE = 64 << 20
"""Characters that may be looked at in vain, beside one for every byte read."""

_NO_EVENT, _TOO_DEEP = 1 << 10, 1 << 16
"""What a value that is no event costs at least, and one that is nested too deeply, in characters that are looked at."""


@dataclass
class Ending:
    """How the reading went, known when the last batch was taken. `bytes` are uncompressed."""

    bytes: int = 0
    events: int = 0
    skipped: int = 0
    truncated: str | None = None
    head: dict[str, Any] = field(default_factory=dict)


def unzipped(file: BinaryIO) -> BinaryIO:
    """The file's content, through gzip where it starts with gzip's magic number."""
    start = file.read(2)
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if start == GZIP else file  # type: ignore[return-value]


def chunks(file: BinaryIO, ending: Ending, size: int) -> Iterator[bytes]:
    """The file in pieces; a compressed stream that breaks off ends there and says so in `ending`."""
    while True:
        try:
            piece = file.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            ending.truncated = "the compressed stream " + (
                "breaks off" if isinstance(error, EOFError) else "is damaged"
            )
            return
        if not piece:
            return
        ending.bytes += len(piece)
        yield piece


class EventStream(Generic[Event]):
    """Batches of a trace's events; `ending` holds the metadata beside them and what went wrong.

    `decode` turns a JSON array into events and raises `ValueError` for one it cannot read; `convert` makes an event of a decoded
    object, whose floating-point numbers are strings so that nothing is rounded.
    """

    def __init__(
        self,
        file: BinaryIO,
        decode: Callable[[bytes], list[Event]],
        convert: Callable[[Mapping[str, Any]], Event],
        window: int = WINDOW,
    ) -> None:
        self.ending = Ending()
        self._chunks = chunks(file, self.ending, window)
        self._decode = decode
        self._convert = convert
        self._rest = b""
        self._in_vain = 0

    def batches(self) -> Iterator[list[Event]]:
        """A batch, which may be empty, for every window, in the file's order. Raises `ValueError` where there is no list of events."""
        self._find_events()
        at_end = False
        while not at_end and not self.ending.truncated:
            piece = next(self._chunks, b"")
            at_end = not piece
            self._rest += piece
            batch, closed = self._window(at_end)
            self.ending.events += len(batch)
            yield batch
            if closed:
                self._read_tail()
                return
        self.ending.truncated = self.ending.truncated or "it breaks off inside the list of events"

    def _find_events(self) -> None:
        """Go to the first event, keeping the metadata before it."""
        held, tried = b"", 0
        for piece in self._chunks:
            held = held + piece if held else piece.removeprefix(BOM)
            if held.lstrip()[:1] == b"[":
                self._rest = held.lstrip()[1:]
                return
            for match in islice(_EVENTS.finditer(held), tried, MOST_STARTS):
                tried += 1
                if self._starts_at(held, match):
                    return
            if len(held) > LONGEST_HEAD:
                break
        start = _EVENTS.search(held)
        if start is None:
            raise ValueError("no list of events")
        self._rest = held[start.end() :]  # what stands before it is beyond repair

    def _starts_at(self, held: bytes, match: re.Match[bytes]) -> bool:
        head = _object(held[: match.start()] + b'"traceEvents": []}')
        if head is None:
            return False
        self.ending.head.update(head)
        self._rest = held[match.end() :]
        return True

    def _window(self, at_end: bool) -> tuple[list[Event], bool]:
        """The events that the window holds whole, and whether the list ends in it."""
        cut = self._cut()
        if cut:
            batch = self._decoded(self._rest[: cut[0]])
            if batch is None:
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
        raw = self._rest
        text = raw.decode("latin-1")  # a character a byte, so that places in the text are places in the file
        found: list[Event] = []
        place, boundary, closed = _past_space(text, 0), 0, False
        while place < len(text) and not closed:
            if boundary <= place:
                boundary = _boundary(text, place)
            if text[place] == "]":
                after = _end_of_list(text, place, at_end)
                closed = after == place
            else:
                after, events = self._next(raw, text, place, boundary)
                found += events
            if after is None or self._in_vain > PATIENCE + self.ending.bytes:
                break
            place = _past_space(text, after)
        self._rest = raw[place:]
        if not closed and not self.ending.truncated:
            self.ending.truncated = self._cut_short(at_end)
        return found, closed

    def _cut_short(self, at_end: bool) -> str | None:
        """Why the reading ends before the list does, if it does."""
        if self._in_vain > PATIENCE + self.ending.bytes:
            return "too much of it is no JSON"
        if len(self._rest) > LONGEST_EVENT:
            return f"an event is longer than {LONGEST_EVENT >> 20} MiB"
        return "it breaks off inside an event" if at_end else None

    def _next(self, raw: bytes, text: str, place: int, boundary: int) -> tuple[int | None, list[Event]]:
        """Where the events from a place to the next boundary end, and they; else the same of the value that is there.

        What is neither is skipped. The end is None where it is not in the window.
        """
        if boundary < len(text):
            events = self._events(raw[place:boundary])
            if events is not None:
                return boundary, events
        end = self._end_of_value(text, place)
        if end is not None:
            return end, self._events(raw[place:end]) or []
        if boundary == len(text):
            return None, []
        self.ending.skipped += 1
        return boundary, []

    def _end_of_value(self, text: str, place: int) -> int | None:
        """Where the value that starts at a place ends; None where it is no JSON, or not whole."""
        try:
            return _DECODER.raw_decode(text, place)[1]
        except json.JSONDecodeError as error:
            # the error counts the lines before its place; of a string without an end that is where it starts
            self._in_vain += len(text) if error.msg.startswith("Unterminated") else error.pos
        except (ValueError, RecursionError):  # too many digits, too many brackets
            self._in_vain += _TOO_DEEP
        return None

    def _events(self, raw: bytes) -> list[Event] | None:
        """The events among some values, mended where they must be; None where the text is no JSON even then."""
        events = self._decoded(raw)
        if events is not None:
            return events
        values = next((found for text in _mended(b"[" + raw + b"]") if (found := _loads(text)) is not None), None)
        if values is None:
            self._in_vain += len(raw)
            return None
        events = [self._convert(value) for value in values if isinstance(value, dict)]
        self._in_vain += _NO_EVENT * (len(values) - len(events))
        return events

    def _decoded(self, raw: bytes) -> list[Event] | None:
        """The events of an array's inside, mended where they must be; None where the decoder does not take it even then."""
        for text in _mended(b"[" + raw + b"]"):
            try:
                return self._decode(text)
            except (ValueError, RecursionError):
                continue
        return None

    def _read_tail(self) -> None:
        """Keep the metadata after the events, where it can be read. A stream that breaks off there has lost no event."""
        tail = self._rest[1:]
        for piece in self._chunks:
            tail += piece
            if len(tail) > LONGEST_HEAD:
                return
        self.ending.truncated = None
        self.ending.head.update(_object(b"{" + tail.strip().removeprefix(b",")) or {})


def _past_space(text: str, place: int) -> int:
    """Past white space and commas."""
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _boundary(text: str, place: int) -> int:
    """Where an object ends that another event seems to follow, after a place; the text's end where there is none."""
    found = _END_OF_EVENT.search(text, place)
    return found.start() + 1 if found else len(text)


def _end_of_list(text: str, place: int, at_end: bool) -> int | None:
    """The place itself where its bracket ends the list of events. After an event that could not be read it may end a list inside
    of that: it is passed over if another object follows. None: what follows is not there yet."""
    inside = _GOES_ON.match(text, place)
    if inside:
        return inside.end()
    unknown = not at_end and len(text) - place < LONGEST_CLOSE and _CLOSERS.fullmatch(text, place)
    return None if unknown else place


def _object(raw: bytes) -> dict[str, Any] | None:
    value = next((found for text in _mended(raw) if (found := _loads(text)) is not None), None)
    return value if isinstance(value, dict) else None


def _loads(text: bytes) -> Any:
    """The value, floating-point numbers as they are spelled; None of what is no JSON."""
    try:
        return json.loads(text, parse_float=str)
    except (ValueError, RecursionError):
        return None


def _mended(raw: bytes) -> Iterator[bytes]:
    """The text as it is; in UTF-8, with control characters as spaces (pytorch #130622) and lone backslashes doubled (pytorch #98432);
    with words that are no JSON as null as well (kineto #105)."""
    yield raw
    text = raw.decode("utf-8", errors="replace").encode().translate(_SPACED)
    text = _BACKSLASH.sub(lambda found: found[0] if found[1] else rb"\\", text)
    yield text
    yield _BARE_WORD.sub(rb"\1null", text)
