"""A content folder of toy tools and a persona in place of the built-in one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.samples import HEAD, PERSONA, TOOLS

from advisor_mcp import catalogue as catalogues
from advisor_mcp import content
from advisor_mcp.catalogue import Catalogue


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that stands in for the built-in content."""
    root = tmp_path / "built-in"
    for folder in ("tools", "personas"):
        (root / folder).mkdir(parents=True)
    for name, body in TOOLS.items():
        (root / "tools" / f"{name}.py").write_text(HEAD + body, encoding="utf-8")
    (root / "personas" / "sage.md").write_text(PERSONA, encoding="utf-8")
    monkeypatch.setenv("ADVISOR_MCP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "built_in", lambda: root)
    content.activate([])
    (root / "tools" / catalogues.SNAPSHOT).write_text(json.dumps(catalogues.snapshot(root)), encoding="utf-8")
    yield root
    monkeypatch.undo()
    content.activate([])
    for name in (*TOOLS, "doubler"):
        sys.modules.pop(f"advisor_mcp.tools.{name}", None)


@pytest.fixture
def catalogue(root: Path) -> Catalogue:
    """The catalogue of that folder."""
    return catalogues.build()
