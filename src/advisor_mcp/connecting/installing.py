"""Enters the server into a client's own file: other servers, comments and layout stay, and a backup is kept."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from advisor_mcp.connecting.clients import (
    CLIENTS,
    SERVER,
    Client,
    Environment,
    config_path,
    entry_values,
    render,
    server_entry,
)
from advisor_mcp.connecting.editing import EditError, read_json, read_toml, set_json, set_toml
from advisor_mcp.errors import UsageError

_UVX = "The command lies in uv's cache and goes when that is cleaned: `uv tool install advisor-mcp`, then install again"


@dataclass(frozen=True, slots=True)
class Entry:
    """A server as a client's configuration names it; `command` is None for one that is reached by URL."""

    path: Path
    command: str | None
    args: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InstallReport:
    """What `install` did: the file, the text that was written or is to be pasted, the backup, and what to do next."""

    client: str
    status: Literal["added", "updated", "already configured", "printed"]
    path: Path
    text: str
    backup: Path | None = None
    next_step: str = ""

    @property
    def sentence(self) -> str:
        """The report on one line."""
        kept = f"; the file as it was is {self.backup}" if self.backup else ""
        done = {
            "added": f"added {SERVER!r} to {self.path}{kept}",
            "updated": f"updated {SERVER!r} in {self.path}{kept}",
            "already configured": f"already configured in {self.path}",
            "printed": f"to be put into {self.path}",
        }[self.status]
        return f"{CLIENTS[self.client].title}: {done}." + (f" {self.next_step}" if self.next_step else "")


def server_command(executable: str = sys.executable) -> tuple[str, ...]:
    """The absolute command that starts this installation's server, so that an application without a PATH finds it.

    The console script beside the interpreter where there is one. Otherwise the interpreter with `-P`, without which a
    project's own `json.py` or `mcp.py` would be imported instead of the library: clients start servers in the project.
    """
    python = Path(os.path.abspath(executable))  # not resolved: a virtual environment's python is a link out of it
    script = python.parent / ("advisor-mcp.exe" if python.suffix == ".exe" else "advisor-mcp")
    return (str(script), "serve") if script.is_file() else (str(python), "-P", "-m", "advisor_mcp", "serve")


def is_temporary(command: Sequence[str], environ: Environment) -> bool:
    """Whether the command lies in uv's cache, as under `uvx`, from where it vanishes when that is cleaned."""
    local, cache = environ.get("LOCALAPPDATA"), environ.get("XDG_CACHE_HOME")
    folders = [environ.get("UV_CACHE_DIR"), local and f"{local}/uv/cache", cache and f"{cache}/uv"]
    if home := environ.get("HOME"):
        folders.append(f"{home}/.cache/uv")
    return any(Path(command[0]).is_relative_to(folder) for folder in folders if folder)


def read_entry(client: Client, environ: Environment, platform: str = sys.platform) -> Entry | None:
    """The server as the client's configuration names it, or None.

    Raises `UsageError` for a file that cannot be read.
    """
    path = config_path(client, environ, platform)
    try:
        return _entry(client, path, _read(path))
    except (OSError, UnicodeDecodeError, EditError) as error:
        raise UsageError(f"{path} cannot be read ({_why(error)}); mend it and try again") from None


def install(
    client: Client,
    command: Sequence[str],
    environ: Environment,
    print_only: bool = False,
    *,
    platform: str = sys.platform,
    now: Callable[[], datetime] = datetime.now,
) -> InstallReport:
    """Enter the server into the client's user-wide configuration, or only say what would be entered.

    Everything else in the file stays as it is; an entry of ours with another command gets this one and keeps its other
    keys. The file as it was is kept beside, with the time in its name, and the new one takes its place in one step.
    Raises `UsageError`, with the file untouched, where it cannot be read, edited safely or written.
    """
    path = config_path(client, environ, platform)
    text = render(client, command)
    then = _UVX if is_temporary(command, environ) else client.afterwards
    if print_only:
        return InstallReport(client.id, "printed", path, text, next_step=then)
    try:
        before = _read(path)
        found = _entry(client, path, before)
        if found and (found.command, found.args) == (command[0], tuple(command[1:])):
            return InstallReport(client.id, "already configured", path, text)
        after = _edited(client, before, command, found)
        backup = _replace_file(path, before, after, now())
    except (OSError, UnicodeDecodeError, EditError) as error:
        raise UsageError(
            f"{path} was left as it is ({_why(error)}); mend it, or paste what "
            f"`advisor-mcp install {client.id} --print` shows"
        ) from None
    return InstallReport(client.id, "updated" if found else "added", path, text, backup, then)


def _read(path: Path) -> str:
    # bytes, not text mode: line ends are kept as they are
    return path.read_bytes().decode("utf-8") if path.exists() else ""


def _parsed(client: Client, text: str) -> dict[str, Any]:
    text = text.removeprefix("\ufeff")
    return read_toml(text) if client.format == "toml" else read_json(text, client.dialect)


def _entry(client: Client, path: Path, text: str) -> Entry | None:
    servers = _parsed(client, text).get(client.key)
    if servers is not None and not isinstance(servers, dict):
        raise EditError(f"{client.key!r} is not an object")
    if servers is None or SERVER not in servers:
        return None
    server = servers[SERVER]
    command, args = (server.get("command"), server.get("args") or ()) if isinstance(server, dict) else (None, ())
    return Entry(path, command if isinstance(command, str) else None, tuple(str(arg) for arg in args))


def _edited(client: Client, text: str, command: Sequence[str], found: Entry | None) -> str:
    if found and found.command is None:
        raise EditError(f"its server {SERVER!r} is not started by a command: rename or remove that one first")
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    text = text.removeprefix("\ufeff")
    if client.format == "toml":
        return mark + set_toml(text, (client.key, SERVER), entry_values(command))
    if not found:
        return mark + set_json(text, (client.key, SERVER), server_entry(client, command), client.dialect)
    for key, value in entry_values(command).items():
        text = set_json(text, (client.key, SERVER, key), value, client.dialect)
    return mark + text


def _replace_file(path: Path, before: str, after: str, when: datetime) -> Path | None:
    """Write the new text in one step, after a backup; returns the backup's path."""
    target = path.resolve()  # a link into a folder of dotfiles stays a link
    target.parent.mkdir(parents=True, exist_ok=True)
    existed = target.exists()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(after.encode("utf-8"))
        if _read(target) != before:  # some clients write their own file all the time
            raise EditError("it was changed meanwhile: run this again")
        backup = _back_up(target, when) if existed else None
        if existed:
            shutil.copymode(target, name)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return backup


def _back_up(path: Path, when: datetime) -> Path:
    stem = f"{path.name}.{when:%Y%m%d-%H%M%S}"
    names = [f"{stem}.bak", *(f"{stem}-{n}.bak" for n in range(2, 100))]
    backup = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    shutil.copy2(path, backup)
    return backup


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return (error.strerror or type(error).__name__).lower() if isinstance(error, OSError) else str(error)
