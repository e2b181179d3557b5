"""Lines that are no message: under which id, with which code and sentence they are answered."""

from __future__ import annotations

import pytest
from mcp.types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter
from pydantic import ValidationError

from advisor_mcp.serving.unreadable import refusal

DEEP = "[" * 50_000
HEAD = '"jsonrpc":"2.0","method":"tools/call"'


def answered(line: str) -> JSONRPCError:
    """The answer to a line that the SDK does not take."""
    with pytest.raises(ValidationError) as caught:
        jsonrpc_message_adapter.validate_json(line, by_name=False)
    return refusal(caught.value)


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (f'{{{HEAD},"id":5,"params":{{"a":"\\ud800"}}}}', 5),
        (f'{{{HEAD},"id":-5,"params":{{"a":"\\ud800"}}}}', -5),
        (f'{{"id":"a\\"]}}","params":{{"\\ud800":{{"id":6}}}},{HEAD}}}', 'a"]}'),
        (f'{{"params":{{"method":"x","id":6,"a":{DEEP}}}}},{HEAD},"id":5}}', None),
        (f'{{"params":{{"id":6,"a":{DEEP}{"]" * 50_000}}},{HEAD},"id":5}}', 5),
        (f'{{{HEAD},"id":5,"params":{{"a":{"7" * 5_000}}}}}', 5),
        (f'{{{HEAD},"id":5,"params":{{"a":', 5),
        (f'{{{HEAD},"id":5}} {{{HEAD},"id":6}}', 5),
        (f'{{{HEAD},"id":"\\ud800"}}', None),
        (f'{{{HEAD},"id":{"7" * 5_000}}}', None),
        (f'{{{HEAD},"id":true,"params":"\\ud800"}}', None),
        (f'{{{HEAD},"id":1.5,"params":"\\ud800"}}', None),
        (f'{{{HEAD},"params":{{"id":5,"a":"\\ud800"}}}}', None),
        ('{"jsonrpc":"2.0","id":5,"result":{"a":"\\ud800"}}', None),
        (f'[{{{HEAD},"id":5,"params":"\\ud800"}}]', None),
        ("hello", None),
        ('"', None),
        ("\ufffd", None),
    ],
)
def test_a_line_that_is_no_json_has_the_id_of_its_request_where_that_shows(line: str, number: int | str | None) -> None:
    answer = answered(line)
    assert (answer.id, answer.error.code) == (number, PARSE_ERROR)


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (f'{{{HEAD},"id":3,"params":[1]}}', 3),
        ('{"jsonrpc":"1.0","id":"x","method":"ping"}', "x"),
        ('{"jsonrpc":"1.0","id":true,"method":"ping"}', None),
        ('{"jsonrpc":"2.0","id":3}', None),
        (f'[{{{HEAD},"id":3}}]', None),
        ("17", None),
    ],
)
def test_json_that_is_no_message_is_an_invalid_request(line: str, number: int | str | None) -> None:
    sentence = "the line is JSON but no JSON-RPC 2.0 message; a request has jsonrpc, id, method and params"
    error = ErrorData(code=INVALID_REQUEST, message=sentence)
    assert answered(line) == JSONRPCError(jsonrpc="2.0", id=number, error=error)


def test_the_sentence_says_what_is_wrong_and_where_and_repeats_nothing() -> None:
    assert answered('{"secret": 1').error.message == (
        "the line cannot be read as JSON (EOF while parsing an object at line 1 column 12); "
        "send one JSON-RPC 2.0 message a line"
    )
    assert refusal(OSError("secret")).error.message == (
        "the line cannot be read as JSON; send one JSON-RPC 2.0 message a line"
    )
