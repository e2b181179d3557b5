"""The start-up benchmark runs and reports what it measured."""

from __future__ import annotations

import json

import pytest
from benchmarks import startup
from benchmarks.startup import Candidate, Costs

ECHO = startup.CANDIDATES["echo"]


def test_a_start_is_measured_in_the_order_in_which_things_happen() -> None:
    costs = startup.measure(ECHO, calls=3)
    assert 0 < costs.initialize_ms < costs.tools_list_ms
    assert 0 < costs.call_p50_ms <= costs.call_p99_ms
    assert costs.resident_mib > 1


def test_the_medians_of_each_candidate_are_printed_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "CANDIDATES", {"advisor": ECHO, "echo": ECHO})
    assert startup.main(["--runs", "1", "--calls", "2", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    kinds = {"initialize_ms", "tools_list_ms", "first_call_ms", "call_p50_ms", "call_p99_ms", "resident_mib"}
    assert {name: set(costs) for name, costs in measured.items()} == {"advisor": kinds, "echo": kinds}


def test_the_table_shows_the_difference_and_what_is_allowed() -> None:
    medians = {"advisor": Costs(500, 510, 60, 1.5, 2.5, 72), "echo": Costs(460, 465, 1, 0.5, 1, 66)}
    assert startup.table(medians).splitlines() == [
        "| | initialize (ms) | tools list (ms) | first call (ms) | call p50 (ms) | call p99 (ms) | resident (MiB) |",
        "|---|---|---|---|---|---|---|",
        "| advisor | 500 | 510 | 60 | 1.5 | 2.5 | 72 |",
        "| echo | 460 | 465 | 1 | 0.5 | 1 | 66 |",
        "| advisor over echo | 40 | 45 | 59 | 1 | 1.5 | 6 |",
        "| allowed | 60 | 60 |  | 1 |  | 12 |",
    ]


def test_a_server_that_refuses_the_call_is_not_measured() -> None:
    with pytest.raises(RuntimeError, match="tools/call"):
        startup.measure(Candidate(ECHO.command, "no_such_tool", {}), calls=2)
