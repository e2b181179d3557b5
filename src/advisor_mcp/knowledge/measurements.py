"""What the user measured on this machine, in a SQLite file of their own that outlives every upgrade.

Rows are only added, or forgotten when the user says so. A row names a kind of device, a quantity and how it was taken;
never a machine, a user, a serial number or a path.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advisor_mcp import content
from advisor_mcp.errors import UsageError

FILE = "measurements.sqlite"
BUSY_S = 5.0  # how long one process waits for another that writes
# Entry n brings a file of version n to version n + 1; entries are added, never changed.
MIGRATIONS = (
    (
        """create table measurements (
            id integer primary key, kind text not null, subject text not null, key text not null, value real not null,
            unit text not null, low real not null, high real not null, samples integer not null, recorded text not null,
            how text not null
        )""",
        "create index measurements_by_subject on measurements (kind, subject, key, id)",
    ),
)
COLUMNS = "kind, subject, key, value, unit, low, high, samples, recorded, how"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One quantity: its median `value`, the 10th and 90th percentile of `samples` samples, and how they were taken.

    `kind` says what it is used for (`ceiling`), `subject` what was measured (a GPU's id, or a slug of its name), `key`
    which quantity (`matmul.bf16`, `copy`, `launch`). `recorded` is a UTC time in ISO 8601.
    """

    kind: str
    subject: str
    key: str
    value: float
    unit: str
    low: float
    high: float
    samples: int
    recorded: str
    how: Mapping[str, Any] = field(default_factory=dict)
    id: int | None = None

    @property
    def date(self) -> str:
        """The day it was recorded."""
        return self.recorded[:10]


class Measurements:
    """A measurement file opened for writing; `problem` says why it is in memory instead, and lost when it is closed."""

    def __init__(self, connection: sqlite3.Connection, problem: str | None = None) -> None:
        self.problem = problem
        self._connection = connection

    def add(self, rows: Iterable[Measurement]) -> None:
        """Add the rows, all or none."""
        marks = ", ".join("?" * len(COLUMNS.split(",")))
        with self._connection:
            self._connection.executemany(
                f"insert into measurements ({COLUMNS}) values ({marks})", [_values(row) for row in rows]
            )

    def all(self) -> list[Measurement]:
        """Every row, the oldest first."""
        found = self._connection.execute(f"select id, {COLUMNS} from measurements order by id")
        return [_measurement(row) for row in found]

    def forget(self, ids: Iterable[int]) -> int:
        """Delete the rows of these ids; returns how many there were."""
        with self._connection:
            return sum(
                self._connection.execute("delete from measurements where id = ?", (number,)).rowcount for number in ids
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _values(row: Measurement) -> tuple[Any, ...]:
    how = json.dumps(dict(row.how), ensure_ascii=False, sort_keys=True)
    return (row.kind, row.subject, row.key, row.value, row.unit, row.low, row.high, row.samples, row.recorded, how)


def _measurement(row: tuple[Any, ...]) -> Measurement:
    number, *told, how = row
    named = dict(zip(COLUMNS.split(", "), told, strict=False))
    return Measurement(**named, how=json.loads(how), id=number)


def file_path() -> Path:
    """Where the measurements of this user lie."""
    return content.data_folder() / FILE


@contextmanager
def writing() -> Iterator[Measurements]:
    """The measurement file, made where there is none and brought to this version's schema.

    In memory, with `problem` set, where the folder cannot be written. Raises `UsageError` for a file of a newer version.
    """
    path, problem = file_path(), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_S)
        try:
            _migrate(connection)
            with suppress(sqlite3.OperationalError):  # locked by a writer beside this one, who has set it or will
                connection.execute("pragma journal_mode = wal")
        except BaseException:
            connection.close()
            raise
    except (OSError, sqlite3.Error) as error:
        problem = f"measurements cannot be kept in {path.parent} ({error}); set ADVISOR_MCP_DATA to a folder of yours"
        connection = sqlite3.connect(":memory:")
        _migrate(connection)
    store = Measurements(connection, problem)
    try:
        yield store
    finally:
        store.close()


def _migrate(connection: sqlite3.Connection) -> None:
    with connection:  # the version is read under the lock, for another process may be migrating too
        connection.execute("begin immediate")
        (version,) = connection.execute("pragma user_version").fetchone()
        if version > len(MIGRATIONS):
            raise UsageError(
                f"the measurement file was written by a newer advisor-mcp (format {version}, this one reads up to "
                f"{len(MIGRATIONS)}); upgrade it, or point ADVISOR_MCP_DATA elsewhere"
            )
        for statement in (each for script in MIGRATIONS[version:] for each in script):
            connection.execute(statement)
        connection.execute(f"pragma user_version = {len(MIGRATIONS)}")


_ignored: ContextVar[bool] = ContextVar("measurements ignored", default=False)


@contextmanager
def ignored() -> Iterator[None]:
    """Inside, no estimate reads a stored measurement: accuracy and documentation are the same on every machine."""
    token = _ignored.set(True)
    try:
        yield
    finally:
        _ignored.reset(token)


def latest(kind: str, subject: str) -> dict[str, Measurement]:
    """The newest row of each key; empty inside `ignored()`, and where nothing was recorded or the file cannot be read."""
    if _ignored.get():
        return {}
    newest = f"select max(id), {COLUMNS} from measurements where kind = ? and subject = ? group by key order by key"
    return {row.key: row for row in map(_measurement, _rows(newest, kind, subject))}


_readers: dict[Path, tuple[int, sqlite3.Connection]] = {}
_guard = threading.Lock()


def _rows(query: str, *values: str) -> list[tuple[Any, ...]]:
    path = file_path()
    with _guard:
        try:
            return _reader(path).execute(query, values).fetchall()
        except (OSError, sqlite3.Error):  # no file, or a damaged or foreign one: no reason to refuse an estimate
            _drop(path)
            return []


def _reader(path: Path) -> sqlite3.Connection:
    """A read-only connection, kept until another file lies there."""
    inode = path.stat().st_ino
    if path in _readers and _readers[path][0] != inode:
        _drop(path)
    if path not in _readers:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        _readers[path] = (inode, sqlite3.connect(uri, uri=True, timeout=BUSY_S, check_same_thread=False))
    return _readers[path][1]


def _drop(path: Path) -> None:
    if path in _readers:
        _readers.pop(path)[1].close()
