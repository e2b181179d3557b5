"""What a file of evidence is, by its content; its name says nothing."""

from __future__ import annotations

import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

from advisor_mcp.errors import CannotAnswer, UsageError, shown
from advisor_mcp.tracing.jsonstream import BOM

Kind: TypeAlias = Literal["kineto", "nsight", "memory_snapshot", "memory_timeline", "compile_log"]

HEAD = 256 * 1024
NEEDS = "a trace of torch.profiler, an Nsight Systems sqlite export, an allocator snapshot, a memory timeline or a TORCH_TRACE log"

_TIMELINE_ROWS = re.compile(rb"\s*\[\s*\[\s*-?\d")
_GLOG = re.compile(rb"^[VIWEC]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ", re.MULTILINE)
_FOREIGN = (
    (b"PK\x03\x04", "it is a zip archive: unpack it and give the trace inside"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: unpack it, or compress it with gzip"),
    (b"BZh", "it is compressed with bzip2: unpack it, or compress it with gzip"),
    (b"\xfd7zXZ", "it is compressed with xz: unpack it, or compress it with gzip"),
    (b"\xff\xfe", "it is UTF-16 text: save it as UTF-8"),
    (b"\x0a", "it looks like a Perfetto trace: give the JSON that torch.profiler exports"),
)


def recognise(path: Path, said: str) -> Kind:
    """The kind of a file of evidence. Raises `UsageError` for one that cannot be read, `CannotAnswer` for one of another kind."""
    head = _head(path, said).removeprefix(BOM)
    if not head.strip():
        raise CannotAnswer(f"{shown(said, 200)} is empty", needs=[NEEDS])
    if head.startswith(b"SQLite format 3\0"):
        return "nsight"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "memory_snapshot"
    if _TIMELINE_ROWS.match(head):
        return "memory_timeline"
    if head.lstrip()[:1] in (b"{", b"["):
        return "kineto"
    if _GLOG.search(head[:4096]):
        return "compile_log"
    raise CannotAnswer(f"{shown(said, 200)} is no trace: {_foreign(head, path)}", needs=[NEEDS])


@contextmanager
def reading_from(said: str) -> Iterator[None]:
    """What the system says against reading the file or folder that a caller named so becomes a `UsageError`."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or "it is not usable").lower()
        raise UsageError(f"{shown(said, 200)} cannot be read: {reason}") from None


def _head(path: Path, said: str) -> bytes:
    with reading_from(said):
        if not path.exists():
            raise UsageError(f"there is no file {shown(said, 200)}; name a trace as the profiler wrote it")
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{shown(said, 200)} is not a file that can be read")
        with path.open("rb") as file:
            raw = file.read(HEAD)
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    unpacking = zlib.decompressobj(wbits=31)
    try:
        head = unpacking.decompress(raw, HEAD)
    except zlib.error:
        head = b""
    if not head and not unpacking.eof:
        raise CannotAnswer(f"{shown(said, 200)} is a damaged gzip file", needs=["the file copied whole"])
    return head


def _foreign(head: bytes, path: Path) -> str:
    if head[257:262] == b"ustar":
        return "it is a tar archive: unpack it and give the trace inside"
    if path.suffix in (".nsys-rep", ".qdrep"):
        return "export it first with nsys export --type sqlite"
    if path.suffix == ".ncu-rep":
        return "it is a report of Nsight Compute, which profiles single kernels"
    return next((words for magic, words in _FOREIGN if head.startswith(magic)), "nothing in it is known")
