"""The errors a caller sees: one sentence each, the same words on every face (MCP, CLI, library)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar


class AdvisorError(Exception):
    """Base of every error that is told to the caller; `message` is one sentence that says what to do."""

    kind: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 4

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.needs: list[str] = []


class UsageError(AdvisorError):
    """The arguments cannot be used as given."""

    kind = "usage"
    exit_code = 2


class CannotAnswer(AdvisorError):
    """A fact that the answer needs is missing; `needs` names what would settle it."""

    kind = "cannot_answer"
    exit_code = 3

    def __init__(self, reason: str, needs: Iterable[str] = ()) -> None:
        super().__init__(reason)
        self.needs = list(needs)


class InternalError(AdvisorError):
    """A fault of ours; the message carries no traceback and no path."""


class Cancelled(AdvisorError):
    """The caller withdrew the call while it was running."""

    kind = "cancelled"


def error_json(error: AdvisorError) -> dict[str, Any]:
    """The one JSON shape of an error: ``{"error": {"kind", "message", "needs"?}}``."""
    body: dict[str, Any] = {"kind": error.kind, "message": error.message}
    if error.needs:
        body["needs"] = error.needs
    return {"error": body}


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``"; did you mean 'x'?"`` for the closest known word, or an empty string."""
    by_lower = {name.lower(): name for name in known}
    match = difflib.get_close_matches(word.lower()[:200], by_lower, n=1, cutoff=cutoff)
    return f"; did you mean {by_lower[match[0]]!r}?" if match else ""


def unknown(what: str, name: object, known: Iterable[str]) -> UsageError:
    """The error for a name that is none of `known`: the nearest of them, then all."""
    names = list(known)
    return UsageError(
        f"unknown {what} {shown(name)}{nearest(str(name), names)} (available: {', '.join(names) or 'none'})"
    )


def shown(value: object, limit: int = 60) -> str:
    """A value as it may be repeated in a message: in JSON's spelling, on one line, cut at `limit` characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = (
        repr(value[: limit * 4])
        if isinstance(value, str)
        else repr(value)
        if not isinstance(value, int | float)
        else _number(value)
    )
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _number(value: float) -> str:
    # CPython refuses to print integers of more than 4,300 digits
    return (
        f"a number of {value.bit_length()} bits" if isinstance(value, int) and value.bit_length() > 256 else repr(value)
    )
