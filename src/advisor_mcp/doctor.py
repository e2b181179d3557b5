"""Looks over an installation: what works, what is missing, and what to do about each; it changes nothing."""

from __future__ import annotations

import os
import platform as machine
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol

from advisor_mcp import __version__
from advisor_mcp.connecting import CLIENTS, Client, Entry, Environment, is_present, is_temporary, read_entry
from advisor_mcp.errors import AdvisorError
from advisor_mcp.gpus import DeviceSource, open_devices

PACKAGE = "advisor-mcp"
OLDEST_PYTHON = (3, 11)
OPTIONAL = ("anthropic", "huggingface-hub", "torch")
Status = Literal["ok", "warn", "fail"]


class Knowledge(Protocol):
    """The knowledge store: a query's rows, and the file that it lies in, or None for one in memory."""

    path: Path | None

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: its name, whether it is in order, and one line on what was found and what to do."""

    name: str
    status: Status
    message: str


def examine(
    environ: Environment = os.environ,
    *,
    platform: str = sys.platform,
    problems: Sequence[tuple[str | Path, str]] = (),
    open_store: Callable[[], Knowledge] | None = None,
    open_gpus: Callable[[], AbstractContextManager[DeviceSource]] = open_devices,
    cache: Path | None = None,
) -> list[Check]:
    """Every check, in the order in which they are shown. Raises nothing: what goes wrong is a check that failed.

    `problems` are the content files that are not served, with the reason each; `open_store` opens the knowledge
    store, which is asked for its size; `cache` is the folder that it is built into. What is left out is found as the
    server would find it.
    """
    return [
        _python(),
        _home_of(sys.executable, environ),
        *_required(),
        *_optional(),
        _gpus(open_gpus),
        _store(open_store or _open_store),
        _cache(cache),
        *_content(problems),
        *(_client(client, environ, platform) for client in CLIENTS.values()),
    ]


def exit_code(checks: Iterable[Check]) -> int:
    """1 when a check failed, else 0."""
    return int(any(check.status == "fail" for check in checks))


def format_check(check: Check) -> str:
    """A check as one line."""
    return f"{check.status:<4}  {check.name}: {' '.join(check.message.split())}"


def _python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    shown, least = ".".join(map(str, version)), ".".join(map(str, OLDEST_PYTHON))
    if version < OLDEST_PYTHON:
        return Check("python", "fail", f"{shown} is too old; install Python {least} or later")
    return Check("python", "ok", f"{shown} on {machine.system()}, {PACKAGE} {__version__}")


def _home_of(executable: str, environ: Environment) -> Check:
    if is_temporary((executable,), environ):
        return Check(
            "installation",
            "warn",
            "it lies in uv's cache and goes when that is cleaned; `uv tool install advisor-mcp` keeps it",
        )
    return Check("installation", "ok", executable)


def _required(
    requires: Callable[[str], list[str] | None] = metadata.requires, version: Callable[[str], str] = metadata.version
) -> list[Check]:
    """One check for each dependency that the installed package declares, by version alone: nothing is imported."""
    try:
        declared = requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        advice = "not known, for this is a source folder that is not installed; run `pip install -e .`"
        return [Check("dependencies", "warn", advice)]
    return [_dependency(line, version) for line in declared if "extra ==" not in line]


def _dependency(requirement: str, version: Callable[[str], str]) -> Check:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    name = found[0] if found else requirement
    try:
        installed = version(name)
    except metadata.PackageNotFoundError:
        return Check(name, "fail", f"it is not installed; run `pip install '{requirement}'`")
    if _satisfies(installed, requirement):
        return Check(name, "ok", installed)
    return Check(name, "fail", f"{installed} does not satisfy {requirement}; run `pip install '{requirement}'`")


def _satisfies(version: str, requirement: str) -> bool:
    limits = re.findall(r"(>=|<)\s*([0-9][0-9.]*)", requirement.split(";")[0])
    release = _release(version)
    return all(release >= _release(limit) if sign == ">=" else release < _release(limit) for sign, limit in limits)


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version, without the zeros at its end, which do not count."""
    parts = re.match(r"[0-9.]*", version)
    numbers = [int(part) for part in (parts[0] if parts else "").split(".") if part]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _optional(version: Callable[[str], str] = metadata.version) -> list[Check]:
    checks = []
    for name in OPTIONAL:
        try:
            checks.append(Check(name, "ok", version(name)))
        except metadata.PackageNotFoundError:
            checks.append(Check(name, "ok", "not installed: fine, it is optional"))
    return checks


