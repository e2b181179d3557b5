"""Answers to lines that are no message: the SDK drops them, and a client whose request is dropped waits for ever."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp.types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError
from pydantic import ValidationError

if TYPE_CHECKING:
    from mcp.shared._stream_protocols import ReadStream, WriteStream

Item = SessionMessage | Exception
# an unclosed string reaches to the end, so that every character is looked at once
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[{}\[\]]|[^\s"{}\[\],:]++', re.DOTALL)


async def pass_messages(
    read: ReadStream[Item], told: MemoryObjectSendStream[Item], write: WriteStream[SessionMessage]
) -> None:
    """Pass on every message that is read, and answer what is none, until the reading ends."""
    async with read, told:
        async for item in read:
            if isinstance(item, SessionMessage):
                await told.send(item)
            else:
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # nobody is there to be told
                    await write.send(SessionMessage(refusal(item)))


def refusal(problem: Exception) -> JSONRPCError:
    """The answer to a line that is no message, by what the SDK found wrong with it.

    It has the id of the request that the line holds, where one can be told, so that its caller stops waiting.
    """
    found: list[Any] = list(problem.errors(include_url=False)) if isinstance(problem, ValidationError) else []
    broken = next((error for error in found if error["type"] == "json_invalid"), None)
    if broken or not found:
        reason = f" ({broken['ctx']['error']})" if broken else ""
        sentence = f"the line cannot be read as JSON{reason}; send one JSON-RPC 2.0 message a line"
        return _error(_id(_members(broken["input"])) if broken else None, PARSE_ERROR, sentence)
    members = next((e["input"] for e in found if e["type"] == "missing" and isinstance(e["input"], dict)), {})
    sentence = "the line is JSON but no JSON-RPC 2.0 message; a request has jsonrpc, id, method and params"
    return _error(_id(members), INVALID_REQUEST, sentence)


def _error(request: int | str | None, code: int, sentence: str) -> JSONRPCError:
    return JSONRPCError(jsonrpc="2.0", id=request, error=ErrorData(code=code, message=sentence))


def _id(members: Mapping[str, Any]) -> int | str | None:
    """The id of a request; None for anything else, as the ids of answers are counted by the other side."""
    found = members.get("id") if "method" in members else None
    return found if isinstance(found, int | str) and not isinstance(found, bool) else None


def _members(line: str) -> dict[str, Any]:
    """The plain members of the outermost object of a line that is broken further in, or nested without end."""
    found: dict[str, Any] = {}
    depth, name = 0, None
    for match in _TOKEN.finditer(line) if line.lstrip().startswith("{") else ():
        token = match[0]
        if token in "{[":
            depth, name = depth + 1, None
        elif token in "}]":
            depth -= 1
        elif depth == 1 and name is None:
            name = str(_value(token))
        elif depth == 1:
            found[str(name)], name = _value(token), None
        if depth < 1:
            break
    return found


def _value(token: str) -> Any:
    """What a token says, or None for one that says nothing which could be repeated."""
    try:
        found = json.loads(token)
        json.dumps(found, ensure_ascii=False).encode()
    except ValueError:
        return None
    return found
