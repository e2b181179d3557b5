"""The accuracy program over a folder of bad and good configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.accuracy import __main__ as accuracy

# 4 samples, accumulated twice on one rank, are 8 and never 9
BAD = {
    "id": "bad-1",
    "rule": "batch-arithmetic",
    "tool": "deepspeed",
    "file": "ds.json",
    "snippet": '{"train_batch_size": 9, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2}',
    "context": {"world_size": 1},
}
GOOD = {"id": "good-1", "file": "good.json", "tool": "deepspeed", "version": None}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "lint"
    folder.mkdir()
    (folder / "bad.jsonl").write_text(json.dumps(BAD) + "\n", encoding="utf-8")
    (folder / "good.jsonl").write_text(json.dumps(GOOD) + "\n", encoding="utf-8")
    (folder / "good.json").write_text('{"zero_optimization": {"stage": 2}}', encoding="utf-8")
    return tmp_path


def test_json_is_a_line_for_each_case_of_the_lint_suite(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy.main(["lint", "--data", str(data), "--json"]) == 0
    rows: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    reports = [row.pop("predicted") for row in rows]
    assert rows == [
        {"id": "bad-1", "group": "bad deepspeed", "measured": "batch-arithmetic", "caught_by": "DS001", "exact": True},
        {"id": "good-1", "group": "good deepspeed", "measured": 0, "caught_by": None, "exact": True},
    ]
    assert [[found["rule"] for found in report["findings"]] for report in reports] == [["DS001"], []]


def test_without_json_the_lint_suite_prints_its_figures(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy.main(["lint", "--data", str(data)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("lint: n=2 exact=2 ")
