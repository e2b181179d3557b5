"""The text of a configuration and where in which file each of its characters stands."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

LARGEST_BYTES = 2_000_000  # the largest configuration seen in 429 real ones has 60,000


class Unreadable(Exception):
    """The bytes are no text that a tool could read; `offset` is where that shows."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.message, self.offset = message, offset


@dataclass(frozen=True)
class SourceFile:
    """A text with a name and how its bytes spell it.

    `outer` and `offsets` say where each character of an embedded text stands in its file.
    """

    name: str
    text: str
    path: Path | None = None
    outer: SourceFile | None = None
    offsets: Sequence[int] = field(default=(), repr=False)
    encoding: str = "utf-8"

    @cached_property
    def _starts(self) -> list[int]:
        starts, at = [0], -1
        while (at := self.text.find("\n", at + 1)) >= 0:
            starts.append(at + 1)
        return starts

    @property
    def root(self) -> SourceFile:
        """The file on disk (or the text given) that this one is part of."""
        return self.outer.root if self.outer else self

    def resolve(self, offset: int) -> int:
        """The offset in the root file of a character of this text."""
        if self.outer is None:
            return max(0, min(offset, len(self.text)))
        if not self.offsets:
            return self.outer.resolve(0)
        if offset >= len(self.offsets):
            return self.outer.resolve(self.offsets[-1] + 1)
        return self.outer.resolve(self.offsets[max(offset, 0)])

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1, in the root file."""
        root, at = self.root, self.resolve(offset)
        line = bisect_right(root._starts, at)
        return line, at - root._starts[line - 1] + 1

    def line(self, number: int) -> str:
        """A line of this text, from 1, without its end."""
        start = self._starts[number - 1]
        end = self._starts[number] if number < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")

    def embedded(self, text: str, offsets: Sequence[int], name: str | None = None) -> SourceFile:
        """A text that stands inside this one; `offsets` has the place of each of its characters here."""
        return SourceFile(name or self.name, text, self.path, self, offsets)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` of a text."""

    source: SourceFile
    start: int
    end: int

    @property
    def line(self) -> int:
        """Line in the root file, from 1."""
        return self.source.position(self.start)[0]

    @property
    def column(self) -> int:
        """Column in the root file, from 1."""
        return self.source.position(self.start)[1]

    @property
    def text(self) -> str:
        """The characters themselves."""
        return self.source.text[self.start : self.end]


def line_start(text: str, at: int) -> int:
    """Where the line of a character begins."""
    return text.rfind("\n", 0, at) + 1


def line_end(text: str, at: int) -> int:
    """Where the line of a character ends, its line feed included."""
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


class Utf8:
    """A text as the UTF-8 that parsers read, and the way from the bytes that they count back to its characters."""

    def __init__(self, text: str) -> None:
        self.data = text.encode()
        self._continuing = array("I", (found.start() for found in re.finditer(rb"[\x80-\xbf]", self.data)))

    def at(self, byte: int) -> int:
        """The character that begins at a byte of `data`: one for each byte before it that continues no other."""
        return byte - bisect_left(self._continuing, byte)


def refuse_large(size: int) -> None:
    """Raises `Unreadable` for more bytes than a configuration has."""
    if size > LARGEST_BYTES:
        raise Unreadable(f"has {size:,} bytes; a configuration of more than {LARGEST_BYTES:,} is not read")


def decode(name: str, raw: bytes, path: Path | None = None) -> SourceFile:
    """The text of a file's bytes: UTF-8, or UTF-16 with its mark. Raises `Unreadable` for what no tool would read."""
    refuse_large(len(raw))
    marks = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb": "utf-8-sig"}
    encoding = marks.get(raw[:2], "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 text (byte {error.start:,} cannot be decoded)") from None
    if "\0" in text:
        raise Unreadable("holds NUL characters, so it is not a text file", text.index("\0"))
    return SourceFile(name, text, path, encoding=encoding)
