"""Words of a command line: text whose every piece knows where it was written, and what only the run can tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from advisor_mcp.linting.source import SourceFile, Span

HOLE = "\0"


@dataclass(frozen=True, slots=True)
class Piece:
    """Text from `start` of a source, or a hole: what a variable holds that the script does not set."""

    text: str
    source: SourceFile
    start: int
    end: int

    @property
    def is_hole(self) -> bool:
        """Whether only the run can tell what stands here."""
        return self.text == HOLE


Text = tuple[Piece, ...]


def joined(text: Iterable[Piece]) -> str:
    """The characters, with a hole for what is unknown."""
    return "".join(piece.text for piece in text)


@dataclass(frozen=True, slots=True)
class Word:
    """One argument. `text` has a hole for each unknown part; `spreads` may stand for any number of arguments."""

    pieces: Text
    span: Span
    quoted: bool = False

    @property
    def text(self) -> str:
        """The characters, with a hole for what is unknown."""
        return joined(self.pieces)

    @property
    def known(self) -> bool:
        """Whether every part of it is known."""
        return HOLE not in self.text

    @property
    def spreads(self) -> bool:
        """An unknown variable outside quotes: nothing, one argument or many."""
        return not self.quoted and self.text == HOLE

    def sub(self, start: int) -> Span:
        """The place of the characters from `start` of the text on."""
        passed = 0
        for piece in self.pieces:
            if start < passed + len(piece.text):
                inner = start - passed
                exact = piece.end - piece.start == len(piece.text)
                return Span(piece.source, piece.start + (inner if exact else 0), piece.end)
            passed += len(piece.text)
        return self.span

    @property
    def offsets(self) -> list[int]:
        """The place in the source of each character of the text."""
        found: list[int] = []
        for piece in self.pieces:
            exact = piece.end - piece.start == len(piece.text)
            found += [piece.start + (i if exact else 0) for i in range(len(piece.text))]
        return found


def word(pieces: Text, quoted: bool, fallback: Span) -> Word:
    """A word of these pieces; its span runs over those that stand together."""
    if not pieces:
        return Word(pieces, fallback, quoted)
    first, last = pieces[0], pieces[-1]
    end = last.end if last.source is first.source and last.end >= first.start else first.end
    return Word(pieces, Span(first.source, first.start, end), quoted)


def split(text: Text, fallback: Span) -> Iterator[Word]:
    """The words that an unquoted expansion makes of a value: cut at white space, holes kept."""
    current: list[Piece] = []
    for piece in text:
        if piece.is_hole:
            current.append(piece)
            continue
        at = 0
        exact = piece.end - piece.start == len(piece.text)
        for part in _parts(piece.text):
            if part.isspace():
                if current:
                    yield word(tuple(current), False, fallback)
                    current = []
            else:
                start = piece.start + at if exact else piece.start
                current.append(Piece(part, piece.source, start, start + len(part) if exact else piece.end))
            at += len(part)
    if current:
        yield word(tuple(current), False, fallback)


def _parts(text: str) -> list[str]:
    parts: list[str] = []
    for char in text:
        if parts and parts[-1][-1].isspace() == char.isspace():
            parts[-1] += char
        else:
            parts.append(char)
    return parts
