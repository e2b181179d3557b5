"""Findings that the user has accepted: comments with a reason in the file, or a list beside files that have no comments."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from advisor_mcp import access
from advisor_mcp.linting.source import SourceFile

COMMENT = re.compile(r"(?:#|//)\s*advisor:\s*ignore(-file)?\s*(?:\[([^\]\n]*)\])?[ \t]*([^\n]*)")


@dataclass(eq=False)
class Ignore:
    """One ignore comment: the rules it names (none means all), the line it is for (0: the file), and its reason."""

    rules: frozenset[str]
    line: int
    offset: int
    reason: str
    used: bool = False


@dataclass
class Suppressions:
    """What is ignored in one file."""

    comments: list[Ignore] = field(default_factory=list)

    def covers(self, rule: str, name: str, line: int) -> bool:
        """Whether a comment accepts this finding; marks the comment as used."""
        for ignore in self.comments:
            if ignore.line in (0, line) and (not ignore.rules or rule in ignore.rules or name in ignore.rules):
                ignore.used = True
                return True
        return False


def read_comments(source: SourceFile) -> Suppressions:
    """The ignore comments of a text. One that stands alone on its line is for the next line that holds something."""
    found = Suppressions()
    if "advisor:" not in source.text:
        return found
    for match in COMMENT.finditer(source.text):
        line, column = source.position(match.start())
        alone = source.line(line)[: column - 1].strip() in ("", "\\")
        rules = frozenset(part.strip() for part in (match[2] or "").split(",") if part.strip())
        target = 0 if match[1] else _next_line(source, line) if alone else line
        found.comments.append(Ignore(rules, target, match.start(), match[3].strip()))
    return found


def _next_line(source: SourceFile, line: int) -> int:
    for number in range(line + 1, len(source._starts) + 1):
        text = source.line(number).strip()
        if text and not text.startswith(("#", "//")):
            return number
    return line


@dataclass(frozen=True)
class Settings:
    """What `advisor.toml` or `[tool.advisor]` of `pyproject.toml` says: `ignore` maps `path` or `path:key` to rules."""

    ignore: Mapping[str, Sequence[str]] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)

    def covers(self, path: str, key: str, rule: str, name: str) -> bool:
        """Whether a finding of `rule` on a key of a file is accepted."""
        for pattern, rules in self.ignore.items():
            where, _, wanted = pattern.partition(":")
            on_file = fnmatch(path, where) or fnmatch(Path(path).name, where) or path.endswith("/" + where)
            if on_file and (not wanted or wanted == key) and (rule in rules or name in rules or "*" in rules):
                return True
        return False


def _table(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table of a TOML file, empty where the name stands for something else."""
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def read_settings(folder: Path) -> Settings:
    """The nearest `advisor.toml` or `pyproject.toml` with `[tool.advisor]`, of this folder or one above it."""
    for place in (folder, *(folder.parents if access.anywhere() else ())):
        for name in ("advisor.toml", "pyproject.toml"):
            path = place / name
            try:
                data = tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            part = _table(data, "tool").get("advisor") if name == "pyproject.toml" else data
            if isinstance(part, dict):
                lists = {k: found for k, found in _table(part, "ignore").items() if isinstance(found, list)}
                return Settings(
                    {k: [str(v) for v in found] for k, found in lists.items()},
                    {k: str(v) for k, v in _table(part, "target").items()},
                )
        if (place / ".git").exists():
            break
    return Settings()
