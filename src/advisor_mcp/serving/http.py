"""Streamable HTTP: loopback unless the operator names the hosts, an optional bearer token, and a health check."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Sequence

import anyio
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from advisor_mcp import __version__
from advisor_mcp.errors import UsageError, shown
from advisor_mcp.serving.application import AdvisorServer
from advisor_mcp.serving.wire import end_threads

TOKEN = "ADVISOR_MCP_TOKEN"
HEALTH = "/healthz"
LARGEST_BODY = 16 * 2**20  # above what one call may hold, so that the call's own sentence answers
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
FAREWELL_S = 2


class BearerToken:
    """An ASGI application that answers only requests with the operator's token; the health check needs none."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != HEALTH and not self._allowed(scope):
            refusal = {"error": "this server needs the header 'Authorization: Bearer TOKEN'"}
            response = JSONResponse(refusal, 401, headers={"WWW-Authenticate": "Bearer"})
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _allowed(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)


def token_from_environment() -> str | None:
    """The operator's token, or None where none is set; raises `UsageError` for one that no request could carry."""
    token = os.environ.get(TOKEN)
    if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
        raise UsageError(f"{TOKEN} must be printable ASCII without spaces; unset it to serve without a token")
    return token


def security(host: str, allowed_hosts: Sequence[str]) -> TransportSecuritySettings:
    """Which Host and Origin headers are served; raises `UsageError` for a public address without named hosts."""
    if not allowed_hosts and not _is_loopback(host):
        raise UsageError(
            f"{shown(host)} is not a loopback address; name each host that clients use with --allowed-host HOST"
        )
    for name in allowed_hosts:
        if not name or set(name) & set("*/@ "):
            raise UsageError(f"allowed host {shown(name)} must be a host name or HOST:PORT, without wildcards")
    hosts = [pattern for name in (*LOOPBACK, *allowed_hosts) for pattern in _patterns(name)]
    origins = [f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")]
    return TransportSecuritySettings(enable_dns_rebinding_protection=True, allowed_hosts=hosts, allowed_origins=origins)


def _patterns(name: str) -> tuple[str, ...]:
    has_port = name.rpartition("]")[2].count(":") == 1
    return (name,) if has_port else (name, f"{name}:*")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def application(server: AdvisorServer, host: str, allowed_hosts: Sequence[str]) -> ASGIApp:
    """The ASGI application: `/mcp` for both protocol eras, `/healthz` for the operator."""

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "version": __version__})

    server.custom_route(HEALTH, methods=["GET"])(health)
    app = server.streamable_http_app(
        host=host, transport_security=security(host, allowed_hosts), max_request_body_size=LARGEST_BODY
    )
    token = token_from_environment()
    return BearerToken(app, token) if token else app


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `UsageError` where that is not possible."""
    if not 0 <= port <= 65_535:
        raise UsageError(f"port must be between 0 and 65535, not {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        why = str(error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0))
        raise UsageError(f"cannot listen on {host} port {port}: {why.lower()}") from None


def _unless_cancelled(record: logging.LogRecord) -> bool:
    """Whether a log record is worth keeping: a call that was cut off by the end of the server is no fault."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def serve(server: AdvisorServer, host: str, port: int, allowed_hosts: Sequence[str]) -> None:
    """Serve until interrupted; the address is told on stderr once connections are taken."""
    import uvicorn

    app = application(server, host, allowed_hosts)
    with listen(host, port) as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=FAREWELL_S)
        name = f"[{host}]" if ":" in host else host
        print(f"advisor-mcp serves http://{name}:{listener.getsockname()[1]}/mcp", file=sys.stderr, flush=True)
        logging.getLogger("uvicorn.error").addFilter(_unless_cancelled)
        try:
            anyio.run(lambda: uvicorn.Server(config).serve([listener]))
        except KeyboardInterrupt:
            end_threads(130)
            raise
    end_threads(0)
