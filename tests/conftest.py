"""What every test stands on: a cache and measurements of its own, no content folders from the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from advisor_mcp import content


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's cache, measurements and content folders out of the tests; sub-processes inherit it."""
    folder = tmp_path_factory.mktemp("cache")
    kept = {name: os.environ.get(name) for name in ("ADVISOR_MCP_CACHE", "ADVISOR_MCP_DATA", content.VARIABLE)}
    os.environ["ADVISOR_MCP_CACHE"] = str(folder)
    os.environ["ADVISOR_MCP_DATA"] = str(tmp_path_factory.mktemp("data"))
    os.environ.pop(content.VARIABLE, None)
    yield folder
    for name, value in kept.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture
def content_folders() -> Iterator[None]:
    """Put the active content folders back after a test that changes them."""
    before = content.active()
    yield
    content.activate(before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under ADVISOR_MCP_REQUIRE=all a test may not skip for something that is not installed."""
    if os.environ.get("ADVISOR_MCP_REQUIRE") == "all":
        for item in items:
            item.add_marker(pytest.mark.required)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Turn a skip into a failure where everything is required."""
    report = yield
    if item.get_closest_marker("required") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped under ADVISOR_MCP_REQUIRE=all: {call.excinfo.value if call.excinfo else ''}"
    return report
