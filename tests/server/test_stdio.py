"""The server as a child process, over standard input and output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from benchmarks.startup import WireClient
from mcp import Client, StdioServerParameters
from mcp.types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    LATEST_PROTOCOL_VERSION,
    PARSE_ERROR,
    PROTOCOL_VERSION_META_KEY,
)
from tests.server.samples import TOOLS, environment, serving

ACTION = "serve_stdio()"
PATIENCE_S = 60
ENVELOPE = {  # what a request of the newer era carries in place of a handshake
    PROTOCOL_VERSION_META_KEY: LATEST_PROTOCOL_VERSION,
    CLIENT_INFO_META_KEY: {"name": "wire-client", "version": "1"},
    CLIENT_CAPABILITIES_META_KEY: {},
}


@pytest.fixture
def client(root: Path) -> Iterator[WireClient]:
    """A server that has been shaken hands with; one that hangs is killed, which ends the test."""
    client = WireClient(serving(root, ACTION), environment(), stderr=subprocess.PIPE)
    watchdog = threading.Timer(PATIENCE_S, client.process.kill)
    watchdog.start()
    client.initialize()
    yield client
    watchdog.cancel()
    client.process.kill()
    client.process.wait()
    for stream in (client.process.stdin, client.process.stdout, client.process.stderr):
        assert stream
        try:
            stream.close()
        except BrokenPipeError:
            assert stream is client.process.stdin


@contextmanager
def served(root: Path) -> Iterator[WireClient]:
    """A server that nothing was said to yet; one that hangs is killed."""
    client = WireClient(serving(root, ACTION), environment(), stderr=subprocess.DEVNULL)
    watchdog = threading.Timer(PATIENCE_S, client.process.kill)
    watchdog.start()
    try:
        yield client
    finally:
        watchdog.cancel()
        client.close()


def call(client: WireClient, tool: str, **arguments: Any) -> dict[str, Any]:
    """A tool's structured answer."""
    found: dict[str, Any] = client.request("tools/call", {"name": tool, "arguments": arguments})["structuredContent"]
    return found


def begin(client: WireClient, tool: str) -> None:
    """Call a tool that waits, and return once it runs."""
    client.ask("tools/call", {"name": tool, "arguments": {}, "_meta": {"progressToken": "begun"}})
    assert client.receive() == {
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": "begun", "progress": 1, "message": "started"},
    }


def errors(client: WireClient) -> str:
    """What the process wrote to stderr; it must have ended."""
    assert client.process.stderr
    return client.process.stderr.read().decode()


@pytest.mark.anyio
async def test_a_client_of_either_era_is_served(root: Path, era: Any) -> None:
    command, *arguments = serving(root, ACTION)
    parameters = StdioServerParameters(command=command, args=arguments, env=environment())
    with anyio.fail_after(PATIENCE_S):
        async with Client(parameters, mode=era) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == sorted(TOOLS)
            result = await client.call_tool("adder", {"first": 40, "second": 2})
            prompt = await client.get_prompt("sample", {"depth": "brief"})
    assert result.structured_content is not None
    assert result.structured_content["total"] == 42
    assert "Dr. Sample" in prompt.messages[0].content.text  # type: ignore[union-attr]


def test_what_a_tool_prints_goes_to_stderr_and_never_to_the_client(client: WireClient) -> None:
    assert call(client, "printer")["summary"] == "printed"
    assert call(client, "adder", first=1)["total"] == 2
    client.process.stdin.close()  # type: ignore[union-attr]
    assert client.process.stdout
    assert (client.process.stdout.read(), client.process.wait(PATIENCE_S)) == (b"", 0)
    noise = errors(client)
    assert [line for line in ("print", "the descriptor", "a child") if f"noise from {line}" not in noise] == []


def test_a_fault_is_logged_to_stderr_and_the_client_is_told_one_sentence(client: WireClient) -> None:
    with pytest.raises(RuntimeError, match="fault of its own") as caught:
        call(client, "crasher")
    assert "secret" not in str(caught.value)
    client.process.stdin.close()  # type: ignore[union-attr]
    assert client.process.wait(PATIENCE_S) == 0
    assert "RuntimeError: secret in /etc/hidden" in errors(client)


