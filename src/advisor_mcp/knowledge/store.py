"""The SQLite store built from the fact files: cached by their content, built atomically, opened read-only."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor_mcp import content
from advisor_mcp.knowledge import facts

COUNT = "select count(*) from entries"


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result: its kind, id, name, a snippet around the match, the rank (lower is better), and the entry."""

    kind: str
    id: str
    name: str
    snippet: str
    rank: float
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """A page of hits out of `total`; `partial` where no entry has all the words and these have some.

    `missing` are the words that no entry has.
    """

    hits: tuple[Hit, ...] = ()
    total: int = 0
    partial: bool = False
    missing: tuple[str, ...] = ()


class Store:
    """A read-only store; safe to use from several threads."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self.connection, self.path, self._lock = connection, path, threading.Lock()

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        with self._lock:
            return self.connection.execute(query, values).fetchall()

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """The entry of that id, name or alias (case, spaces, underscores and hyphens aside), or None."""
        query = "select data from entries join names using (kind, id) where kind = ? and key = ? limit 1"
        found = self.rows(query, kind, facts.key(name)) if 0 < len(name) < 500 else []
        return json.loads(found[0][0]) if found else None

    def ids(self, kind: str) -> list[str]:
        """All ids of a kind, in order."""
        return [row[0] for row in self.rows("select id from entries where kind = ? order by id", kind)]

    def names(self, kind: str) -> list[str]:
        """All ids, names and aliases of a kind as they are written."""
        return [row[0] for row in self.rows("select name from names where kind = ? order by name", kind)]

    def problems(self) -> list[tuple[str, str]]:
        """Fact files that could not be read, with the reason."""
        return [(row[0], row[1]) for row in self.rows("select path, message from problems")]

    def search(self, query: str, kinds: tuple[str, ...] = (), limit: int = 10, offset: int = 0) -> Page:
        """Full-text search: entries with all the words; where there are none, entries with any of them."""
        words = [f'"{word}"' for word in re.findall(r"\w+", query.lower())[:32]]
        for joint in (" ", " OR ") if words else ():
            hits, total = self._match(joint.join(words), kinds, limit, offset)
            if total:
                partial = joint == " OR "
                missing = [word for word in words if self._match(word, kinds, 1, 0)[1] == 0] if partial else []
                return Page(tuple(hits), total, partial, tuple(word.strip('"') for word in missing))
        return Page()

    def _match(self, match: str, kinds: tuple[str, ...], limit: int, offset: int) -> tuple[list[Hit], int]:
        only = f" and kind in ({','.join('?' * len(kinds))})" if kinds else ""
        source = f"from entries_fts join entries on entries.rowid = entries_fts.rowid where entries_fts match ?{only}"
        total = int(self.rows(f"select count(*) {source}", match, *kinds)[0][0])
        # names weigh most, then aliases, then text; sources come after what rests on them
        rank = "bm25(entries_fts, 8.0, 4.0, 1.0) * case kind when 'source' then 0.5 else 1.0 end"
        columns = f"kind, id, entries.name, snippet(entries_fts, 2, '', '', ' … ', 24), {rank} as score, data"
        found = self.rows(f"select {columns} {source} order by score limit ? offset ?", match, *kinds, limit, offset)
        return [Hit(k, i, n, s, round(r, 3), json.loads(d)) for k, i, n, s, r, d in found], total


_stores: dict[str, Store] = {}
_guard = threading.Lock()


def open_store() -> Store:
    """The store of the built-in facts and of the active content folders, built first where it is not cached yet."""
    files = facts.fact_files(content.active())
    with _guard:
        known = _stores.get(repr(files))
        if known is None:
            known = _stores[repr(files)] = _open(files)
        return known


def _open(files: list[tuple[str, Path]]) -> Store:
    path = content.cache_folder() / f"knowledge-{facts.fingerprint(files)}.sqlite"
    with contextlib.suppress(sqlite3.Error):
        return Store(_connect(path), path)
    try:
        _build_file(files, path)
        return Store(_connect(path), path)
    except (OSError, sqlite3.Error):
        return Store(_build(files, sqlite3.connect(":memory:", check_same_thread=False)), None)


def _connect(path: Path) -> sqlite3.Connection:
    """A read-only connection; raises `sqlite3.Error` for a file that is not there, is damaged or holds no store."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
    try:
        (state,) = connection.execute("pragma quick_check(1)").fetchone()  # half a millisecond a megabyte
        if state != "ok":
            raise sqlite3.DatabaseError(state)
        connection.execute(COUNT).fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _build_file(files: list[tuple[str, Path]], path: Path) -> None:
    """Build beside the target and move it there, so that a reader sees a whole store or none, whoever else is building."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        connection = _build(files, sqlite3.connect(temporary))
        connection.close()
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _build(files: list[tuple[str, Path]], connection: sqlite3.Connection) -> sqlite3.Connection:
    from sqlite_utils import Database

    read = facts.read_facts(files)
    database = Database(connection)
    entries, names, problems = (database.table(name) for name in ("entries", "names", "problems"))
    entries.insert_all(
        (
            {
                "kind": f.kind,
                "id": f.id,
                "name": f.name,
                "aliases": facts.spellings(f),
                "text": f.text,
                "data": json.dumps(f.data, default=str),
            }
            for f in read.facts
        ),
        pk=("kind", "id"),
    )
    names.insert_all(
        ({"kind": f.kind, "key": facts.key(name), "id": f.id, "name": name} for f in read.facts for name in (f.id, f.name, *f.aliases)),
        pk=("kind", "key"), ignore=True,
    )  # fmt: skip
    problems.create({"path": str, "message": str})
    problems.insert_all({"path": _storable(str(p)), "message": _storable(message)} for p, message in read.problems)
    entries.enable_fts(["name", "aliases", "text"], tokenize="porter unicode61")
    connection.commit()
    return connection


def _storable(text: str) -> str:
    """A text that SQLite takes: a file's name may hold bytes that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def find(kind: str, name: str) -> dict[str, Any] | None:
    """The entry of a kind (model, gpu, technique, source, evidence) by id, name or alias, or None."""
    return open_store().find(kind, name)


def ids(kind: str) -> list[str]:
    """All ids of a kind."""
    return open_store().ids(kind)


def names(kind: str) -> list[str]:
    """All ids, names and aliases of a kind."""
    return open_store().names(kind)


def search(query: str, kinds: tuple[str, ...] = (), limit: int = 10, offset: int = 0) -> Page:
    """Search all entries; see `Store.search`."""
    return open_store().search(query, kinds, limit, offset)
