"""`advisor-mcp benchmark-device` and `advisor-mcp measurements`, on a stand-in for the device."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.gpus.stand_in_device import H100, StandIn

import advisor_mcp
from advisor_mcp import benchmark_command, cli
from advisor_mcp.errors import CannotAnswer
from advisor_mcp.knowledge import measurements


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_MCP_DATA", str(tmp_path / "data"))


def stored() -> list[str]:
    """What something is kept of."""
    with measurements.writing() as store:
        return [row.subject for row in store.all()]


def device(**more: Any) -> StandIn:
    return StandIn(tflops={"bf16": 742.0}, copies={"device": 2512.0}, **more)


def benchmark(*words: str, on: StandIn | None = None) -> str:
    asked = benchmark_command.benchmark_parser().parse_strictly(["--seconds", "1", *words])
    return benchmark_command.benchmark(asked, on or device())


def run(*words: str) -> int:
    return cli.main(list(words))


def test_what_was_measured_stands_beside_the_datasheet_and_is_recorded() -> None:
    printed = benchmark("--only", "matmul,copy")
    # 742.0 / 989.4 and 2512.0 / 3350 are three quarters
    assert "| matmul.bf16 | 742 TFLOP/s | 742 to 742 | 989.4 | 75.0 % |" in printed
    assert "| copy.device | 2,512 GB/s | 2,512 to 2,512 | 3,350 | 75.0 % |" in printed
    assert "- not measured: matmul.fp8, (8192, 8192) x (8192, 8192): no fp8 here" in printed
    assert "- 2 measurements are recorded; roofline uses them for h100-sxm" in printed


def test_the_next_roofline_uses_what_was_recorded() -> None:
    benchmark("--only", "matmul")
    found = advisor_mcp.call("roofline", gpu="h100-sxm", matmul={"m": 8192, "n": 8192, "k": 8192}).data()
    assert found["attainable_tflops"] == 742.0


def test_mfu_stays_a_share_of_the_peak_and_the_ceiling_is_told_beside_it() -> None:
    asked = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "sequence_length": 8192, "tokens_per_s_per_gpu": 11000}
    before = advisor_mcp.call("calculate_mfu", **asked).data()
    benchmark("--only", "matmul")
    after = advisor_mcp.call("calculate_mfu", **asked).data()
    assert (after["peak_tflops"], after["conventions"]) == (before["peak_tflops"], before["conventions"])
    assert "measured_ceiling_tflops" not in before
    assert after["measured_ceiling_tflops"] == 742.0
    assert after["of_measured_ceiling_percent"] == pytest.approx(
        100 * after["achieved_tflops_per_gpu"] / 742.0, abs=0.01
    )


def test_nothing_is_recorded_where_that_is_asked_for() -> None:
    assert benchmark("--only", "matmul", "--no-record").endswith("- not recorded, as asked")
    assert stored() == []


def test_a_dry_run_lists_and_measures_nothing() -> None:
    on = device()
    printed = benchmark("--dry-run", on=on)
    assert printed.splitlines()[0] == (
        "On NVIDIA H100 80GB HBM3 (h100-sxm), torch 2.13.0, driver 580.65 about 1 s would measure, and nothing was measured:"
    )
    assert "- matmul.bf16 in TFLOP/s: (8192, 8192) x (8192, 8192)" in printed
    assert (on.made, stored()) == ([], [])


def test_json_holds_every_row_with_the_datasheets_figure() -> None:
    found = json.loads(benchmark("--only", "matmul", "--json"))
    (row,) = found["measurements"]
    assert (row["key"], round(row["value"], 2), row["datasheet"]) == ("matmul.bf16", 742.0, 989.4)
    assert found["device"]["id"] == "h100-sxm"
    assert {each["why"] for each in found["not_measured"]} == {
        "no fp32 here",
        "no tf32 here",
        "no fp16 here",
        "no fp8 here",
    }


def test_a_device_of_which_nothing_can_be_measured_is_an_answer_of_its_own() -> None:
    cpu = StandIn(identity=replace(H100, id="cpu", kind="cpu"))
    with pytest.raises(CannotAnswer, match="launch cannot be measured on a device of kind cpu"):
        benchmark("--only", "launch", on=cpu)


def test_measurements_are_listed_and_forgotten_by_number(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark("--only", "matmul,copy")
    assert run("measurements", "list") == 0
    printed = capsys.readouterr().out
    assert [line.split(" | ")[0:3:2] for line in printed.splitlines()[2:]] == [["| 1", "h100-sxm"], ["| 2", "h100-sxm"]]
    assert (run("measurements", "forget", "1"), capsys.readouterr().out) == (0, "1 measurement is forgotten\n")
    assert list(measurements.latest("ceiling", "h100-sxm")) == ["copy.device"]
    assert run("measurements", "list", "--json") == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)] == [2]
    assert (run("measurements", "forget", "--all"), run("measurements", "list")) == (0, 0)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "nothing is recorded; 'advisor-mcp benchmark-device' measures this machine"
    )


@pytest.mark.parametrize(("words", "sentence"), [
    (("measurements", "forget"), "forget takes the numbers that 'measurements list' shows, or --all"),
    (("measurements", "forget", "7"), "there is no measurement 7; see 'advisor-mcp measurements list'"),
    (("measurements", "forget", "x"), "a measurement is named by its number in 'advisor-mcp measurements list', not 'x'"),
    (("measurements", "list", "1"), "list takes no numbers and no --all"),
    (("benchmark-device", "--seconds", "0"), "--seconds must be from 1 to 3600, not 0"),
    (("benchmark-device", "--only", "gemm"), "--only takes matmul, copy, launch, all_reduce, not gemm"),
])  # fmt: skip
def test_what_cannot_be_used_is_told_in_a_sentence(
    words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (run(*words), capsys.readouterr().err) == (2, f"advisor-mcp: {sentence}\n")


def test_without_torch_one_sentence_says_how_to_install_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run("benchmark-device") == 3
    assert capsys.readouterr().err == (
        "advisor-mcp: PyTorch is not installed, and it runs the measurement: pip install 'advisor-mcp[torch]', or the build for "
        "your GPU that pytorch.org names; needs: torch\n"
    )
