"""The client against a server on loopback that behaves well, badly, or not at all."""

from __future__ import annotations

import gzip
import json
import socket
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.gpus.fleet.servers import answering, certificate, reply

from advisor_mcp.errors import Cancelled, CannotAnswer
from advisor_mcp.gpus.fleet.address import Address, parsed
from advisor_mcp.gpus.fleet.client import Limits, Prometheus, Series, Value

VECTOR = {"resultType": "vector", "result": [{"metric": {"gpu": "0"}, "value": [10, "1.5"]}]}


def body(data: Any) -> bytes:
    return json.dumps({"status": "success", "data": data}).encode()


def refusal(reason: str, kind: str = "bad_data") -> bytes:
    return json.dumps({"status": "error", "errorType": kind, "error": reason}).encode()


def failure(url: str, limits: Limits | None = None) -> CannotAnswer:
    with pytest.raises(CannotAnswer) as caught, Prometheus(parsed(url), limits) as client:
        client.instant("up", 10)
    return caught.value


def test_an_instant_query_gives_its_series_and_leaves_out_what_is_no_number() -> None:
    rows = [{"metric": {"gpu": str(at)}, "value": [10, text]} for at, text in enumerate(["1.5", "NaN", "+Inf", "0"])]
    sent = body({"resultType": "vector", "result": rows})
    with answering(lambda request: reply(request, 200, sent)) as url, Prometheus(parsed(url)) as client:
        assert client.instant("x", 10) == [Value({"gpu": "0"}, 1.5), Value({"gpu": "3"}, 0.0)]


def test_a_range_query_asks_by_get_with_its_span_and_gives_points() -> None:
    asked = []
    matrix = {"resultType": "matrix", "result": [{"metric": {}, "values": [[0, "1"], [60, "NaN"], [120, "3"]]}]}

    def handle(request: BaseHTTPRequestHandler) -> None:
        asked.append(parse_qs(urlsplit(request.path).query))
        reply(request, 200, body(matrix))

    with answering(handle) as url, Prometheus(parsed(url)) as client:
        assert client.range("x[1m]", 0, 120, 60) == [Series({}, ((0.0, 1.0), (120.0, 3.0)))]
    assert asked == [
        {"query": ["x[1m]"], "start": ["0.000"], "end": ["120.000"], "step": ["60.000"], "timeout": ["20s"]}
    ]


def test_one_connection_serves_all_queries_and_is_opened_anew_when_the_server_closed_it() -> None:
    ports = []

    def handle(request: BaseHTTPRequestHandler) -> None:
        ports.append(request.client_address[1])
        reply(request, 200, body(VECTOR))
        request.close_connection = len(ports) == 2  # without saying so beforehand

    with answering(handle) as url, Prometheus(parsed(url)) as client:
        assert [len(client.instant("up", 10)) for _ in range(3)] == [1, 1, 1]
    assert ports[0] == ports[1] != ports[2]


def test_a_packed_answer_is_unpacked() -> None:
    packed = gzip.compress(body(VECTOR))
    respond = partial(reply, status=200, body=packed, Content_Encoding="gzip")
    with answering(respond) as url, Prometheus(parsed(url)) as client:
        assert client.instant("up", 10) == [Value({"gpu": "0"}, 1.5)]


@pytest.mark.parametrize("pack", [True, False])
def test_an_answer_that_is_too_long_is_cut_off_before_it_is_held(pack: bool) -> None:
    long = b" " * 2**22
    sent = gzip.compress(long) if pack else long
    headers = {"Content_Encoding": "gzip"} if pack else {}

    with answering(lambda request: reply(request, 200, sent, **headers)) as url:
        error = failure(url, Limits(response_bytes=2**20))
    assert (error.message, error.needs) == (f"{url} answers with more than 1 MiB", ["a shorter window"])


def test_more_series_than_are_read_are_refused() -> None:
    rows = [{"metric": {"gpu": str(at)}, "value": [10, "1"]} for at in range(3)]
    with answering(lambda request: reply(request, 200, body({"resultType": "vector", "result": rows}))) as url:
        error = failure(url, Limits(series=2))
    assert error.message == f"{url} answers with 3 series where at most 2 are read"


