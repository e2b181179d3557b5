"""calculate_mfu as a caller sees it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import advisor_mcp
from advisor_mcp import access
from advisor_mcp.errors import AdvisorError, CannotAnswer, UsageError
from advisor_mcp.measuring import log_files

ASKED: dict[str, Any] = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "gpu_count": 8, "sequence_length": 4096}
PER_GPU = {key: value for key, value in ASKED.items() if key != "gpu_count"}
SAMPLE = "each sample of the log is taken as sequence_length tokens; shorter or padded ones are fewer"


def ask(**arguments: Any) -> dict[str, Any]:
    return advisor_mcp.call("calculate_mfu", **ASKED | arguments).data()


def by_id(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in found["conventions"]}


def test_a_published_row_of_llm_foundry_comes_out_in_its_convention() -> None:
    # MPT-70b, 512 x H100, sequence 2048, 515,636 tokens/s: printed MFU 41.25, HFU 55.0 (mosaicml/llm-foundry benchmarking README)
    config = {
        "model_type": "mpt", "d_model": 8192, "n_heads": 64, "n_layers": 80, "expansion_ratio": 4, "vocab_size": 50368,
        "max_seq_len": 2048, "no_bias": False,
    }  # fmt: skip
    found = ask(model=config, gpu_count=512, sequence_length=2048, tokens_per_s=515636, recompute="full")
    palm = by_id(found)["palm"]
    assert palm["mfu_percent"] == pytest.approx(41.25, rel=5e-3)
    assert palm["hfu_percent"] == pytest.approx(55.0, rel=5e-3)


def test_every_form_of_the_same_speed_gives_the_same_answer(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("step: 1 tps: 1,000\n", encoding="utf-8")
    forms: list[dict[str, Any]] = [
        {"tokens_per_s": 8000}, {"tokens_per_s_per_gpu": 1000}, {"step_time_s": 4.096, "global_batch_size": 8},
        {"log": "step: 1 tps: 1,000"}, {"log": str(log)},
    ]  # fmt: skip
    answers = [ask(**form)["conventions"] for form in forms]
    assert all(answer == answers[0] for answer in answers)


# 4,096 tokens a sequence; every row is 1,000 tokens/s on each of 8 GPUs
@pytest.mark.parametrize(("log", "more", "measured"), [
    ("elapsed time per iteration (ms): 4096.0 | global batch size:     8 |", {}, "Megatron-LM log: median of 1 line, 8 sequences a step"),
    ("Step Time : 4.096s GPU utilization: 402.7MODEL_TFLOP/s/GPU", {"global_batch_size": 8}, "Megatron-Bridge log: median of 1 line"),
    ("tokens per iteration will be: 32,768\niter 40: loss 2.8, time 4096.00ms, mfu 41.0%", {}, "nanoGPT log: median of 1 line, 32,768 tokens a step"),
    ("iter 40: loss 2.8, time 4096.00ms, mfu 41.0%", {"global_batch_size": 8}, "nanoGPT log: median of 1 line"),
    ("step 1 | dt: 500.00ms | tok/sec: 8,000 |", {}, "nanochat log: median of 1 line"),
    ("CurrSamplesPerSec=1.953125, MemAllocated=1GB", {}, "DeepSpeed log: median of 1 line"),
    ("Train throughput/device/samples_per_sec: 0.244140625", {}, "llm-foundry log: median of 1 line"),
    ("{'train_tokens_per_second': 8000.0}", {}, "Hugging Face Trainer log: mean since the start, evaluation and saving included"),
    ("'train_steps_per_second': 2.0, 'train_tokens_per_second': 1000.0", {}, "Hugging Face Trainer log: mean since the start, evaluation and saving included"),
    ("'train_samples_per_second': 1.953125, 'epoch': 1.0", {}, "Hugging Face Trainer log: mean since the start, evaluation and saving included"),
])  # fmt: skip
def test_every_unit_of_a_log_becomes_tokens_per_gpu(log: str, more: dict[str, Any], measured: str) -> None:
    found = ask(log=log, **more)
    assert (found["tokens_per_s_per_gpu"], found["measured"], found.get("warnings")) == (1000.0, measured, [])
    assert (SAMPLE in found["assumptions"]) == ("amples" in log)


def test_a_log_that_contradicts_the_given_batch_is_told() -> None:
    log = "elapsed time per iteration (ms): 4096.0 | global batch size:   512 |"
    found = ask(log=log, global_batch_size=8)
    assert (found["tokens_per_s_per_gpu"], found["warnings"]) == (
        1000.0,
        ["the log states 2,097,152 tokens a step, global_batch_size and sequence_length make 32,768"],
    )


def test_a_growing_batch_is_told_with_the_lines_left_out() -> None:
    steps = [(100, 1024, 2), (200, 2048, 4), (300, 4096, 8), (400, 4096, 8)]
    log = "\n".join(
        f"iteration {step} | elapsed time per iteration (ms): {ms}.0 | global batch size: {batch} |"
        for step, ms, batch in steps
    )
    assert ask(log=log)["measured"] == (
        "Megatron-LM log: median of 2 lines, 2 of other global batch sizes left out, 8 sequences a step"
    )


@pytest.mark.parametrize(("speed", "sentence"), [
    ({"tokens_per_s": 8000}, "tokens_per_s needs gpu_count to become tokens per second per GPU"),
    ({"step_time_s": 1, "global_batch_size": 8}, "step_time_s needs gpu_count to become tokens per second per GPU"),
    ({"log": "tok/sec: 8,000 |"}, "the nanochat log, which states tokens over all GPUs, needs gpu_count to become tokens per second per GPU"),
    ({"log": "CurrSamplesPerSec=3.5, Mem"}, "the DeepSpeed log, which states samples over all GPUs, needs gpu_count to become tokens per second per GPU"),
    ({"log": "elapsed time per iteration (ms): 1.0 | global batch size: 8 |"}, "the Megatron-LM log, which states step times, needs gpu_count to become tokens per second per GPU"),
])  # fmt: skip
def test_a_speed_of_the_whole_run_needs_the_number_of_gpus(speed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CannotAnswer) as caught:
        advisor_mcp.call("calculate_mfu", **PER_GPU | speed)
    assert (caught.value.message, caught.value.needs) == (sentence, ["gpu_count"])


@pytest.mark.parametrize("speed", [{"tokens_per_s_per_gpu": 1000}, {"log": "step: 20 tps: 1,000"}])
def test_a_speed_per_gpu_needs_no_number_of_gpus_and_reports_it_only_where_given(speed: dict[str, Any]) -> None:
    without = advisor_mcp.call("calculate_mfu", **PER_GPU | speed).data()
    assert without == {key: value for key, value in ask(**speed).items() if key != "gpu_count"}
    assert "gpu_count" not in without
    assert ask(**speed)["gpu_count"] == 8


def test_a_path_with_a_blank_is_read_as_the_file_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my logs"
    folder.mkdir()
    (folder / "t.log").write_text("step: 20 tps: 1,000\n", encoding="utf-16")
    monkeypatch.chdir(tmp_path)
    assert ask(log="my logs/t.log") == ask(log="step: 20 tps: 1,000")


def test_over_the_network_a_line_with_blanks_is_text_and_a_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "step: 20 tps: 5").write_text("step: 20 tps: 9\n", encoding="utf-8")
    with access.limited(None):
        assert ask(log="step: 20 tps: 1,000")["tokens_per_s_per_gpu"] == 1000.0
        with pytest.raises(UsageError, match="this server reads no paths"):
            ask(log="/var/log/train.log")
    with access.limited(tmp_path):
        assert ask(log="step: 20 tps: 5")["tokens_per_s_per_gpu"] == 9.0
        assert ask(log="../ step: 20 tps: 7")["tokens_per_s_per_gpu"] == 7.0


def test_a_log_that_is_no_regular_file_is_refused_and_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for given in (str(pipe), "/dev/zero", str(tmp_path)):
        with pytest.raises(UsageError, match="is not a regular file; give the path of a log or its text"):
            ask(log=given)


def test_of_a_log_that_is_too_long_the_end_is_read_and_this_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "LARGEST_LOG_BYTES", 40)
    log = tmp_path / "train.log"
    log.write_text("step: 20 tps: 9,000\n" * 998 + "step: 30 tps: 1,000\n" * 2, encoding="utf-8")
    found = ask(log=str(log))
    assert found["tokens_per_s_per_gpu"] == 1000.0
    assert "of the log's 20,000 bytes the last 40 were read" in found["assumptions"]


@pytest.mark.parametrize(("speed", "shown"), [
    ({"step_time_s": 1e-300, "global_batch_size": 8}, "4.096e+303"),
    ({"step_time_s": 1e-320, "global_batch_size": 8}, "inf"),
    ({"tokens_per_s": 5e-324}, "0"),
    ({"log": "step: 20 tps: 1e999"}, "inf"),
    ({"tokens_per_s": 1e300}, "1.25e+299"),
    ({"tokens_per_s_per_gpu": 2e12}, "2e+12"),
])  # fmt: skip
def test_a_speed_that_no_gpu_has_is_refused(speed: dict[str, Any], shown: str) -> None:
    with pytest.raises(UsageError) as caught:
        ask(**speed)
    assert caught.value.message == (
        f"{shown} tokens/s per GPU is not possible (above 0 and at most 1e+12 can be); check the unit of the speed"
    )


@pytest.mark.parametrize("speed", [1e12, 1e-300])
def test_the_fastest_and_the_slowest_speed_give_json_without_infinity(speed: float) -> None:
    answer = advisor_mcp.call("calculate_mfu", **ASKED | {"tokens_per_s_per_gpu": speed})
    found = json.loads(answer.json_text(), parse_constant=lambda name: pytest.fail(f"{name} in the answer"))
    assert found["tokens_per_s_per_gpu"] == speed


def test_numbers_of_the_summary_have_separators() -> None:
    found = ask(tokens_per_s_per_gpu=1_234_567, dtype="fp8")
    assert found["summary"].startswith("Llama 3.1 8B at 1,234,567 tokens/s per h100-sxm reaches 3,")
    assert " % MFU (fp8 peak 1,97" in found["summary"]
    assert ask(tokens_per_s=8_000_000)["measured"] == "tokens_per_s 8,000,000"


def test_for_a_mixture_of_experts_six_n_total_is_left_out_of_the_summary_and_warned_of() -> None:
    found = ask(model="mixtral-8x7b", tokens_per_s_per_gpu=8000)
    rows = by_id(found)
    ratio = rows["six_n_total"]["flops_per_token"] / rows["six_n_active"]["flops_per_token"]
    assert rows["six_n_total"]["mfu_percent"] > 100 > rows["six_n_active"]["mfu_percent"]
    assert found["warnings"] == [
        f"six_n_total overstates: 6N over all parameters counts {ratio:.3g} times those that a token uses; go by six_n_active"
    ]
    assert "six_n_total" not in found["summary"]
    assert "six_n_total" in ask(tokens_per_s_per_gpu=8000)["summary"]


def test_a_convention_over_the_peak_that_counts_more_than_is_needed_is_told() -> None:
    # at 131,072 tokens the whole square of the scores is twice what a causal mask leaves
    found = ask(sequence_length=131_072, tokens_per_s_per_gpu=4500)
    over = [row["id"] for row in found["conventions"] if row["mfu_percent"] > 100]
    assert over == ["matmul_full", "palm"]
    assert found["warnings"] == [
        "over 100 % by matmul_full and palm: they count FLOPs that the model can do without; go by matmul_causal"
    ]


def test_recomputation_that_passes_the_peak_is_called_impossible() -> None:
    speed = 14_300
    row = by_id(ask(tokens_per_s_per_gpu=speed, recompute="full"))["matmul_causal"]
    assert row["mfu_percent"] < 75 < 90 < row["hfu_percent"] < 100
    found = ask(tokens_per_s_per_gpu=speed * 1.1, recompute="full")
    assert by_id(found)["matmul_causal"]["mfu_percent"] < 100 < by_id(found)["matmul_causal"]["hfu_percent"]
    assert found["warnings"] == [
        "with recomputation over 100 % of the bf16 peak, which is not possible: check gpu_count, the unit of the speed, "
        "sequence_length and dtype, and recompute"
    ]


def test_achieved_tflops_are_flops_per_token_times_speed_and_mfu_their_share_of_the_dense_peak() -> None:
    found = ask(tokens_per_s_per_gpu=10_000)
    assert [row["id"] for row in found["conventions"]] == [
        "matmul_causal",
        "matmul_full",
        "palm",
        "six_n_total",
        "six_n_active",
    ]
    for row in found["conventions"]:
        assert row["achieved_tflops_per_gpu"] == pytest.approx(row["flops_per_token"] * 10_000 / 1e12, abs=0.01)
        assert row["mfu_percent"] == pytest.approx(
            100 * row["achieved_tflops_per_gpu"] / found["peak_tflops"], abs=0.01
        )
    assert found["achieved_tflops_per_gpu"] == by_id(found)["matmul_causal"]["achieved_tflops_per_gpu"]


def test_recomputation_raises_hfu_and_leaves_mfu() -> None:
    plain, full, some = (by_id(ask(tokens_per_s_per_gpu=10_000, recompute=how)) for how in ("none", "full", 16))
    for name, row in plain.items():
        assert row["mfu_percent"] == row["hfu_percent"] == full[name]["mfu_percent"]
        assert row["hfu_percent"] < some[name]["hfu_percent"] < full[name]["hfu_percent"]


def test_more_than_the_peak_is_called_impossible() -> None:
    assert ask(tokens_per_s_per_gpu=100_000)["warnings"] == [
        "over 100 % of the bf16 peak is not possible: check gpu_count, the unit of the speed, sequence_length and dtype"
    ]


@pytest.mark.parametrize(("arguments", "sentence"), [
    ({}, "give exactly one measured speed of tokens_per_s, tokens_per_s_per_gpu, step_time_s, log; none given"),
    ({"tokens_per_s": 1, "step_time_s": 1}, "give exactly one measured speed of tokens_per_s, tokens_per_s_per_gpu, step_time_s, log; tokens_per_s and step_time_s given"),
    ({"step_time_s": 1}, "step_time_s needs global_batch_size to become tokens per second per GPU"),
    ({"log": "iter 1: loss 2.0, time 10.0ms"}, "the nanoGPT log, which states step times, needs global_batch_size to become tokens per second per GPU"),
    ({"log": ""}, "'' is not a regular file; give the path of a log or its text"),
    ({"tokens_per_s": 1, "recompute": 33}, "recompute 33 names more blocks than the model's 32 layers; give at most that many"),
    ({"log": "no-such-file"}, "there is no readable log at 'no-such-file'; give a path or the log's text"),
    ({"tokens_per_s": 0}, "calculate_mfu: tokens_per_s must be above 0.0, not 0"),
    ({"tokens_per_s": float("inf")}, "calculate_mfu: tokens_per_s must be a finite number, not inf"),
    ({"tokens_per_s": 1, "recompute": "some"}, "calculate_mfu: recompute must be none, selective, full or a number of blocks, not 'some'"),
    ({"tokens_per_s": 1, "gpu": "t4"}, "t4 (compute capability 7.5) has no bf16 matrix units"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_one_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AdvisorError) as caught:
        ask(**arguments)
    assert caught.value.message == sentence


def test_a_step_time_alone_names_all_that_is_needed() -> None:
    with pytest.raises(CannotAnswer) as caught:
        advisor_mcp.call("calculate_mfu", **PER_GPU | {"step_time_s": 2.5})
    assert caught.value.needs == ["global_batch_size", "gpu_count"]
