"""The resources `advisor://KIND/ID`: facts as JSON, personas as Markdown, and completions of their ids."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote

from advisor_mcp.catalogue import Catalogue
from advisor_mcp.errors import UsageError, nearest, shown, unknown

SCHEME = "advisor://"
MOST_COMPLETIONS = 100
JSON, MARKDOWN = "application/json", "text/markdown"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of resource: the `folder` of its URIs, what the knowledge base calls it, and a line for people."""

    folder: str
    kind: str
    title: str
    description: str
    variable: str = "id"
    mime_type: str = JSON

    @property
    def index(self) -> str:
        """The URI of the list of every id."""
        return f"{SCHEME}{self.folder}"

    @property
    def template(self) -> str:
        """The URI template of one entry; `+` lets an id hold `:`, `/` and `@` as they are."""
        return f"{SCHEME}{self.folder}/{{+{self.variable}}}"


KINDS = {
    kind.folder: kind
    for kind in (
        Kind("models", "model", "Model", "The configuration of a known model, with its sources"),
        Kind("gpus", "gpu", "Accelerator", "Memory, bandwidth, peak rates and links of an accelerator"),
        Kind("techniques", "technique", "Technique", "What a technique solves, what it costs, where it stops working"),
        Kind("sources", "source", "Source", "A source that answers cite: what it is, and what of it was read"),
        Kind("evidence", "evidence", "Evidence record", "How far a formula was off, on which published measurements"),
        Kind("personas", "persona", "Persona", "A persona's whole briefing", variable="name", mime_type=MARKDOWN),
    )
}


class References:
    """Reads and completes the resources; knowledge is opened on first use."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._spellings: Callable[[str], Mapping[str, tuple[str, ...]]] = cache(self._read_spellings)

    def read(self, uri: str) -> tuple[str, str]:
        """Text and MIME type of a resource; raises `UsageError` naming the nearest id for one that does not exist."""
        folder, slash, encoded = uri.removeprefix(SCHEME).partition("/")
        if not uri.startswith(SCHEME) or folder not in KINDS:
            raise unknown("resource", uri, (kind.index for kind in KINDS.values()))
        kind = KINDS[folder]
        if not slash or not encoded:
            return self._list(kind), JSON
        return self._entry(kind, unquote(encoded)), kind.mime_type

    def complete(self, folder: str, typed: str) -> list[str]:
        """Ids of a folder that begin as typed; after them those with a name or another spelling that does."""
        if folder not in KINDS:
            return []
        from advisor_mcp.knowledge.facts import key

        start, spellings = key(typed), self._spellings(folder)
        by_id = [name for name in spellings if key(name).startswith(start)]
        return by_id + [
            name
            for name, others in spellings.items()
            if name not in by_id and any(key(other).startswith(start) for other in others)
        ]

    def _entry(self, kind: Kind, name: str) -> str:
        if kind.kind == "persona":
            return render(self._catalogue, name)
        from advisor_mcp import knowledge

        found = knowledge.find(kind.kind, name)
        if found is None:
            raise UsageError(f"unknown {kind.kind} {shown(name)}{self._nearest(kind, name)} ({kind.index} lists them)")
        return _json(found)

    def _list(self, kind: Kind) -> str:
        entries = self._spellings(kind.folder).items()
        return _json({kind.folder: [{"id": name, "name": others[0]} for name, others in entries]})

    def _nearest(self, kind: Kind, name: str) -> str:
        entries = self._spellings(kind.folder).items()
        return nearest(name, (word for known, others in entries for word in (known, *others)))

    def _read_spellings(self, folder: str) -> dict[str, tuple[str, ...]]:
        """Every id of a folder with its display name and its other spellings."""
        if folder == "personas":
            return {entry.name: (entry.title,) for entry in self._catalogue.personas.values()}
        from advisor_mcp import knowledge

        kind = KINDS[folder].kind
        entries = ((name, knowledge.find(kind, name) or {}) for name in knowledge.ids(kind))
        return {name: (str(entry.get("name", name)), *map(str, entry.get("aliases", ()))) for name, entry in entries}


def render(catalogue: Catalogue, name: str, focus: str | None = None, depth: str = "full") -> str:
    """A persona's briefing as Markdown; raises `UsageError` for a persona, focus or depth that cannot be used."""
    persona = catalogue.persona(name)
    from advisor_mcp.personas.rendering import render_persona

    return render_persona(persona, focus=focus, depth=depth, facts=_fact)


def _fact(kind: str, name: str) -> dict[str, Any] | None:
    from advisor_mcp import knowledge

    return knowledge.find(kind, name)


def _json(value: Any) -> str:
    # a TOML file may hold dates, which JSON has not
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
