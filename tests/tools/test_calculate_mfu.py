"""calculate_mfu as a caller sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import advisor_mcp
from advisor_mcp.errors import AdvisorError, CannotAnswer

ASKED: dict[str, Any] = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "gpu_count": 8, "sequence_length": 4096}


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
    ({"step_time_s": 1}, "step_time_s needs global_batch_size to become tokens per second"),
    ({"log": "iter 1: loss 2.0, time 10.0ms"}, "the nanoGPT log, which states step times, needs global_batch_size to become tokens per second"),
    ({"log": "no-such-file"}, "there is no readable log at 'no-such-file'; give a path or the log's text"),
    ({"tokens_per_s": 0}, "calculate_mfu: tokens_per_s must be above 0.0, not 0"),
    ({"tokens_per_s": float("inf")}, "calculate_mfu: tokens_per_s must be a finite number, not inf"),
    ({"tokens_per_s": 1, "recompute": "some"}, "calculate_mfu: recompute must be none, selective, full or a number of blocks, not 'some'"),
    ({"tokens_per_s": 1, "gpu": "t4"}, "no dense bf16 rate is known for t4 (known: fp32, fp16, int8, int4)"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_one_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AdvisorError) as caught:
        ask(**arguments)
    assert caught.value.message == sentence


def test_a_missing_batch_size_names_what_is_needed() -> None:
    with pytest.raises(CannotAnswer) as caught:
        ask(step_time_s=2.5)
    assert caught.value.needs == ["global_batch_size"]
