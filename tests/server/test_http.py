"""The server over Streamable HTTP, on loopback and a port of the system's choice."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.types import LATEST_PROTOCOL_VERSION
from tests.server.samples import environment, serving, spoken, wire

from advisor_mcp import __version__
from advisor_mcp.errors import UsageError
from advisor_mcp.server import serve_http
from advisor_mcp.serving.http import TOKEN, listen, security, token_from_environment

PATIENCE_S = 60
Start = Callable[..., tuple[str, int, "subprocess.Popen[str]"]]


@pytest.fixture
def start(root: Path) -> Iterator[Start]:
    """Starts a server and returns its URL, its port and its process once it listens."""
    started: list[tuple[subprocess.Popen[str], threading.Timer]] = []

    def start(options: str = "", **variables: str) -> tuple[str, int, subprocess.Popen[str]]:
        command = serving(root, f"serve_http(port=0, {options})")
        process = subprocess.Popen(command, env=environment(**variables), stderr=subprocess.PIPE, text=True)
        watchdog = threading.Timer(PATIENCE_S, process.kill)
        watchdog.start()
        started.append((process, watchdog))
        assert process.stderr
        line = process.stderr.readline().split()
        assert line[:2] == ["advisor-mcp", "serves"]
        return line[2], int(line[2].rpartition(":")[2].partition("/")[0]), process

    yield start
    for process, watchdog in started:
        watchdog.cancel()
        process.kill()
        process.wait()
        assert process.stderr
        process.stderr.close()


def ask(port: int, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    """Status and body of a plain HTTP request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request(method, path, body=b"{}" if method == "POST" else None, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


@pytest.mark.anyio
async def test_a_client_of_either_era_calls_with_progress(start: Start, era: Any) -> None:
    url, _, _ = start()
    told: list[float] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    with anyio.fail_after(PATIENCE_S):
        async with Client(url, mode=era) as client:
            result = await client.call_tool("stepper", {"steps": 3}, progress_callback=tell)
            prompts = (await client.list_prompts()).prompts
    assert result.structured_content is not None
    assert (result.structured_content["summary"], told) == ("3 steps", [1, 2, 3])
    assert [prompt.name for prompt in prompts] == ["sample"]


@pytest.mark.anyio
async def test_a_call_reads_no_path_unless_the_operator_named_a_folder(start: Start, tmp_path: Path, era: Any) -> None:
    closed, _, _ = start()
    opened, _, _ = start(f"root=Path({str(tmp_path)!r})")
    answers = []
    with anyio.fail_after(PATIENCE_S):
        for url, path in ((closed, "config.json"), (opened, "config.json"), (opened, "/etc/passwd")):
            async with Client(url, mode=era) as client:
                answers.append(wire(await client.call_tool("caller", {"path": path})))
    refused, read, outside = answers
    assert refused == spoken("this server reads no paths; pass the file's content, or ask its operator for --root DIR")
    assert read["structuredContent"]["summary"] == str(tmp_path.resolve() / "config.json")
    assert outside == spoken("'/etc/passwd' lies outside the folder that this server may read")


@pytest.mark.anyio
async def test_a_call_of_ten_million_characters_is_refused_in_the_servers_own_words(start: Start, era: Any) -> None:
    url, _, _ = start()
    with anyio.fail_after(PATIENCE_S):
        async with Client(url, mode=era) as client:
            refused = await client.call_tool("adder", {"first": "7" * 10_000_000})
    assert wire(refused) == spoken(
        "adder: the arguments have over 8,000,000 characters; pass a path to the file instead"
    )


def test_the_health_check_answers_and_a_foreign_host_or_origin_does_not_pass(start: Start) -> None:
    _, port, _ = start("allowed_hosts=['advisor.internal']")
    json_type = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    status, body = ask(port, "GET", "/healthz")
    assert (status, json.loads(body)) == (200, {"status": "ok", "version": __version__})
    assert ask(port, "POST", "/mcp", Host="evil.example", **json_type)[0] == 421
    assert ask(port, "POST", "/mcp", Origin="http://evil.example", **json_type)[0] == 403
    assert ask(port, "POST", "/mcp", Host="advisor.internal", **json_type)[0] == 400
    assert ask(port, "POST", "/mcp", Host="advisor.internal:8443", **json_type)[0] == 400
    assert ask(port, "POST", "/mcp", **json_type)[0] == 400


def test_a_token_is_needed_for_everything_but_the_health_check(start: Start) -> None:
    _, port, _ = start(**{TOKEN: "s3cret"})
    refusal = {"error": "this server needs the header 'Authorization: Bearer TOKEN'"}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
        status, body = ask(port, "POST", "/mcp", **headers)
        assert (status, json.loads(body)) == (401, refusal)
    assert ask(port, "GET", "/healthz")[0] == 200
    right = {"Authorization": "Bearer s3cret", "Content-Type": "application/json"}
    assert ask(port, "POST", "/mcp", **right)[0] != 401


@pytest.mark.skipif(os.name == "nt", reason="Windows has no POSIX signals")
def test_a_termination_ends_the_server_without_a_traceback_even_in_mid_call(start: Start) -> None:
    _, port, process = start()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    envelope = {
        "io.modelcontextprotocol/protocolVersion": LATEST_PROTOCOL_VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": "begun",
    }
    call = {"name": "waiter", "arguments": {}, "_meta": envelope}
    connection.request(
        "POST",
        "/mcp",
        body=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}),
        headers={
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": LATEST_PROTOCOL_VERSION,
            "Mcp-Method": "tools/call",
            "Mcp-Name": "waiter",
        },
    )
    response = connection.getresponse()
    assert response.readline() == b"event: message\r\n"  # the tool runs
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == -signal.SIGTERM
    assert process.stderr
    assert process.stderr.read() == "advisor-mcp: ERROR: Cancel 1 running task(s), timeout graceful shutdown exceeded\n"
    connection.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "advisor.internal"])
