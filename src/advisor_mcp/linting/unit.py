"""One use of one tool: the settings it was given, by the tool's own names, wherever they were written."""

from __future__ import annotations

import re
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from advisor_mcp.linting import versions
from advisor_mcp.linting.concepts import CONCEPTS
from advisor_mcp.linting.options import Option, Table, table, tools
from advisor_mcp.linting.source import SourceFile, Span
from advisor_mcp.linting.tree import UNKNOWN, Entry, Mapping, Node, Scalar, Sequence, Syntax, plain, walk

TRUE, FALSE = {"true", "yes", "on", "1", "y", "t"}, {"false", "no", "off", "0", "n", "f", "none"}
LARGEST_SIZE = 2**24  # more ranks, samples or tokens of a step than anybody has; bounds what rules search
_SUFFIXES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, eq=False)
class Setting:
    """One option that was set: `name` is the tool's canonical one, `written` what stands in the file.

    `value` is what the file's syntax makes of it, `UNKNOWN` where only the run can tell; from a command line it is text.
    """

    name: str
    value: Any
    key: Span
    at: Span
    written: str
    syntax: Syntax
    node: Node | None = None
    parent: Mapping | None = None
    entry: Entry | None = None

    @property
    def known(self) -> bool:
        """Whether the value is known before the run."""
        return self.value is not UNKNOWN

    @property
    def shown(self) -> str:
        """``key: value`` as a message repeats it."""
        text = self.at.text if self.node is not None or self.at is not self.key else ""
        text = " ".join(text.split())
        if len(text) > 60:
            text = text[:57] + "..."
        if not text:
            return self.written
        return f"{self.written} {text}" if self.syntax == "shell" else f"{self.written}: {text}"


@dataclass(eq=False)
class Unit:
    """A use of `tool`; `scope` names its option table. `open` says that more options may follow that nobody can see.

    `settings` holds every setting by dotted canonical name (places in lists are numbers: ``datasets.0.path``), containers
    included. `env` has the environment variables that it will see, `launcher` the unit that starts it, `container` the
    container it runs in (with its `pod` and the whole `document`), `arguments` the words that are no options, `entry_point`
    the script or image, and `target` the version that was named for it.
    """

    tool: str
    source: SourceFile
    span: Span
    scope: str = ""
    tree: Mapping | None = None
    settings: dict[str, Setting] = field(default_factory=dict)
    env: dict[str, Setting] = field(default_factory=dict)
    open: bool = False
    program: str = ""
    arguments: tuple[str, ...] = ()
    launcher: Unit | None = None
    container: Unit | None = None
    entry_point: str = ""
    conditional: bool = False
    target: str | None = None
    pod: Mapping | None = None
    document: Mapping | None = None
    targets: Dictionary[str, str] = field(default_factory=dict)

    # ---- settings ----

    def __contains__(self, name: str) -> bool:
        return name in self.settings

    def __getitem__(self, name: str) -> Setting:
        return self.settings[name]

    def setting(self, *names: str) -> Setting | None:
        """The first of these that is set."""
        return next((self.settings[name] for name in names if name in self.settings), None)

    def absent(self, *names: str) -> bool:
        """Whether none of these is set, as far as anybody can see."""
        return not self.open and not any(name in self.settings for name in names)

    def value(self, name: str, default: Any = None) -> Any:
        """The value; `default` where it is not set, None where it is not known."""
        found = self.settings.get(name)
        if found is None:
            return default
        return found.value if found.known else None

    def text(self, name: str, default: str | None = None) -> str | None:
        """The value as text; `default` where it is not set, None where it is unknown or no single value."""
        value = self.value(name, default)
        if isinstance(value, bool):
            return "true" if value else "false"
        return None if value is None or isinstance(value, dict | list) else str(value)

    def number(self, name: str, default: float | None = None) -> int | float | None:
        """The value as a number (``"8"``, ``2e-5`` and ``32k`` count); `default` where it is not set, else None."""
        return as_number(self.value(name, default))

    def whole(self, name: str, default: int | None = None) -> int | None:
        """The value as a whole number; `default` where it is not set, else None."""
        return as_whole(self.value(name, default))

    def truth(self, name: str, default: bool | None = False) -> bool | None:
        """Whether it is on, in the spellings that tools read as such; None where it is neither or not known."""
        return as_truth(self.value(name, default))

    def on(self, *names: str) -> Setting | None:
        """The first of these switches that is on."""
        return next((self.settings[name] for name in names if name in self.settings and self.truth(name) is True), None)

    def items(self, name: str) -> list[Any] | None:
        """The value as a list; text is cut at commas and blanks, one value is a list of one. None: not set or unknown."""
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, str):
            return [part for part in re.split(r"[,\s]+", value.strip("[] ")) if part]
        return value if isinstance(value, list) else [value]

    def section(self, name: str) -> dict[str, Setting]:
        """The settings directly below a name, by their last part."""
        start = name + "." if name else ""
        return {
            key[len(start) :]: found
            for key, found in self.settings.items()
            if key.startswith(start) and "." not in key[len(start) :]
        }

    # ---- concepts that tools share ----

    def named(self, concept: str) -> Setting | None:
        """The setting that stands for a concept (`linting/concepts.py`) in this tool."""
        return self.setting(*CONCEPTS[concept].get(self.tool, ()))

    def name_of(self, concept: str) -> str:
        """What this tool calls a concept."""
        names = CONCEPTS[concept].get(self.tool, ())
        return names[0] if names else concept

    def size(self, concept: str, default: int = 1) -> int | None:
        """The whole number of a concept; `default` where it is not set, None where it is unknown, no whole number or absurd."""
        found = self.named(concept)
        if found is None:
            return default
        value = as_whole(found.value)
        return value if value is not None and abs(value) <= LARGEST_SIZE else None

    # ---- versions ----

    @cached_property
    def version(self) -> versions.Version | None:
        """The version it is held against; None means the newest."""
        return versions.parse(self.target) if self.target else None

    def since(self, version: str) -> bool:
        """Whether the version in use is this one or later."""
        return self.version is None or self.version >= (versions.parse(version) or ())

    def before(self, version: str) -> bool:
        """Whether the version in use is older than this one."""
        return not self.since(version)

    def package(self, name: str) -> versions.Version | None:
        """The version that was named for another package (`torch`, `transformers`), or None."""
        return versions.parse(self.targets[name]) if name in self.targets else None

    # ---- options ----

    @cached_property
    def table(self) -> Table | None:
        """The tool's option table, where there is one."""
        return table_of(self.tool)

    def option(self, name: str, scope: str | None = None) -> Option | None:
        """What the option table says of a name in the version in use."""
        known, place = self.table, self.scope if scope is None else scope
        return known.option(place, name, self.target) if known and place in known.scopes else None


