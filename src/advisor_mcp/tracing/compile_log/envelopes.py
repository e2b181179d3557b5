"""The entries of a TORCH_TRACE log: a glog prefix, a JSON envelope on the same line, and a payload of tab-indented lines.

Format: torch 2.13 torch/_logging/_internal.py `trace_structured` and `TorchLogsFormatter`; read the way tlparse does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from advisor_mcp.tracing.pieces import Pieces

CHUNK_BYTES = 1 << 20
LONGEST_LINE = 1 << 20
LONGEST_PAYLOAD = 1 << 16
LONGEST_SHORT_LINE = 400
TAB = 9
_PREFIX = re.compile(
    rb"(?:\[rank\d+\]:?\s*)?[VIWEC](?P<time>\d{4} \d\d:\d\d:\d\d\.\d{6}) \d+ [^\]]*\] (?P<json>\{\"(?P<kind>\w+)\".*)"
)


@dataclass(slots=True)
class Envelope:
    """One entry: its kind is the first key; `payload` holds the lines of those kinds that the reader asked for."""

    kind: str
    time: str
    body: dict[str, Any]
    payload: list[str] = field(default_factory=list)
    size: int = 0
    cut: bool = False

    def add(self, line: bytes, short_lines: bool) -> None:
        """Take in a payload line while there is room; `short_lines` leaves out the long ones instead of ending there."""
        if len(line) > LONGEST_SHORT_LINE and short_lines:
            return
        self.size += len(line)
        if self.size > LONGEST_PAYLOAD:
            self.cut = True
            return
        self.payload.append(line[1:].decode("utf-8", "replace").rstrip("\r"))

    @property
    def text(self) -> str:
        """The payload as it was logged."""
        return "\n".join(self.payload)


@dataclass(slots=True)
class Tally:
    """What could not be read: lines that are no entry, entries whose JSON is damaged, an end in the middle of an entry.

    `awaited` says that an entry announced a payload of which no line has come yet.
    """

    entries: int = 0
    foreign_lines: int = 0
    damaged: int = 0
    overlong: int = 0
    awaited: bool = False
    cut_off: bool = False


def entries(
    file: BinaryIO, wanted: Callable[[str], bool], tally: Tally, check: Callable[[], None] = lambda: None
) -> Iterator[Envelope]:
    """Every entry, in order; those that are not `wanted` by kind come without body and payload. Memory is bounded.

    `tally` is filled on the way; `check` is called between reads and may raise to stop the work.
    """
    open_entry: Envelope | None = None
    for line in _lines(file, tally, check):
        if line[:1] == b"\t":
            tally.awaited = False
            if open_entry is not None and open_entry.body:
                open_entry.add(line, open_entry.kind == "chromium_event")
            continue
        if not line.strip():
            continue  # some collectors repeat entries with blank lines between
        if open_entry is not None:
            yield open_entry
        open_entry = _entry(line, wanted, tally)
    if open_entry is not None:
        yield open_entry


def _entry(line: bytes, wanted: Callable[[str], bool], tally: Tally) -> Envelope | None:
    found = _PREFIX.match(line)
    if not found:
        tally.foreign_lines += 1
        return None
    kind, time = found["kind"].decode(), found["time"].decode()
    tally.entries += 1
    tally.awaited = b'"has_payload"' in line
    if not wanted(kind):
        return Envelope(kind, time, {})
    try:
        body = json.loads(found["json"])
    except (ValueError, RecursionError):
        tally.damaged += 1
        return None
    return Envelope(kind, time, body if isinstance(body, dict) else {})


def _lines(file: BinaryIO, tally: Tally, check: Callable[[], None]) -> Iterator[bytes]:
    rest, skipping = b"", False
    pieces = Pieces(file)
    while part := pieces.read(CHUNK_BYTES):
        check()
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            if not skipping:
                yield line
            skipping = False
        if len(rest) > LONGEST_LINE:
            tally.overlong += not skipping
            rest, skipping = b"", True
    if rest and not skipping:
        read = tally.foreign_lines + tally.damaged
        yield rest
        tally.cut_off = tally.foreign_lines + tally.damaged > read
    tally.cut_off = tally.cut_off or tally.awaited or pieces.broken