def _gpus(open_source: Callable[[], AbstractContextManager[DeviceSource]]) -> Check:
    with open_source() as source:
        driver, names = source.driver(), [device.name or device.failure or "unnamed" for device in source.devices()]
    if driver.absent:
        # a driver that is there and does not answer is worth a look; none at all is how most machines are
        status: Status = "ok" if driver.absent.startswith("no NVIDIA driver") else "warn"
        return Check("gpus", status, f"{driver.absent}: the calculators need none")
    counted = {name: names.count(name) for name in names}
    devices = ", ".join(f"{count} x {name}" for name, count in counted.items()) or "no device"
    return Check("gpus", "ok", f"{devices}, driver {driver.driver_version or 'of unknown version'}")


def _open_store() -> Knowledge:
    from advisor_mcp.knowledge import open_store

    return open_store()


def _store(open_store: Callable[[], Knowledge]) -> Check:
    from advisor_mcp.knowledge.store import COUNT

    try:
        store = open_store()
        count = store.rows(COUNT)[0][0]
    except AdvisorError as error:
        return Check("knowledge", "fail", error.message)
    except Exception as error:  # whatever it is, the doctor is there to say so
        return Check("knowledge", "fail", f"the store does not answer ({type(error).__name__}: {error}); report this")
    if store.path is None:
        advice = "in memory, built anew at each start as it cannot be kept in the cache folder"
        return Check("knowledge", "warn", f"{count:,} entries, {advice}")
    return Check("knowledge", "ok", f"{count:,} entries")


def _cache(folder: Path | None) -> Check:
    from advisor_mcp.content import cache_folder

    folder = folder or cache_folder()
    nearest = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return Check("cache", "ok", str(folder))
    advice = "the store is kept in memory; ADVISOR_MCP_CACHE names another folder"
    return Check("cache", "warn", f"{folder} cannot be written: {advice}")


def _content(problems: Sequence[tuple[str | Path, str]]) -> list[Check]:
    if not problems:
        return [Check("content", "ok", "every tool, persona and fact loads")]
    return [Check("content", "fail", f"{path} is not served: {error}") for path, error in problems]


def _client(client: Client, environ: Environment, platform: str) -> Check:
    name = f"client {client.id}"
    add = f"`advisor-mcp install {client.id}`"
    try:
        if not is_present(client, environ, platform):
            return Check(name, "ok", f"{client.title} is not found here")
        entry = read_entry(client, environ, platform)
    except AdvisorError as error:
        return Check(name, "warn", error.message)
    if entry is None:
        return Check(name, "ok", f"{client.title} is found but not configured; {add} does it")
    if entry.command is None:
        return Check(name, "ok", f"configured in {entry.path}, not started by a command")
    if not _command_exists(entry.command, environ):
        return Check(name, "fail", f"configured in {entry.path}, but {entry.command} does not exist; run {add} again")
    return _found(client, name, entry, add)


def _found(client: Client, name: str, entry: Entry, add: str) -> Check:
    if client.desktop and entry.command == Path(entry.command or "").name:
        advice = f"{client.title} may not have this shell's PATH; {add} writes the whole path"
        return Check(name, "warn", f"{entry.command} in {entry.path} is looked up: {advice}")
    return Check(name, "ok", f"configured in {entry.path}")


def _command_exists(command: str, environ: Mapping[str, str]) -> bool:
    return shutil.which(os.path.expanduser(command), path=environ.get("PATH", "")) is not None
