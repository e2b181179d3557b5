"""Every field of every family, missing, negative, huge, of the wrong type or contradictory: a sentence or a sane count."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor_mcp import knowledge
from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.flops import forward
from advisor_mcp.formulas.parameters import parameters
from advisor_mcp.formulas.state import state_bytes, state_groups

CASES = Path(__file__).resolve().parents[1] / "cases" / "counts"
MISSING = object()
ODD = st.sampled_from([
    MISSING, None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**63, 10**30, 0.5, -2.5, 1e308, float("inf"), float("nan"), "", "x", "8", [], [1], ["x"],
    [None], [-1, 0], {}, {"x": 1}, [[1]], {"type": None}, "full_attention", ["full_attention"],
])  # fmt: skip


def samples() -> dict[str, dict[str, Any]]:
    """One configuration per model type: the recorded cases, then the models known by name."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(CASES.glob("*.json")):
        for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
            found.setdefault(case["config"]["model_type"], case["config"])
    for id in knowledge.ids("model"):
        fact = knowledge.find("model", id)
        assert fact is not None
        found.setdefault(fact["config"]["model_type"], fact["config"])
    return found


SAMPLES = samples()


def fields(config: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every field, nested parts included."""
    found: list[tuple[str, ...]] = []
    for name, value in config.items():
        found.append((*prefix, name))
        if isinstance(value, dict):
            found.extend(fields(value, (*prefix, name)))
    return found


def changed(config: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    result = copy.deepcopy(config)
    part = result
    for name in path[:-1]:
        if not isinstance(part.get(name), dict):
            return result
        part = part[name]
    if value is MISSING:
        part.pop(path[-1], None)
    else:
        part[path[-1]] = value
    return result


@pytest.mark.parametrize("model_type", sorted(SAMPLES))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_no_value_of_a_field_crashes_or_gives_an_absurd_count(model_type: str, data: st.DataObject) -> None:
    config = SAMPLES[model_type]
    paths = [path for path in fields(config) if path != ("model_type",)]
    for _ in range(data.draw(st.integers(1, 3))):
        config = changed(config, data.draw(st.sampled_from(paths)), data.draw(ODD))
    said = ""
    try:
        architecture = architecture_of(config)
        counted = parameters(architecture)
        state = state_bytes(state_groups(architecture, architecture.bound()), 1000)
        run = forward(architecture, architecture.workload(1000))
    except (CannotAnswer, UsageError) as error:
        said = error.message
    if said:
        assert len(said) < 1000
        assert "\n" not in said
        return
    assert all(count >= 0 for count in counted.by_component.values())
    assert 0 < counted.active <= counted.total < 2**63
    assert isinstance(counted.total, int)
    assert state >= 0
    assert 0 < run.total < float("inf")
