"""Reads a pickle of plain lists, dictionaries, numbers and text as a stream, in bounded memory.

`pickle.Unpickler` with a `find_class` that raises runs no code, but a hostile file can still make it take any amount of
memory (one LONG_BINPUT sizes its memo), and it keeps every object to the end. This machine knows only the opcodes
that plain data needs, and hands each finished container to a fold that may put something smaller in its place.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from advisor_mcp.errors import UsageError
from advisor_mcp.tracing.pieces import Pieces

CHUNK_BYTES = 1 << 20
LONGEST_FIXED = 300  # no opcode whose length stands in one byte is longer
LONGEST_INTEGER = 9  # bytes of an unsigned 64-bit number with its sign
TEXT_OVERHEAD = 100  # bytes that CPython spends on a short text in a dictionary
_SHORT, _INTEGER, _LENGTH = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")
_LONG_LENGTH, _FLOAT = struct.Struct("<Q"), struct.Struct(">d")
_FORBIDDEN = {
    code: what
    for what, codes in {
        "names code to import": b"ci\x93\x82\x83\x84",
        "calls code": b"Rob\x81\x92",
        "refers to objects outside the file": b"PQ",
    }.items()
    for code in codes
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may cost: bytes read, containers and items kept, entries on the stack and in the memo, bytes of text.

    With the defaults about 0.5 GB at worst, for a file made to cost that; a real snapshot stays far below.
    """

    read_bytes: int = 2 << 30
    kept: int = 2_000_000
    entries: int = 16_000_000
    text_bytes: int = 64 << 20


class MadeDict(dict[Any, Any]):
    """A dictionary as it was read; `memo` is its place in the memo, -1 when it has none."""

    memo = -1


class MadeList(list[Any]):
    """A list as it was read; `memo` is its place in the memo, -1 when it has none."""

    memo = -1


Made = MadeDict | MadeList
Fold = Callable[[Any, Any], Any]
"""Called with a container that got items and with what lies below it on the stack; returns what stands in its place."""


class _Dropped:
    """What a fold returns for an item that need not be kept; lists leave it out."""


DROPPED = _Dropped()


def load(file: BinaryIO, fold: Fold, limits: Limits | None = None, check: Callable[[], None] = lambda: None) -> Any:
    """What a pickle of plain data holds (protocols 2 to 5), each container passed through `fold` when it got items.

    Raises `UsageError` with one sentence for a pickle that would build anything else, is damaged or costs more than
    `limits`. `check` is called between reads and may raise to stop the work.
    """
    machine = _Machine(file, fold, limits or Limits(), check)
    try:
        return machine.run()
    except (IndexError, KeyError, struct.error, TypeError, ValueError, AttributeError):
        raise UsageError(f"the snapshot is damaged or cut off at byte {machine.place():,}: dump it again") from None


