"""Our compact Markdown (headings, bullets, bold, tables) as a terminal shows it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TextIO

BOLD, DIM, RESET = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_BOLD_SPAN = re.compile(r"\*\*(.+?)\*\*")
_CELL_END = re.compile(r"(?<!\\)\|")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_RULE = re.compile(r"\|(\s*:?-+:?\s*\|)+")
_NUMBER = re.compile(r"[+-]?[\d,]*\.?\d+(e[+-]?\d+)?( ?%)?")


def is_styled(stream: TextIO | None, environ: Mapping[str, str]) -> bool:
    """Whether text for this stream is styled: it is a terminal, and neither NO_COLOR nor TERM=dumb says otherwise."""
    plain = bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"
    return stream is not None and not plain and stream.isatty()


def render(markdown: str, width: int) -> str:
    """The Markdown in ANSI bold and dim, its tables aligned; a table wider than `width` columns becomes records."""
    return "\n".join(_rendered(without_controls(markdown).split("\n"), width))


def without_controls(text: str) -> str:
    """The text without control characters: a name from somebody else's file must not steer the terminal."""
    return _CONTROL.sub("", text)


def _rendered(lines: Sequence[str], width: int) -> Iterator[str]:
    at = 0
    while at < len(lines):
        end = at
        while end < len(lines) and lines[end].startswith("|"):
            end += 1
        if end - at >= 2 and _RULE.fullmatch(lines[at + 1].strip()):
            yield from _table([_cells(line) for i, line in enumerate(lines[at:end]) if i != 1], width)
            at = end
        else:
            yield _line(lines[at])
            at += 1


def _line(line: str) -> str:
    if line.startswith("#"):
        return f"{BOLD}{line.lstrip('#').strip().replace('**', '')}{RESET}"
    bullet, mark, rest = line.partition("- ")
    text = f"{bullet}{DIM}-{RESET} {rest}" if mark and not bullet.strip() else line
    return _bold(text)


def _bold(text: str) -> str:
    return _BOLD_SPAN.sub(rf"{BOLD}\1{RESET}", text)


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace("\\|", "|") for cell in _CELL_END.split(inner)]


def _table(rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    head, body = rows[0], [[*row, *[""] * (len(rows[0]) - len(row))] for row in rows[1:]]
    widths = [max(_width(row[i]) for row in (head, *body)) for i in range(len(head))]
    if sum(widths) + 2 * (len(widths) - 1) > width:
        yield from _records(head, body)
        return
    right = [bool(body) and all(not row[i] or _NUMBER.fullmatch(row[i]) for row in body) for i in range(len(head))]
    yield BOLD + _aligned(head, widths, right) + RESET
    yield DIM + "  ".join("─" * size for size in widths) + RESET
    for row in body:
        yield _bold(_aligned(row, widths, right))


def _aligned(row: Sequence[str], widths: Iterable[int], right: Iterable[bool]) -> str:
    padded = [
        " " * (size - _width(cell)) + cell if to_right else cell + " " * (size - _width(cell))
        for cell, size, to_right in zip(row, widths, right, strict=False)
    ]
    return "  ".join(padded).rstrip()


def _records(head: Sequence[str], body: Iterable[Sequence[str]]) -> Iterator[str]:
    label = max(_width(name) for name in head)
    for row in body:
        for name, cell in zip(head, row, strict=False):
            if cell:
                yield f"  {DIM}{name}{' ' * (label - _width(name))}{RESET}  {_bold(cell)}"
        yield ""


def _width(text: str) -> int:
    """Terminal columns of a text: bold marks take none, East Asian wide characters take two."""
    bare = _BOLD_SPAN.sub(r"\1", text)
    if bare.isascii():
        return len(bare)
    import unicodedata

    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in bare)
