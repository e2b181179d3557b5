"""A persona as its file states it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Severity = Literal["must", "should"]


@dataclass(frozen=True, slots=True)
class Item:
    """An objective or a demand on style; an essential one is kept in the brief prompt."""

    id: str
    text: str
    essential: bool = False


@dataclass(frozen=True, slots=True)
class Domain:
    """A field that the persona covers, with its techniques and tools by name."""

    id: str
    title: str
    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the protocol that an answer follows, in order."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Check:
    """What can be tested on the text of an answer; every pattern ignores case and reads `^` and `$` per line.

    `when` limits the check to texts in which it matches. No pattern of `forbid` may match, every pattern of `require`
    must, and with `table_columns` the text holds a table with exactly these columns, and none that starts with the same
    column and goes on otherwise.
    """

    forbid: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    table_columns: tuple[str, ...] = ()
    when: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the persona, and the check that enforces it where one can be made."""

    id: str
    severity: Severity
    text: str
    check: Check | None = None


@dataclass(frozen=True, slots=True)
class Persona:
    """A persona as its file states it; `body_line` is the line of the file on which the body starts."""

    name: str
    title: str
    description: str
    tools: tuple[str, ...]
    background: str
    objectives: tuple[Item, ...]
    domains: tuple[Domain, ...]
    protocol: tuple[Step, ...]
    style: tuple[Item, ...]
    rules: tuple[Rule, ...]
    body: str
    origin: str
    body_line: int

    def ids(self) -> Iterator[str]:
        """Every id of the front matter, in the order of the file."""
        for section in (self.objectives, self.domains, self.protocol, self.style, self.rules):
            yield from (entry.id for entry in section)