@pytest.mark.parametrize(
    ("status", "sent", "sentence"),
    [
        (400, refusal("parse error: unexpected end of input"), "could not answer a query (HTTP 400): 'parse error: unexpected end of input'"),
        (422, refusal("query processing would load too many samples", "execution"), "could not answer a query (HTTP 422): 'query processing would load too many samples'"),
        (503, refusal("query timed out", "timeout"), "could not answer a query (HTTP 503): 'query timed out'"),
        (404, b"404 page not found", "does not answer as a Prometheus does (HTTP 404)"),
        (200, b"<html>Grafana</html>", "does not answer as a Prometheus does (HTTP 200)"),
        (200, b"[" * 100_000, "does not answer as a Prometheus does (HTTP 200)"),
        (200, b'{"status": "success"}', "does not answer as a Prometheus does (HTTP 200)"),
        (200, body({"resultType": "vector", "result": [{"metric": {}, "value": "?"}]}), "does not answer as a Prometheus does (HTTP 200)"),
        (200, body({"resultType": "scalar", "result": [10, "1"]}), "does not answer as a Prometheus does (HTTP 200)"),
        (401, b"", "refuses this call without a token (HTTP 401)"),
        (403, b"", "refuses this call without a token (HTTP 403)"),
        (500, b"", "does not answer as a Prometheus does (HTTP 500)"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_a_sentence(status: int, sent: bytes, sentence: str) -> None:
    with answering(lambda request: reply(request, status, sent)) as url:
        assert failure(url).message == f"{url} {sentence}"


def test_a_redirect_is_not_followed() -> None:
    asked = []

    def handle(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        reply(request, 302, b"", Location="http://127.0.0.1:1/elsewhere")

    with answering(handle) as url:
        assert failure(url).message == f"{url} redirects elsewhere, which is not followed (HTTP 302)"
    assert len(asked) == 1


def test_nobody_at_the_address_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port
        port = taken.getsockname()[1]
        assert (
            failure(f"http://127.0.0.1:{port}").message
            == f"nothing listens at http://127.0.0.1:{port} (connection refused)"
        )


def test_a_host_that_is_not_known_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert (
        failure("http://prometheus.invalid:9090").message
        == "the host of http://prometheus.invalid:9090 is not known here"
    )


def test_a_server_without_tls_is_told_from_one_that_is_down() -> None:
    with answering(lambda request: reply(request, 200, b"")) as url:
        tls = url.replace("http", "https")
        assert failure(tls).message == f"{tls} does not speak TLS as expected"


def test_a_certificate_is_checked_against_the_ca_file_unless_that_is_turned_off(tmp_path: Path) -> None:
    ca, context = certificate(tmp_path)
    with answering(lambda request: reply(request, 200, body(VECTOR)), tls=context) as url:
        address = parsed(url)
        error = failure(url)
        assert error.message == f"the certificate of {url} is not trusted here"
        assert error.needs == ["its CA's certificate, named by ADVISOR_MCP_PROMETHEUS_CA"]
        for trusting in (replace(address, ca_file=str(ca)), replace(address, verify=False)):
            with Prometheus(trusting) as client:
                assert client.instant("up", 10) == [Value({"gpu": "0"}, 1.5)]


@pytest.mark.parametrize("drip", [False, True])
def test_a_server_that_does_not_finish_is_left_in_time(drip: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, answering(_dripping) as dripping:
        url = dripping if drip else f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert failure(url, Limits(query_s=0.2)).message == f"{url} did not answer within 0.2 s"


def _dripping(request: BaseHTTPRequestHandler) -> None:
    """A byte now and then, so that no single read ever waits for long."""
    pause = Event()
    try:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            request.wfile.write(b" ")
            request.wfile.flush()
            pause.wait(0.02)
    except OSError:
        request.close_connection = True


def test_all_queries_together_have_a_limit() -> None:
    with answering(lambda request: reply(request, 200, body(VECTOR))) as url:
        assert failure(url, Limits(total_s=0)).message == f"{url} did not answer within 0 s"


def test_a_cancelled_call_asks_nothing_more() -> None:
    def cancelled() -> None:
        raise Cancelled("the call was cancelled")

    with pytest.raises(Cancelled), Prometheus(parsed("http://127.0.0.1:9"), check=cancelled) as client:
        client.now()


def test_a_credential_is_sent_and_never_shown() -> None:
    sent = []

    def handle(request: BaseHTTPRequestHandler) -> None:
        sent.append(request.headers.get("Authorization"))
        reply(request, 401, b"who is s3cret?")

    with answering(handle) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        address = Address("http", host, int(port), authorization="Bearer s3cret")
        with pytest.raises(CannotAnswer) as caught, Prometheus(address) as client:
            client.now()
    assert sent == ["Bearer s3cret"]
    assert caught.value.message == f"{url} refuses this call with the token that is set (HTTP 401)"
    assert "s3cret" not in repr(address) + str(address) + str(caught.value.needs)
