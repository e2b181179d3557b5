"""Ceilings: the datasheet's, or what was measured here in their place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from advisor_mcp import knowledge
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.ceilings import Ceiling, Ceilings, matmul_key, read_ceilings
from advisor_mcp.formulas.devices import Device, read_device
from advisor_mcp.knowledge import measurements
from advisor_mcp.knowledge.measurements import Measurement

BF16 = Measurement(
    "ceiling", "h100-sxm", "matmul.bf16", 740.0, "TFLOP/s", 730.0, 745.0, 40, "2026-11-21T08:00:00Z", {}, 1
)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_MCP_DATA", str(tmp_path))


def recorded(*rows: Measurement) -> None:
    with measurements.writing() as store:
        store.add(rows)


def test_without_measurements_the_datasheet_is_the_ceiling() -> None:
    found = read_ceilings("h100-sxm")
    assert (found.rate("bf16"), found.bandwidth(), found.launch()) == (
        Ceiling("bf16", 989.4, "TFLOP/s", None, 989.4), Ceiling("memory", 3350, "GB/s", None, 3350), None,
    )  # fmt: skip
    assert found.rate("bf16").origin == "datasheet"


def test_a_measured_rate_takes_the_datasheets_place_and_says_so() -> None:
    recorded(BF16)
    found = read_ceilings("h100-80gb-hbm3")
    assert found.rate("bf16") == Ceiling("bf16", 740.0, "TFLOP/s", BF16, 989.4)
    assert found.rate("bf16").origin == "measured here 2026-11-21, n=40, instead of the datasheet's 989.4"
    assert (found.rate("fp8").measured, found.bandwidth().measured) == (None, None)


def test_measured_rates_are_left_aside_where_the_datasheet_is_asked_for() -> None:
    recorded(BF16)
    assert read_ceilings("h100-sxm", "datasheet").rate("bf16").value == 989.4


def test_measurements_of_another_device_do_not_count() -> None:
    recorded(replace(BF16, subject="h200-sxm"))
    assert read_ceilings("h100-sxm").measured == {}


def test_a_device_that_only_measurements_know_is_taken_from_them() -> None:
    recorded(replace(BF16, subject="cpu", value=1.5))
    found = read_ceilings("cpu")
    assert (found.device, found.rate("bf16").origin) == (None, "measured here 2026-11-21, n=40, no datasheet figure")
    with pytest.raises(
        CannotAnswer,
        match="no memory bandwidth in GB/s is known for cpu; measure it with 'advisor-mcp benchmark-device'",
    ):
        found.bandwidth()


def test_a_device_that_nothing_knows_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"unknown GPU 'h100-smx'; did you mean 'h100-sxm'\?"):
        read_ceilings("h100-smx")


def test_a_missing_fact_is_named_and_never_guessed() -> None:
    device = Device("x1", "X1", 2**34, {"bf16": 100.0}, (), ())
    found = Ceilings("x1", device)
    with pytest.raises(CannotAnswer) as refused:
        found.bandwidth()
    assert refused.value.needs == ["memory bandwidth in GB/s of x1"]
    with pytest.raises(CannotAnswer, match="no dense fp8 rate is known for x1"):
        found.rate("fp8")


@pytest.mark.parametrize("gpu", knowledge.ids("gpu"))
def test_no_device_is_said_to_lack_what_it_has_a_rate_for(gpu: str) -> None:
    device = read_device(gpu)
    assert [name for name in device.dense_tflops if device.lacks(name)] == []


def test_the_fastest_of_several_formats_is_one_the_device_has() -> None:
    found = read_ceilings("a100-sxm-80gb", "datasheet")
    assert [found.fastest(("fp4", "fp8", "bf16")), found.fastest(("int8", "bf16")), found.fastest(("fp4", "fp6"))] == [
        "bf16", "int8", "fp6",
    ]  # fmt: skip


def test_the_keys_of_rates_name_their_dtype() -> None:
    assert matmul_key("fp8") == "matmul.fp8"
