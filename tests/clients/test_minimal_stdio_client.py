"""The smallest client, against a real server process and in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from clients import minimal_stdio_client as program
from mcp import Client
from mcp.server import MCPServer
from mcp.types import CallToolResult, TextContent

PROGRAM = Path(program.__file__)
SERVER = """
from mcp.server import MCPServer
server = MCPServer("stub", log_level="ERROR")
@server.tool(title="Double a number", structured_output=False)
def double(number: int) -> str:
    return f"twice is {number * 2}"
server.run()
"""


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of the in-memory client."""
    return "asyncio"


def run(*arguments: str) -> str:
    found = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return found.stdout


def test_it_starts_a_server_and_prints_what_the_tool_answered(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(SERVER, encoding="utf-8")
    assert run("double", '{"number": 21}', "--server", sys.executable, str(script)) == "twice is 42\n"
    assert run("--server", sys.executable, str(script)) == "double: Double a number\n"


def test_without_a_server_named_it_starts_the_advisor_of_its_own_python() -> None:
    listed = run().splitlines()
    assert [line.split(":")[0] for line in listed if line.startswith("describe_model:")] == ["describe_model"]


@pytest.mark.anyio
async def test_a_refusal_is_printed_as_the_sentence_it_is() -> None:
    server = MCPServer("stub", log_level="CRITICAL")

    @server.tool(structured_output=False)
    def refuse() -> CallToolResult:
        """Refuses."""
        sentence = TextContent(type="text", text="unknown GPU 'h1000'; did you mean 'h100'?")
        return CallToolResult(content=[sentence], is_error=True)

    async with Client(server) as client:
        said = await program.ask(client, "refuse", {})
    assert said == "refused: unknown GPU 'h1000'; did you mean 'h100'?"
