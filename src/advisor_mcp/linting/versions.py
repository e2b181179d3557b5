"""Versions of tools, compared as numbers."""

from __future__ import annotations

import re
from typing import TypeAlias

Version: TypeAlias = tuple[int, ...]
_NUMBERS = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


def parse(text: str) -> Version | None:
    """``"v0.10.2"`` as ``(0, 10, 2)``; None where the text holds no version."""
    found = _NUMBERS.search(text)
    return tuple(int(part or 0) for part in found.groups()) if found else None


def shown(version: Version) -> str:
    """``(0, 10, 2)`` as ``"0.10.2"``."""
    return ".".join(str(part) for part in version)
