"""A question answered through the real server, as a client would: a persona's briefing, then the grounded figures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor_mcp import content
from advisor_mcp.errors import InternalError

if TYPE_CHECKING:
    from mcp import Client

PERSONA = "optima"
QUESTION = "Can I serve Llama-3.1-70B at 32k context on 4 H100s, and with how many users?"
CALLS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("describe_model", {"model": "llama-3.1-70b", "sequence_length": 32768}),
    (
        "estimate_serving_memory",
        {"model": "llama-3.1-70b", "gpu": "h100-sxm", "gpu_count": 4, "tensor_parallel": 4, "sequence_length": 32768},
    ),
)


def run(folders: Iterable[Path] = ()) -> str:
    """Start the server over stdio, ask it, and return what it said as Markdown; `folders` hold the user's content.

    Raises `InternalError` when the server cannot be started or refuses.
    """
    import anyio
    from mcp import MCPError

    try:
        return anyio.run(_asked, list(folders))
    except (MCPError, OSError, ExceptionGroup) as error:
        raise InternalError("the server did not answer; 'advisor-mcp doctor' checks the installation") from error


async def _asked(folders: list[Path]) -> str:
    from mcp import Client, MCPError, StdioServerParameters

    from advisor_mcp.connecting import server_command

    program, *args = server_command()
    environ = os.environ | {content.VARIABLE: os.pathsep.join(map(str, folders))}
    async with Client(StdioServerParameters(command=program, args=args, env=environ)) as client:
        try:
            return await _conversation(client)
        except MCPError as error:
            refusal = error.message
    raise InternalError(f"the server refused: {refusal}")


async def _conversation(client: Client) -> str:
    parts = [f"# {QUESTION}", f"# Who answers: the prompt '{PERSONA}'", await _briefing(client)]
    for tool, arguments in CALLS:
        parts += [f"# {_written(tool, arguments)}", await _figures(client, tool, arguments)]
    return "\n\n".join(parts)


async def _briefing(client: Client) -> str:
    from mcp.types import TextContent

    prompt = await client.get_prompt(PERSONA, {"depth": "brief"})
    texts = [message.content.text for message in prompt.messages if isinstance(message.content, TextContent)]
    return "\n\n".join(texts).strip()


async def _figures(client: Client, tool: str, arguments: Mapping[str, Any]) -> str:
    from mcp.types import TextContent

    result = await client.call_tool(tool, dict(arguments))
    return "\n".join(part.text for part in result.content if isinstance(part, TextContent))


def _written(tool: str, arguments: Mapping[str, Any]) -> str:
    return f"{tool}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