OPTION_TABLES = {"hf_trainer": "transformers", "deepspeed_launcher": "deepspeed", "accelerate_launch": "accelerate"}


def table_of(tool: str) -> Table | None:
    """The option table that a tool's units are held against, where there is one."""
    name = OPTION_TABLES.get(tool, tool)
    return table(name) if name in tools() else None


def as_number(value: Any) -> int | float | None:
    """A value as a number, or None: whole where it is whole, ``32k`` is 32,000 and ``32K`` 32,768."""
    if isinstance(value, bool) or value is None or value is UNKNOWN:
        return None
    if isinstance(value, int | float):
        return value if value == value and abs(value) != float("inf") else None
    text = str(value).strip()
    scale = _SUFFIXES.get(text[-1:], 1) if text[-1:] in _SUFFIXES else 1
    text = text[:-1] if scale != 1 else text
    if not _NUMBER.fullmatch(text) or len(text) > 60:
        return None
    found = float(text.replace("_", "")) * scale
    if abs(found) == float("inf"):
        return None
    return int(found) if found == int(found) and "." not in text and "e" not in text.lower() else found


def as_whole(value: Any) -> int | None:
    """A value as a whole number, or None: ``2.0`` and ``2k`` are some, ``2.5`` is none."""
    found = as_number(value)
    return int(found) if found is not None and found == int(found) else None


def as_truth(value: Any) -> bool | None:
    """A value as on or off, or None where it is neither."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return True if value.lower() in TRUE else False if value.lower() in FALSE else None
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def flatten(tree: Mapping, syntax: Syntax, canonical: Dictionary[str, str] | None = None) -> dict[str, Setting]:
    """Every entry of a tree by its dotted path; a repeated key keeps its last place, as the readers do."""
    found: dict[str, Setting] = {}
    parents = _parents(tree)
    for path, entry in walk(tree):
        name = ".".join(path)
        name = canonical.get(name, name) if canonical else name
        key = entry.key.span
        node = entry.value
        value = plain(node)
        found[name] = Setting(
            name,
            value,
            key,
            Span(node.source, node.start, node.end),
            entry.key.text,
            syntax,
            node,
            parents.get(id(entry)),
            entry,
        )
    return found


def _parents(tree: Node) -> dict[int, Mapping]:
    found: dict[int, Mapping] = {}
    stack: list[Node] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, Mapping):
            for entry in node.entries:
                found[id(entry)] = node
                stack.append(entry.value)
        elif isinstance(node, Sequence):
            stack += node.items
    return found


def first_key(tree: Mapping) -> Span:
    """Where to put a finding about a whole file: its first key."""
    return tree.entries[0].key.span if tree.entries else Span(tree.source, tree.start, min(tree.end, tree.start + 1))


def from_tree(tool: str, tree: Mapping, syntax: Syntax, scope: str = "") -> Unit:
    """The unit of a configuration file's tree."""
    return Unit(tool, tree.source, first_key(tree), scope, tree, flatten(tree, syntax))


def scalar_text(node: Node | None) -> str | None:
    """The text of a single known value, or None."""
    return node.text if isinstance(node, Scalar) and node.value is not UNKNOWN else None
