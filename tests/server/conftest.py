"""A content folder of small tools and one persona, a server over it, and a client's two protocol eras."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.samples import TOOLS, write_content

from advisor_mcp import catalogue as catalogues
from advisor_mcp import content
from advisor_mcp.catalogue import Catalogue
from advisor_mcp.server import build_server
from advisor_mcp.serving.application import AdvisorServer


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that stands in for the built-in content."""
    root = tmp_path / "built-in"
    write_content(root)
    monkeypatch.setenv("ADVISOR_MCP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "built_in", lambda: root)
    content.activate([])
    (root / "tools" / catalogues.SNAPSHOT).write_text(json.dumps(catalogues.snapshot(root)), encoding="utf-8")
    yield root
    monkeypatch.undo()
    content.activate([])
    for name in TOOLS:
        sys.modules.pop(f"advisor_mcp.tools.{name}", None)


@pytest.fixture
def catalogue(root: Path) -> Catalogue:
    """The catalogue of that folder."""
    return catalogues.build()


@pytest.fixture
def server(catalogue: Catalogue) -> AdvisorServer:
    """A server over it."""
    return build_server(catalogue)


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> Any:
    """The client's way to connect: the newest protocol, or the handshake."""
    return request.param


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the server runs on."""
    return "asyncio"
