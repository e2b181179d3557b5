"""What a call may read: any path for a local user, none or one folder's when the call came over the network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from advisor_mcp.errors import UsageError, shown


@dataclass(frozen=True, slots=True)
class Access:
    """`anywhere` for a local user; otherwise only files below `root`, and none at all without one."""

    anywhere: bool = True
    root: Path | None = None


LOCAL = Access()
_current: ContextVar[Access] = ContextVar("access", default=LOCAL)


@contextmanager
def limited(root: Path | None) -> Iterator[None]:
    """Calls inside may read only below `root`; with None they may read no path."""
    token = _current.set(Access(anywhere=False, root=root.resolve() if root else None))
    try:
        yield
    finally:
        _current.reset(token)


_hub_allowed = False


def allow_hub(allowed: bool) -> None:
    """Whether this process may fetch configurations from the Hugging Face hub from now on."""
    global _hub_allowed
    _hub_allowed = allowed


def hub_allowed() -> bool:
    """Whether the user allowed fetching from the hub."""
    return _hub_allowed


PROMETHEUS = "ADVISOR_MCP_PROMETHEUS"
_prometheus: str | None = None


def allow_prometheus(url: str | None) -> None:
    """Name the Prometheus that every call of this process may ask from now on, in place of the environment's."""
    global _prometheus
    _prometheus = url


def operators_prometheus() -> str | None:
    """The Prometheus that the operator named, by option or by ADVISOR_MCP_PROMETHEUS; its URL may hold a password."""
    return _prometheus or os.environ.get(PROMETHEUS) or None


def paths_allowed() -> bool:
    """Whether this call may name any path."""
    access = _current.get()
    return access.anywhere or access.root is not None


def anywhere() -> bool:
    """Whether this call may read what it was not pointed at, such as a settings file in a folder above."""
    return _current.get().anywhere


def expanded(given: str) -> Path:
    """The path with a leading `~` or `~user` replaced; raises `UsageError` for a user who has no home folder here."""
    try:
        return Path(given).expanduser()
    except RuntimeError:
        raise UsageError(f"{shown(given)} names a home folder that is not known; give the whole path") from None


def readable(given: str) -> Path:
    """The path a caller named, if this call may read it; raises `UsageError` otherwise. It need not exist."""
    access = _current.get()
    if "\0" in given:
        raise UsageError(f"{shown(given)} is not a usable path")
    if access.anywhere:
        return expanded(given)
    if access.root is None:
        raise UsageError("this server reads no paths; pass the file's content, or ask its operator for --root DIR")
    try:
        path = (access.root / given).resolve()
    except (OSError, RuntimeError):  # links that lead in a circle
        raise UsageError(f"{shown(given)} is not a usable path") from None
    if not path.is_relative_to(access.root):
        raise UsageError(f"{shown(given)} lies outside the folder that this server may read")
    return path
