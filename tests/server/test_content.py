"""The content that ships, as a client sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp import Client

from advisor_mcp.catalogue import default_catalogue
from advisor_mcp.server import build_server
from advisor_mcp.serving.introduction import LARGEST_BYTES

pytestmark = pytest.mark.anyio

LARGEST_LIST, LARGEST_TOOL, LONGEST_NAME = 16_000, 1_800, 60
CATALOGUE = default_catalogue()


async def model_visible() -> dict[str, int]:
    """Bytes per tool of what clients show a model: name, description and input schema as compact JSON."""
    async with Client(build_server()) as client:
        tools = (await client.list_tools()).tools
    shown = [{"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema} for tool in tools]
    return {
        str(each["name"]): len(json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode()) for each in shown
    }


async def test_tools_and_personas_ship() -> None:
    assert CATALOGUE.tools
    assert CATALOGUE.personas


async def test_what_a_model_sees_of_the_tools_is_small() -> None:
    sizes = await model_visible()
    assert {name: size for name, size in sizes.items() if size > LARGEST_TOOL} == {}
    assert sum(sizes.values()) <= LARGEST_LIST


async def test_tool_names_fit_the_clients_that_prefix_them() -> None:
    assert [name for name in await model_visible() if len(f"mcp__advisor__{name}") > LONGEST_NAME] == []


async def test_the_instructions_name_every_tool_and_persona_that_is_served() -> None:
    text = build_server().instructions or ""
    assert len(text.encode()) <= LARGEST_BYTES
    assert [name for name in (*CATALOGUE.tools, *CATALOGUE.personas) if name not in text] == []


@pytest.mark.parametrize("name", CATALOGUE.tools)
async def test_every_example_is_answered_as_the_output_schema_says(name: str, era: Any) -> None:
    declared = CATALOGUE.declaration(name).examples
    async with Client(build_server(), mode=era) as client:
        for example in declared:
            # the client validates the structured content, and raises where it differs
            result = await client.call_tool(name, dict(example.arguments))
            assert result.content
            assert example.needs or not result.is_error, result.content


@pytest.mark.parametrize("depth", ["brief", "full"])
@pytest.mark.parametrize("name", CATALOGUE.personas)
async def test_every_persona_is_a_prompt_that_says_who_it_is(name: str, depth: str) -> None:
    async with Client(build_server()) as client:
        prompt = await client.get_prompt(name, {"depth": depth, "focus": "KV caches"})
    text = prompt.messages[0].content.text  # type: ignore[union-attr]
    assert "AI advisor" in text
    assert "KV caches" in text
