"""Progress of a call that runs in a worker thread: reports go to the client, a withdrawn call stops the tool."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any

from anyio import from_thread

from advisor_mcp.errors import Cancelled

SMALLEST_STEP = 0.01
Notify = Callable[[float, float | None, str | None], Coroutine[Any, Any, None]]


class RequestProgress:
    """The `Progress` of one request; used by the tool's thread, withdrawn by the event loop."""

    def __init__(self, notify: Notify | None = None) -> None:
        self._notify = notify
        self._withdrawn = False
        self._told: tuple[float, str | None] | None = None

    def withdraw(self) -> None:
        """Make every later `check` raise."""
        self._withdrawn = True

    def check(self) -> None:
        """Raise `Cancelled` once the caller withdrew the call or the connection ended."""
        if self._withdrawn:
            raise Cancelled("the call was cancelled")

    def report(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell the client how far the work is, and check.

        The protocol asks for growing figures and few notifications: a report that does not grow, or that moves by less
        than a hundredth of `total` under the same message and does not finish, is not sent.
        """
        self.check()
        if self._notify is None or not self._worth_telling(done, total, message):
            return
        self._told = (done, message)
        try:
            from_thread.run(self._notify, done, total, message)
        except (RuntimeError, CancelledError):  # the request or its loop ended while the tool was working
            self.withdraw()
        self.check()

    def _worth_telling(self, done: float, total: float | None, message: str | None) -> bool:
        if self._told is None:
            return True
        told, said = self._told
        if not done > told:
            return False
        return not total or message != said or done >= total or done - told >= total * SMALLEST_STEP
