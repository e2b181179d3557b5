"""Personas as MCP prompts, in both protocol eras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, PromptReference
from tests.server.samples import wire

from advisor_mcp.personas.loading import load_persona
from advisor_mcp.personas.rendering import render_persona
from advisor_mcp.serving.application import AdvisorServer

pytestmark = pytest.mark.anyio


async def test_every_persona_is_a_prompt_that_needs_no_argument(server: AdvisorServer, era: Any) -> None:
    async with Client(server, mode=era) as client:
        prompts = (await client.list_prompts()).prompts
    assert [wire(prompt) for prompt in prompts] == [
        {
            "name": "sample",
            "title": "Dr. Sample, the tester",
            "description": "A tester. Use when a test needs a persona.",
            "arguments": [
                {"name": "focus", "description": "What to concentrate on, in a few words", "required": False},
                {"name": "depth", "description": "brief or full (default)", "required": False},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (None, {}),
        ({"focus": "", "depth": ""}, {}),
        ({"depth": "brief"}, {"depth": "brief"}),
        ({"focus": "KV caches", "depth": "full"}, {"focus": "KV caches", "depth": "full"}),
    ],
)
async def test_a_prompt_is_the_rendered_persona(
    server: AdvisorServer, root: Path, era: Any, given: dict[str, str] | None, meant: dict[str, Any]
) -> None:
    async with Client(server, mode=era) as client:
        prompt = await client.get_prompt("sample", given)
    text = render_persona(load_persona(root / "personas" / "sample.md"), **meant)
    assert wire(prompt) == {
        "description": "A tester. Use when a test needs a persona.",
        "messages": [{"role": "user", "content": {"type": "text", "text": text}}],
    }
    assert meant.get("focus", "") in text


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("smaple", {}, "unknown prompt 'smaple'; did you mean 'sample'? (available: sample)"),
        ("sample", {"fcus": "x"}, "sample: unknown argument 'fcus'; did you mean 'focus'? (it takes focus, depth)"),
        ("sample", {"depth": "breif"}, "unknown depth 'breif'; did you mean 'brief'? (available: brief, full)"),
        ("sample", {"focus": "x" * 501}, "focus has 501 characters; use at most 500"),
    ],
)
async def test_a_prompt_that_cannot_be_made_is_invalid_parameters(
    server: AdvisorServer, era: Any, name: str, arguments: dict[str, str], sentence: str
) -> None:
    async with Client(server, mode=era) as client:
        with pytest.raises(MCPError) as caught:
            await client.get_prompt(name, arguments)
    assert (caught.value.error.code, caught.value.error.message) == (INVALID_PARAMS, sentence)


async def test_an_argument_that_is_no_text_is_named(server: AdvisorServer) -> None:
    with pytest.raises(MCPError) as caught:
        await server.get_prompt("sample", {"focus": 3})
    assert (caught.value.error.code, caught.value.error.message) == (
        INVALID_PARAMS,
        "sample: focus must be text, not 3",
    )


async def test_a_fault_while_rendering_tells_the_client_nothing_of_itself(
    server: AdvisorServer, era: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise RuntimeError("secret in /etc/hidden")

    monkeypatch.setattr("advisor_mcp.personas.rendering.render_persona", fail)
    async with Client(server, mode=era) as client:
        with pytest.raises(MCPError) as caught:
            await client.get_prompt("sample")
    sentence = "the persona 'sample' could not be rendered; the server's log says why"
    assert (caught.value.error.code, caught.value.error.message) == (INTERNAL_ERROR, sentence)


@pytest.mark.parametrize(
    ("argument", "typed", "values"),
    [("depth", "", ["brief", "full"]), ("depth", "F", ["full"]), ("depth", "x", []), ("focus", "", [])],
)
async def test_a_prompts_depth_is_completed(
    server: AdvisorServer, era: Any, argument: str, typed: str, values: list[str]
) -> None:
    reference = PromptReference(name="sample")
    async with Client(server, mode=era) as client:
        completed = await client.complete(reference, {"name": argument, "value": typed})
    assert wire(completed) == {"completion": {"values": values, "total": len(values), "hasMore": False}}
