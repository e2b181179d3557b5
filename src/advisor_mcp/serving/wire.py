"""Standard input and output as the wire: nothing but protocol messages may pass."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import cast

import anyio
from anyio import to_thread
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage

from advisor_mcp.serving.application import AdvisorServer
from advisor_mcp.serving.unreadable import pass_messages

CHUNK = 1 << 20


class WireIn:
    """Lines of UTF-8 from a descriptor; unlike the SDK's, a read that waits can be left when the other side is gone."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def __aiter__(self) -> AsyncIterator[str]:
        parts: list[bytes] = []
        while chunk := await to_thread.run_sync(os.read, self._descriptor, CHUNK, abandon_on_cancel=True):
            *ended, rest = chunk.split(b"\n")
            for line in ended:
                whole = b"".join((*parts, line))
                parts.clear()
                if whole.strip():
                    yield whole.decode("utf-8", "replace")
            parts.append(rest)


class WireOut:
    """Text to a descriptor, written at each flush."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: list[str] = []

    async def write(self, text: str) -> None:
        """Keep the text for the next flush."""
        self._waiting.append(text)

    async def flush(self) -> None:
        """Write what is waiting."""
        data = "".join(self._waiting).encode()
        self._waiting.clear()
        await to_thread.run_sync(_write_all, self._descriptor, data, abandon_on_cancel=True)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextmanager
def private_stdio() -> Iterator[tuple[int, int]]:
    """Descriptors of the wire; until the end, what tools and their children print goes to stderr, and they read EOF."""
    wire_in, wire_out = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(nothing, 0)
        try:
            os.dup2(2, 1)
        except OSError:  # started without a stderr
            os.dup2(nothing, 1)
        with redirect_stdout(sys.stderr or io.StringIO()):
            yield wire_in, wire_out
    finally:
        os.dup2(wire_in, 0)
        os.dup2(wire_out, 1)
        os.close(nothing)


def serve(server: AdvisorServer) -> None:
    """Serve until the other side closes either pipe; an interrupt or a termination ends the process at once."""
    if threading.current_thread() is threading.main_thread():
        # Python's own handler would wait for the thread that reads the wire
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    with private_stdio() as (wire_in, wire_out):
        try:
            anyio.run(_exchange, server, wire_in, wire_out)
        except* ConnectionError:
            pass  # the client left: there is nobody to tell
    end_threads(0)


async def _exchange(server: AdvisorServer, wire_in: int, wire_out: int) -> None:
    protocol = server._lowlevel_server  # the SDK serves a stream pair of one's own only through it
    lines, out = cast("anyio.AsyncFile[str]", WireIn(wire_in)), cast("anyio.AsyncFile[str]", WireOut(wire_out))
    async with stdio_server(lines, out) as (read, write), anyio.create_task_group() as tasks:
        told, heard = anyio.create_memory_object_stream[SessionMessage | Exception]()
        tasks.start_soon(pass_messages, read, told, write)
        await protocol.run(heard, write, protocol.create_initialization_options())


def end_threads(status: int) -> None:
    """End the process if a thread is still computing for a caller who left: it cannot be stopped, nor waited for."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(0.2)
            if thread.is_alive():
                with suppress(Exception):
                    sys.stderr.flush()
                os._exit(status)
