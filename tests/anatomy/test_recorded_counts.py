"""Counts recorded from transformers' own classes (`python -m benchmarks.record_counts`): ours are the same, to the last one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.formulas.flops import forward
from advisor_mcp.formulas.parameters import parameters

CASES = Path(__file__).resolve().parents[1] / "cases" / "counts"


def cases(needs: str) -> list[Any]:
    return [
        pytest.param(case, id=f"{path.stem}-{index}-{case['class']}")
        for path in sorted(CASES.glob("*.json"))
        for index, case in enumerate(json.loads(path.read_text(encoding="utf-8"))["cases"])
        if needs in case
    ]


@pytest.mark.parametrize("case", cases("parameters"))
def test_parameters_are_those_of_the_class(case: dict[str, Any]) -> None:
    assert parameters(architecture_of(case["config"])).total == case["parameters"] + case.get("class_leaves_out", 0)


@pytest.mark.parametrize("case", cases("forward_flops_full"))
def test_forward_flops_are_those_of_the_flop_counter_which_counts_masked_pairs_too(case: dict[str, Any]) -> None:
    architecture = architecture_of(case["config"])
    # eager attention multiplies every query with every key, so windows save it nothing
    sizes = architecture.workload(case["flops_length"], causal=False)
    sizes |= dict.fromkeys(architecture.spans, case["flops_length"] ** 2)
    assert forward(architecture, sizes).total == case["forward_flops_full"]
