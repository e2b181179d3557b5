"""The Messages API agent, against a local HTTP server that plays the model and an MCP server in memory."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

import pytest
from mcp import Client
from mcp.server import MCPServer
from mcp.server.mcpserver import UserMessage
from mcp.types import CallToolResult, TextContent

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the agent runs on."""
    return "asyncio"


@pytest.fixture
def agent() -> ModuleType:
    """The program, which needs the package `anthropic`."""
    pytest.importorskip("anthropic", reason="the extra `client` is not installed", exc_type=ImportError)
    return importlib.import_module("clients.anthropic_agent")


def reply(*blocks: dict[str, Any], stop_reason: str) -> dict[str, Any]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "stub", "content": list(blocks),
            "stop_reason": stop_reason, "stop_sequence": None, "usage": usage}  # fmt: skip


def wants(tool: str, **arguments: Any) -> dict[str, Any]:
    block = {"type": "tool_use", "id": f"toolu_{tool}", "name": tool, "input": arguments}
    return reply(block, stop_reason="tool_use")


def says(text: str) -> dict[str, Any]:
    return reply({"type": "text", "text": text}, stop_reason="end_turn")


@contextmanager
def model_that_replies(*replies: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A local Messages API: its address, and the requests that it got."""
    waiting, requests = list(replies), list[dict[str, Any]]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append({"path": self.path, **body})
            data = json.dumps(waiting.pop(0) if len(waiting) > 1 else waiting[0]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
            thread.join()


def advisor() -> MCPServer:
    """A server with one persona and one tool, in place of the real one."""
    server = MCPServer("stub", instructions="Calculate before you claim.", log_level="CRITICAL")

    @server.prompt()
    def optima() -> list[UserMessage]:
        """A persona."""
        return [UserMessage("You are Optima.")]

    @server.tool(structured_output=False)
    def weights(params_b: int) -> CallToolResult:
        """Weights of a model in bf16."""
        text = f"{2 * params_b} GB" if params_b <= 1000 else "params_b is at most 1000"
        return CallToolResult(content=[TextContent(type="text", text=text)], is_error=params_b > 1000)

    return server


async def ask(agent: ModuleType, base_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    model = agent.AsyncAnthropic(api_key="none", base_url=base_url, max_retries=0)
    async with model as claude, Client(advisor()) as client:
        return await agent.answer(claude, client, "How large is a 70B model?", "optima", "stub")


async def test_the_model_gets_persona_and_tools_and_then_what_the_tool_answered(
    agent: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with model_that_replies(wants("weights", params_b=70), says("It has 140 GB.")) as (url, requests):
        said = await ask(agent, url, monkeypatch)
    first, second = requests
    question = {"role": "user", "content": "How large is a 70B model?"}
    assert said == "It has 140 GB."
    assert [tool["name"] for tool in first["tools"]] == ["weights"]
    assert first["tools"][0]["input_schema"]["required"] == ["params_b"]
    assert {key: first[key] for key in ("path", "model", "system", "messages")} == {
        "path": "/v1/messages",
        "model": "stub",
        "system": "Calculate before you claim.\n\nYou are Optima.",
        "messages": [question],
    }
    call = {"type": "tool_use", "id": "toolu_weights", "name": "weights", "input": {"params_b": 70}}
    result = {"type": "tool_result", "tool_use_id": "toolu_weights", "content": "140 GB", "is_error": False}
    assert second["messages"] == [
        question,
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]


async def test_a_tool_that_refuses_is_told_to_the_model_as_an_error(
    agent: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with model_that_replies(wants("weights", params_b=5000), says("Too large.")) as (url, requests):
        await ask(agent, url, monkeypatch)
    (result,) = requests[1]["messages"][-1]["content"]
    assert (result["is_error"], result["content"]) == (True, "params_b is at most 1000")


async def test_a_model_that_never_stops_asking_for_tools_is_stopped(
    agent: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "MAX_ROUNDS", 3)
    with model_that_replies(wants("weights", params_b=1)) as (url, requests):
        said = await ask(agent, url, monkeypatch)
    assert said == "No answer: the model still asked for tools after 3 rounds; ask a narrower question."
    assert len(requests) == 3
