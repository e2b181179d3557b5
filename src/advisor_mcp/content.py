"""Where personas, tools and facts live: the built-in folders and those that the user named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

VARIABLE = "ADVISOR_MCP_CONTENT"
_PACKAGE = Path(__file__).resolve().parent
_active: list[Path] = []


def built_in() -> Path:
    """The folder that holds the built-in `tools/` and `personas/`: inside a wheel, or the checkout of an editable install."""
    inside = _PACKAGE / "_content"
    return inside if inside.is_dir() else _PACKAGE.parents[1]


def named_by_environment() -> list[Path]:
    """The user's folders from ADVISOR_MCP_CONTENT, separated as PATH is; the working directory is never one of them."""
    return [Path(os.path.expanduser(part)) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part.strip()]


def activate(folders: Iterable[Path]) -> None:
    """Make these the user's content folders: their tools importable as `advisor_mcp.tools.NAME`, their facts readable."""
    import advisor_mcp.tools

    _active[:] = list(folders)
    advisor_mcp.tools.__path__ = tool_path(_active)


def active() -> list[Path]:
    """The user's content folders in use."""
    return list(_active)


def tool_path(folders: Sequence[Path]) -> list[str]:
    """The search path of the package `advisor_mcp.tools`."""
    return [str(folder / "tools") for folder in (built_in(), *folders)]


def persona_files() -> dict[str, Path]:
    """Persona name -> file, built in first; a user's file does not replace a built-in one of the same name."""
    found: dict[str, Path] = {}
    for folder in (built_in(), *_active):
        for path in sorted((folder / "personas").glob("*.md")):
            found.setdefault(path.stem, path)
    return found


def cache_folder() -> Path:
    """Where rebuilt files are kept; it may not exist or not be writable, and nothing is lost when it goes."""
    if named := os.environ.get("ADVISOR_MCP_CACHE"):
        return Path(os.path.expanduser(named))
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "advisor-mcp" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "advisor-mcp"


def data_folder() -> Path:
    """Where the user's own measurements are kept; unlike the cache, what is lost here cannot be made again."""
    if named := os.environ.get("ADVISOR_MCP_DATA"):
        return Path(os.path.expanduser(named))
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "advisor-mcp" / "Data"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "advisor-mcp"


_active.extend(named_by_environment())
