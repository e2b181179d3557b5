"""What a configuration file says, as a tree whose every part knows where it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from advisor_mcp.linting.source import SourceFile, Span

Syntax: TypeAlias = Literal["yaml", "json", "toml", "shell", "python", "env"]
DEEPEST = 100
MOST_NODES = 200_000


class Unknown:
    """The one value of what only the run can tell: a variable of the shell, a template's field."""

    _one: Unknown | None = None

    def __new__(cls) -> Unknown:
        if cls._one is None:
            cls._one = super().__new__(cls)
        return cls._one

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __bool__(self) -> bool:
        raise TypeError("an unknown value is neither true nor false; ask for a known one first")


UNKNOWN: Final = Unknown()


class Malformed(Exception):
    """The text is not in the syntax of its file; one sentence and where it stops.

    `node` is what a more tolerant reader makes of it, where there is one.
    """

    def __init__(self, message: str, offset: int = 0, node: Node | None = None) -> None:
        super().__init__(message)
        self.message, self.offset, self.node = message, offset, node


class IsTemplate(Exception):
    """The text is a template (Helm, Jinja) and no configuration until somebody fills it in."""


@dataclass(slots=True)
class Scalar:
    """A single value: `text` as written (quotes removed), `value` as the file's syntax reads it."""

    source: SourceFile
    start: int
    end: int
    text: str
    value: Any
    quoted: bool = False

    @property
    def span(self) -> Span:
        """Where it stands."""
        return Span(self.source, self.start, self.end)


@dataclass(slots=True)
class Entry:
    """A key of a mapping with its value; `outer_start` and `outer_end` enclose both."""

    key: Scalar
    value: Node

    @property
    def name(self) -> str:
        """The key as text."""
        return self.key.text


@dataclass(slots=True)
class Mapping:
    """Keys and values in order; a repeated key keeps its last value in `get`, as the readers do."""

    source: SourceFile
    start: int
    end: int
    entries: list[Entry] = field(default_factory=list)
    flow: bool = False

    @property
    def span(self) -> Span:
        """Where it stands."""
        return Span(self.source, self.start, self.end)

    def entry(self, name: str) -> Entry | None:
        """The entry of a key, the last one where it is repeated."""
        return next((entry for entry in reversed(self.entries) if entry.name == name), None)

    def get(self, name: str) -> Node | None:
        """The value of a key, or None."""
        entry = self.entry(name)
        return entry.value if entry else None

    def keys(self) -> list[str]:
        """The keys as text."""
        return [entry.name for entry in self.entries]


@dataclass(slots=True)
class Sequence:
    """Values in order."""

    source: SourceFile
    start: int
    end: int
    items: list[Node] = field(default_factory=list)
    flow: bool = False

    @property
    def span(self) -> Span:
        """Where it stands."""
        return Span(self.source, self.start, self.end)


Node: TypeAlias = Scalar | Mapping | Sequence


def plain(node: Node | None) -> Any:
    """The value as Python objects, `UNKNOWN` where only the run can tell."""
    if isinstance(node, Mapping):
        return {entry.name: plain(entry.value) for entry in node.entries}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return node.value if node else None


def walk(node: Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Entry]]:
    """Every entry below a node with the path of its keys; places in lists are numbers."""
    if isinstance(node, Mapping):
        for entry in node.entries:
            here = (*path, entry.name)
            yield here, entry
            yield from walk(entry.value, here)
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from walk(item, (*path, str(index)))


def at(node: Node | None, *path: str) -> Node | None:
    """The node at a path of keys (and numbers in lists), or None."""
    for name in path:
        if isinstance(node, Mapping):
            node = node.get(name)
        elif isinstance(node, Sequence) and name.isdigit() and int(name) < len(node.items):
            node = node.items[int(name)]
        else:
            return None
    return node
