"""The MCP server's way in; the SDK is imported when a server is built, never before."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from advisor_mcp import access
from advisor_mcp.catalogue import Catalogue, default_catalogue
from advisor_mcp.errors import UsageError, shown

if TYPE_CHECKING:
    from advisor_mcp.serving.application import AdvisorServer


def build_server(
    catalogue: Catalogue | None = None, access: Callable[[], AbstractContextManager[None]] | None = None
) -> AdvisorServer:
    """A server over the catalogue (by default the built-in one), for any transport of the SDK.

    `access` is entered around every call and says what the call may read; without it, whatever this process may.
    """
    from advisor_mcp.serving.application import AdvisorServer

    return AdvisorServer(default_catalogue() if catalogue is None else catalogue, access)


def serve_stdio(catalogue: Catalogue | None = None) -> None:
    """Serve one client over standard input and output, until it closes them."""
    _log_to_stderr()
    with _uncollected():
        from advisor_mcp.serving import wire

        server = build_server(catalogue)
    wire.serve(server)


def serve_http(
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    catalogue: Catalogue | None = None,
    root: Path | None = None,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Serve Streamable HTTP at `/mcp` until interrupted.

    Calls may read files only below `root`, and none without it. Beyond loopback, `allowed_hosts` must name the hosts
    that clients use. Where ADVISOR_MCP_TOKEN is set, requests need it as a bearer token. Raises `UsageError` for an
    address, a host or a folder that cannot be served.
    """
    if root is not None and not root.is_dir():
        raise UsageError(f"--root {shown(str(root))} is not a folder; name the folder whose files calls may read")
    _log_to_stderr()
    with _uncollected():
        from advisor_mcp.serving import http

        server = build_server(catalogue, partial(access.limited, root))
    http.serve(server, host, port, allowed_hosts)


def _log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="advisor-mcp: %(levelname)s: %(message)s")


@contextmanager
def _uncollected() -> Iterator[None]:
    """Import without the garbage collector, then leave what was imported out of its sight: an eighth off the start."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        gc.freeze()