class _Machine:
    """The stack machine of a pickle, cut down to plain data."""

    def __init__(self, file: BinaryIO, fold: Fold, limits: Limits, check: Callable[[], None]) -> None:
        self.file, self.fold, self.limits, self.check = Pieces(file), fold, limits, check
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []
        self.data, self.at, self.safe = b"", 0, -1
        self.dropped = self.kept = self.tuples = self.text_bytes = 0
        self.texts: dict[str, str] = {}
        self.ended = False

    def place(self) -> int:
        """The byte that is being read, counted from the start of the unpacked file."""
        return self.dropped + self.at

    def run(self) -> Any:
        """Run until STOP: what makes up nearly all of a snapshot is handled here, the rest through a table."""
        data, at, safe = self.data, self.at, self.safe
        stack, memo, rare = self.stack, self.memo, _RARE
        push = stack.append
        while True:
            if at > safe:
                self.at = at
                self.refill()
                data, at, safe = self.data, self.at, self.safe
            code = data[at]
            if code == 0x68:  # BINGET
                push(memo[data[at + 1]])
                at += 2
            elif code == 0x6A:  # LONG_BINGET
                push(memo[_LENGTH.unpack_from(data, at + 1)[0]])
                at += 5
            elif code == 0x4B:  # BININT1
                push(data[at + 1])
                at += 2
            elif code == 0x4A:  # BININT
                push(_INTEGER.unpack_from(data, at + 1)[0])
                at += 5
            elif code == 0x8A:  # LONG1
                length = data[at + 1]
                if length > LONGEST_INTEGER:
                    raise ValueError("a number of more than 64 bits")
                push(int.from_bytes(data[at + 2 : at + 2 + length], "little", signed=True))
                at += 2 + length
            elif code == 0x94:  # MEMOIZE
                self.remember(len(memo))
                at += 1
            elif code == 0x2E:  # STOP
                self.at = at
                return stack.pop()
            else:
                self.at = at + 1
                handle = rare.get(code)
                if handle is None:
                    raise self.refused(code)
                handle(self)
                data, at, safe = self.data, self.at, self.safe

    def refused(self, code: int) -> UsageError:
        if what := _FORBIDDEN.get(code):
            return UsageError(
                f"the snapshot is refused: its pickle {what} (byte {self.place():,}), and a CUDA allocator snapshot holds "
                "only lists, dictionaries, numbers and text"
            )
        return UsageError(
            f"the snapshot is damaged, cut off or no pickle of plain data at byte {self.place():,}: dump it again with "
            "torch.cuda.memory._dump_snapshot"
        )

    def refill(self, wanted: int = LONGEST_FIXED) -> None:
        """Drop what was read and read on until `wanted` bytes are at hand or the file ends; IndexError past its end."""
        if self.ended:
            raise IndexError("past the end")
        self.dropped += self.at
        parts = [self.data[self.at :]]
        held = len(parts[0])
        while held < wanted + CHUNK_BYTES:
            self.check()
            part = self.file.read(CHUNK_BYTES)
            if not part:
                self.ended = True
                parts.append(bytes(LONGEST_FIXED))  # 0 is no opcode: what runs past the end is refused
                break
            parts.append(part)
            held += len(part)
        if self.dropped + held > self.limits.read_bytes:
            raise self.too_much(f"unpacks to more than {self.limits.read_bytes:,} bytes")
        if max(len(self.stack), len(self.memo), len(self.marks), self.tuples) > self.limits.entries:
            raise self.too_much(f"holds more than {self.limits.entries:,} objects")
        self.data, self.at = b"".join(parts), 0
        self.safe = len(self.data) - LONGEST_FIXED

    def too_much(self, what: str) -> UsageError:
        return UsageError(f"the snapshot {what}: record with a smaller max_entries and dump it again")

    def remember(self, place: int) -> None:
        made = self.stack[-1]
        if place == len(self.memo):
            self.memo.append(made)
        else:
            self.memo[place] = made  # a place out of order is damage: picklers number them as they go
        if isinstance(made, MadeDict | MadeList):
            made.memo = place

    def start(self, made: Made) -> None:
        self.stack.append(made)
        self.keep(1)

    def keep(self, count: int) -> None:
        self.kept += count
        if self.kept > self.limits.kept:
            raise self.too_much(f"holds more than {self.limits.kept:,} items beside its events")

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if self.at + count > self.safe:
            if count > self.limits.text_bytes:
                raise self.too_much(f"has a text of {count:,} bytes")
            self.refill(count)
            if self.at + count > self.safe:
                raise IndexError("past the end")
        found = self.data[self.at : self.at + count]
        self.at += count
        return found

    def skip(self, count: int) -> None:
        self.take(count)

    def add_text(self, count: int) -> None:
        """Push a text; the same text is kept once, however often it is written."""
        read = self.take(count).decode("utf-8", "replace")
        known = self.texts.setdefault(read, read)
        if known is read:
            self.text_bytes += count + TEXT_OVERHEAD
            if self.text_bytes > self.limits.text_bytes:
                raise self.too_much(f"holds more than {self.limits.text_bytes:,} bytes of text")
        self.stack.append(known)

    def popped(self) -> list[Any]:
        """The items above the last mark, taken off the stack."""
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def close(self) -> None:
        """Pass the container on top through the fold, and put what came back in its place everywhere."""
        made = self.stack[-1]
        new = self.fold(made, self.stack[-2] if len(self.stack) > 1 else None)
        if new is not made:
            self.stack[-1] = new
            self.kept -= 1 + len(made)
            if made.memo >= 0:
                self.memo[made.memo] = new

    def extend(self, items: list[Any]) -> None:
        if items and items[0] is DROPPED:
            items = [item for item in items if item is not DROPPED]
        target = self.stack[-1]
        if type(target) is not MadeList:
            raise TypeError("items for what is no list")
        self.keep(len(items))
        target.extend(items)
        self.close()

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not MadeDict:
            raise TypeError("items for what is no dictionary")
        held = len(target)
        target.update(zip(items[::2], items[1::2], strict=True))
        self.keep(len(target) - held)
        self.close()

    def add_tuple(self, items: list[Any]) -> None:
        """Push a tuple of numbers and texts, such as the id of a pool."""
        if any(isinstance(item, dict | list | tuple) for item in items):
            raise TypeError("a tuple of containers")
        self.tuples += 1
        self.stack.append(tuple(items))

    def last(self, count: int) -> list[Any]:
        """The last `count` items, taken off the stack."""
        items = self.stack[-count:]
        if len(items) != count:
            raise IndexError("too few items")
        del self.stack[-count:]
        return items