def test_a_client_that_closes_its_output_in_mid_call_ends_the_server_quietly(client: WireClient) -> None:
    begin(client, "waiter")
    client.process.stdin.close()  # type: ignore[union-attr]
    assert client.process.wait(PATIENCE_S) == 0
    assert errors(client) == ""


def test_a_client_that_stops_reading_ends_the_server_quietly(client: WireClient) -> None:
    begin(client, "waiter")
    client.process.stdout.close()  # type: ignore[union-attr]
    client.ask("tools/list", {})
    assert client.process.wait(PATIENCE_S) == 0
    assert errors(client) == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_even_in_mid_call(client: WireClient, number: signal.Signals) -> None:
    begin(client, "waiter")
    client.process.send_signal(number)
    assert client.process.wait(PATIENCE_S) == -number
    assert errors(client) == ""


def put(client: WireClient, line: str) -> None:
    """Send a line as it stands."""
    assert client.process.stdin
    client.process.stdin.write(line.encode() + b"\n")
    client.process.stdin.flush()


@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize(
    "broken", ['{"name": "\\ud800"}', '{"\\ud800": 1}', f"{'[' * 50_000}{']' * 50_000}", "7" * 5_000, '{"name": ']
)
def test_a_request_that_cannot_be_read_is_answered_under_its_id(root: Path, modern: bool, broken: str) -> None:
    with served(root) as client:
        if modern:
            client.request("tools/list", {"_meta": ENVELOPE})
        else:
            client.initialize()
        put(client, f'{{"jsonrpc": "2.0", "id": "mine", "method": "tools/call", "params": {broken}}}')
        answer = client.receive()
        assert (answer["id"], answer["error"]["code"]) == ("mine", PARSE_ERROR)
        listed = client.request("tools/list", {"_meta": ENVELOPE} if modern else {})
    assert [tool["name"] for tool in listed["tools"]] == sorted(TOOLS)


def test_a_line_that_cannot_be_read_is_answered_before_the_first_request_too(root: Path) -> None:
    with served(root) as client:
        put(client, "hello")
        answer = client.receive()
        client.initialize()
    assert (answer["id"], answer["error"]["code"]) == (None, PARSE_ERROR)


def test_blank_lines_are_passed_over(client: WireClient) -> None:
    put(client, "\n  \r\n")
    client.ask("ping", {})
    assert client.receive()["result"] == {}


def test_a_call_of_ten_million_characters_is_refused_and_the_next_is_answered(client: WireClient) -> None:
    with pytest.raises(RuntimeError, match="over 8,000,000 characters"):
        call(client, "adder", first="7" * 10_000_000)
    assert call(client, "adder", first=1)["total"] == 2


def test_requests_sent_at_once_are_all_answered(client: WireClient) -> None:
    asked = [client.ask("tools/call", {"name": "adder", "arguments": {"first": n}}) for n in range(30)]
    answers = [client.receive() for _ in asked]
    totals = {answer["id"]: answer["result"]["structuredContent"]["total"] for answer in answers}
    assert totals == {number: first + 1 for first, number in enumerate(asked)}


def test_text_beyond_ascii_survives_the_wire(client: WireClient) -> None:
    client.ask("tools/call", {"name": "addér — ∑", "arguments": {}})
    (content,) = client.receive()["result"]["content"]
    assert content["text"].startswith("unknown tool 'addér — ∑' (available: ")


def test_starting_and_listing_imports_no_more_than_the_sdk_does(root: Path) -> None:
    started = (
        "import mcp.server, mcp.server.stdio; names = lambda: {name.partition('.')[0] for name in sys.modules}; "
        "before = names(); import anyio; from advisor_mcp.server import build_server; "
        "from advisor_mcp.serving import wire; server = build_server(); "
        "[anyio.run(each) for each in (server.list_tools, server.list_prompts, server.list_resources)]; "
        "print(sorted(names() - before - sys.stdlib_module_names), "
        "[name for name in ('sqlite3', 'advisor_mcp.knowledge', 'advisor_mcp.tools.adder') if name in sys.modules])"
    )
    done = subprocess.run(serving(root, started), env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"


def test_the_way_in_does_not_import_the_sdk() -> None:
    code = "import sys, advisor_mcp.server; print('mcp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
