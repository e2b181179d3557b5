"""Log files: which text a caller means by a path or a pasted log, read with a bound on its size."""

from __future__ import annotations

import codecs
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from advisor_mcp import access
from advisor_mcp.errors import UsageError, shown
from advisor_mcp.results import number

LARGEST_LOG_BYTES = 16_000_000  # tens of thousands of steps; only the end of a longer file is read
LONGEST_PATH = 1024  # characters; a log's text is longer or has several lines


@dataclass(frozen=True, slots=True)
class LogFile:
    """The text of a log file, its size in bytes, and how many of its last bytes were read."""

    text: str
    size: int
    read: int


def log_text(given: str) -> tuple[str, tuple[str, ...]]:
    """A log and what to say of its reading: one short line is a path if there is such a file, or if it has no blanks.

    Raises `UsageError` for a path that cannot be read or may not be.
    """
    if "\n" in given or "\r" in given or len(given) > LONGEST_PATH:
        return given, ()
    words = " " in given.strip()
    try:
        path = access.readable(given)
        present = path.exists()
    except (OSError, ValueError):
        present = False
    except UsageError:
        if not words:
            raise
        present = False
    if words and not present:
        return given, ()
    if present and not path.is_file():
        raise UsageError(f"{shown(given)} is not a regular file; give the path of a log or its text")
    try:
        return _file_text(path)
    except (OSError, ValueError):
        raise UsageError(f"there is no readable log at {shown(given)}; give a path or the log's text") from None


def _file_text(path: Path) -> tuple[str, tuple[str, ...]]:
    file = read_log(path)
    part = f"of the log's {number(file.size)} bytes the last {number(file.read)} were read"
    return file.text, (part,) if file.read < file.size else ()


def read_log(path: Path, most: int | None = None) -> LogFile:
    """The text of a log file, or its last `most` (LARGEST_LOG_BYTES) bytes from a line's start, in UTF-8 or by its byte order mark.

    Raises `OSError` where it cannot be read or is no regular file: a device has no end and a pipe may never answer.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
    size, most = status.st_size, most or LARGEST_LOG_BYTES
    with open(path, "rb", opener=_never_waiting) as file:
        encoding = _encoding(file.read(4) or b"")
        start = -(min(0, most - size) // 4) * 4  # no character of UTF-16 or UTF-32 is cut
        file.seek(start)
        raw = file.read(most) or b""
    text = raw.decode(encoding, errors="replace").removeprefix("\ufeff")
    return LogFile(text.partition("\n")[2] if start else text, size, len(raw))


def _never_waiting(path: str, flags: int) -> int:
    # some regular files of the kernel's answer only when something happens
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _encoding(head: bytes) -> str:
    # the mark of UTF-32 starts with that of UTF-16
    for mark, name in (
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if head.startswith(mark):
            return name
    return "utf-8"
