"""A real Prometheus on loopback, with history that promtool made, or scraping an exporter of the test's own."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

DEADLINE_S = 60


def tool(name: str) -> str:
    """The path of a program of Debian's package `prometheus`; skips the test where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install prometheus)")
    return found


@contextmanager
def answering(handle: Callable[[BaseHTTPRequestHandler], None], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server on loopback whose GET requests a function answers; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            handle(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def reply(request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """Answer a request."""
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that nobody has signed, and a server's context that presents it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made, key = folder / "certificate.pem", folder / "key.pem"
    words = [
        "req",
        "-x509",
        "-nodes",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-days",
        "2",
        "-subj",
        "/CN=test",
    ]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", *words, *names, "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True, timeout=DEADLINE_S)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return made, context


@contextmanager
def exporter(serve: Callable[[], str | None]) -> Iterator[str]:
    """An exporter whose /metrics is what a function gives, failing where that is None; gives its HOST:PORT."""

    def handle(request: BaseHTTPRequestHandler) -> None:
        text = serve()
        status = 503 if text is None else 200
        reply(request, status, (text or "").encode(), Content_Type="text/plain; version=0.0.4")

    with answering(handle) as url:
        yield url.removeprefix("http://")


def backfill(folder: Path, text: str) -> None:
    """Make blocks of samples in OpenMetrics text."""
    source = folder / "history.txt"
    source.write_text(text, encoding="utf-8")
    made = subprocess.run(
        [tool("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(source), str(folder / "data")],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert made.returncode == 0, made.stderr


@contextmanager
def prometheus(folder: Path, targets: tuple[str, ...] = (), interval: str = "200ms") -> Iterator[str]:
    """A Prometheus over the blocks in a folder that scrapes the targets; gives its URL once it is ready."""
    program = tool("prometheus")
    config = folder / "prometheus.yml"
    scrape = {"scrape_interval": interval, "scrape_timeout": interval}
    jobs = (
        [{"job_name": "dcgm", "honor_labels": True, "static_configs": [{"targets": list(targets)}]}] if targets else []
    )
    config.write_text(json.dumps({"global": scrape, "scrape_configs": jobs}), encoding="utf-8")
    port = _free_port()
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--storage.tsdb.retention.time=60d",
        "--log.level=error",
    ]
    log = (folder / "prometheus.log").open("wb")
    with log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            until(lambda: process.poll() is not None or _ready(port), f"Prometheus on port {port}")
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def until(done: Callable[[], bool], what: str) -> None:
    """Ask again until something is so; fails after a deadline that only a broken test reaches."""
    end = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not done():
        if time.monotonic() > end:
            pytest.fail(f"{what} was not ready within {DEADLINE_S} s")
        pause.wait(0.05)


def value(url: str, query: str) -> float | None:
    """The first value of an instant query, or None."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=DEADLINE_S)
    try:
        connection.request("GET", f"/api/v1/query?query={quote(query)}")
        rows = json.loads(connection.getresponse().read())["data"]["result"]
    finally:
        connection.close()
    return float(rows[0]["value"][1]) if rows else None


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
