"""One JSON object of arguments a line in, one JSON answer a line out."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from advisor_mcp import batch
from advisor_mcp.catalogue import Catalogue
from advisor_mcp.errors import UsageError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def answers(catalogue: Catalogue, text: str) -> list[dict[str, Any]]:
    out = io.StringIO()
    count = batch.run(catalogue, "judge", io.StringIO(text), out)
    lines = out.getvalue().splitlines()
    assert count == len(lines)
    return [json.loads(line) for line in lines]


def usage(message: str) -> dict[str, Any]:
    return {"error": {"kind": "usage", "message": message}}


def test_every_line_is_answered_in_its_place(catalogue: Catalogue) -> None:
    text = '{"what": "fits"}\n\nnonsense\n[1]\n{"what": "unknown"}\n{"waht": "bad"}\n{"what": "broken"}\n\ufeff{"what":"ok"}'
    empty: dict[str, Any] = {"findings": [], "assumptions": [], "warnings": [], "sources": []}
    assert answers(catalogue, text) == [
        {"summary": "It is fits.", "fits": True, **empty},
        usage("nothing is given; give the arguments as one JSON object, {} for none"),
        usage("the arguments are not JSON: 'nonsense'; give one JSON object"),
        usage("the arguments must be a JSON object, not [1]"),
        {
            "error": {
                "kind": "cannot_answer",
                "message": "the configuration has no vocab_size",
                "needs": ["vocab_size", "hidden_size"],
            }
        },
        usage("judge: unknown argument 'waht'; did you mean 'what'? (it takes what)"),
        {
            "error": {
                "kind": "internal",
                "message": "judge failed on a fault of its own; please report the arguments you gave",
            }
        },
        {"summary": "It is ok.", **empty},
    ]


def test_a_line_is_compact_and_each_is_written_at_once(catalogue: Catalogue) -> None:
    class Out(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    out = Out()
    batch.run(catalogue, "scale", ['{"factor":2,"values":[1]}\n'] * 3, out)
    line = '{"summary":"The product is 2.0.","assumptions":[],"warnings":[],"sources":[],"product":2.0}\n'
    assert (out.getvalue(), out.flushed) == (line * 3, 3)


def test_an_unknown_tool_is_refused_before_a_line_is_read(catalogue: Catalogue) -> None:
    def unread() -> Any:
        raise AssertionError("a line was read")
        yield

    with pytest.raises(UsageError, match=r"unknown tool 'scael'; did you mean 'scale'?"):
        batch.run(catalogue, "scael", unread(), io.StringIO())


def test_a_line_that_is_not_utf8_or_nested_too_deeply_is_refused() -> None:
    undecodable = b'{"what": "\xff"}'.decode("utf-8", "surrogateescape")
    with pytest.raises(UsageError, match="not UTF-8"):
        batch.arguments(undecodable)
    with pytest.raises(UsageError, match="nested too deeply"):
        batch.arguments('{"a":' + "[" * 100_000)


def test_the_meter_draws_only_on_a_terminal_and_wipes_its_line() -> None:
    plain, live = io.StringIO(), Terminal()
    for stream in (plain, live):
        meter = batch.Meter(stream)
        meter.report(1, 2, "half")
        meter.clear()
    assert plain.getvalue() == ""
    assert live.getvalue() == f"\r[{'#' * 15}{'-' * 15}]  50%  half\x1b[K\r\x1b[K"


@pytest.mark.parametrize(
    ("done", "total", "bar"),
    [
        (0, 4, "[" + "-" * 30 + "]   0%"),
        (5, 4, "[" + "#" * 30 + "] 100%"),
        (1234, None, "1,234"),
        (3, 0, "3"),
    ],
)
def test_the_bar_stays_within_its_ends(done: float, total: float | None, bar: str) -> None:
    assert batch.drawn(done, total, None) == bar