def test_an_address_beyond_loopback_needs_its_hosts_named(host: str) -> None:
    with pytest.raises(UsageError) as caught:
        security(host, [])
    expected = f"'{host}' is not a loopback address; name each host that clients use with --allowed-host HOST"
    assert caught.value.message == expected


def test_named_hosts_pass_beside_loopback_with_any_port_unless_one_was_named() -> None:
    settings = security("0.0.0.0", ["advisor.internal", "gpu.internal:8443"])
    loopback = [name for host in ("127.0.0.1", "localhost", "[::1]") for name in (host, f"{host}:*")]
    hosts = [*loopback, "advisor.internal", "advisor.internal:*", "gpu.internal:8443"]
    assert settings.enable_dns_rebinding_protection
    assert settings.allowed_hosts == hosts
    assert settings.allowed_origins == [f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")]


@pytest.mark.parametrize("name", ["", "*", "*.internal", "https://advisor.internal", "user@advisor.internal", "a b"])
def test_a_host_with_a_wildcard_or_a_scheme_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="must be a host name or HOST:PORT, without wildcards"):
        security("127.0.0.1", [name])


@pytest.mark.parametrize("token", ["", " ", "two words", "schlüssel", "line\nbreak"])
def test_a_token_that_no_header_can_carry_is_refused(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, token)
    with pytest.raises(UsageError) as caught:
        token_from_environment()
    expected = "ADVISOR_MCP_TOKEN must be printable ASCII without spaces; unset it to serve without a token"
    assert caught.value.message == expected


def test_a_port_in_use_is_told_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError) as caught:
            listen("127.0.0.1", port)
    assert caught.value.message == f"cannot listen on 127.0.0.1 port {port}: address already in use"


def test_a_port_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        listen("127.0.0.1", 70_000)
    assert caught.value.message == "port must be between 0 and 65535, not 70000"


def test_a_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(UsageError, match="is not a folder; name the folder whose files calls may read"):
        serve_http(root=missing)
