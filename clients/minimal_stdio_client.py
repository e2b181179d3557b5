"""Asks one tool over MCP: start the server, list its tools, call one.

python clients/minimal_stdio_client.py                                            # what there is to ask
python clients/minimal_stdio_client.py describe_model '{"model": "llama-3.1-8b"}'
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp.types import TextContent

SERVER = (sys.executable, "-P", "-m", "advisor_mcp", "serve")


async def ask(client: Client, tool: str, arguments: Mapping[str, Any]) -> str:
    """The tool's answer as text; a refusal is an answer too, in one sentence."""
    result = await client.call_tool(tool, dict(arguments))
    text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
    return f"refused: {text}" if result.is_error else text


async def tools(client: Client) -> str:
    """A line for each tool: its name and what it answers."""
    return "\n".join(f"{tool.name}: {tool.title}" for tool in (await client.list_tools()).tools)


async def run(server: tuple[str, ...], tool: str | None, arguments: Mapping[str, Any]) -> str:
    """Start the server, ask, and stop it again."""
    # by default a server started over stdio sees only a few variables of this environment
    parameters = StdioServerParameters(command=server[0], args=list(server[1:]), env=dict(os.environ))
    async with Client(parameters) as client:
        return await ask(client, tool, arguments) if tool else await tools(client)


def main() -> None:
    """Read the command line, ask, print."""
    parser = argparse.ArgumentParser(description="Ask one tool of the advisor over MCP.")
    parser.add_argument("tool", nargs="?", help="the tool to call; left out: list the tools")
    parser.add_argument("arguments", nargs="?", type=json.loads, default={}, help="its arguments as JSON")
    parser.add_argument(
        "--server", nargs="+", default=SERVER, metavar="COMMAND", help="another server than this Python's"
    )
    given = parser.parse_args()
    print(anyio.run(run, tuple(given.server), given.tool, given.arguments))


if __name__ == "__main__":
    main()