def _number(layout: struct.Struct) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(layout.unpack(m.take(layout.size))[0])


def _text(layout: struct.Struct) -> Callable[[_Machine], None]:
    return lambda m: m.add_text(layout.unpack(m.take(layout.size))[0])


def _constant(value: object) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(value)


def _append(m: _Machine) -> None:
    m.extend([m.stack.pop()])


def _set_item(m: _Machine) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    m.update([key, value])


_RARE: dict[int, Callable[[_Machine], None]] = {
    0x80: lambda m: m.skip(1),  # PROTO
    0x95: lambda m: m.skip(8),  # FRAME
    0x28: lambda m: m.marks.append(len(m.stack)),  # MARK
    0x7D: lambda m: m.start(MadeDict()),  # EMPTY_DICT
    0x5D: lambda m: m.start(MadeList()),  # EMPTY_LIST
    0x75: lambda m: m.update(m.popped()),  # SETITEMS
    0x73: _set_item,  # SETITEM
    0x65: lambda m: m.extend(m.popped()),  # APPENDS
    0x61: _append,  # APPEND
    0x74: lambda m: m.add_tuple(m.popped()),  # TUPLE
    0x29: _constant(()),  # EMPTY_TUPLE
    0x85: lambda m: m.add_tuple(m.last(1)),  # TUPLE1
    0x86: lambda m: m.add_tuple(m.last(2)),  # TUPLE2
    0x87: lambda m: m.add_tuple(m.last(3)),  # TUPLE3
    0x4E: _constant(None),  # NONE
    0x88: _constant(True),  # NEWTRUE
    0x89: _constant(False),  # NEWFALSE
    0x4D: _number(_SHORT),  # BININT2
    0x47: _number(_FLOAT),  # BINFLOAT
    0x8C: lambda m: m.add_text(m.take(1)[0]),  # SHORT_BINUNICODE
    0x58: _text(_LENGTH),  # BINUNICODE
    0x8D: _text(_LONG_LENGTH),  # BINUNICODE8
    0x71: lambda m: m.remember(m.take(1)[0]),  # BINPUT
    0x72: lambda m: m.remember(_LENGTH.unpack(m.take(4))[0]),  # LONG_BINPUT
}
