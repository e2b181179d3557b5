"""roofline as a caller sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import advisor_mcp
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.knowledge import measurements
from advisor_mcp.knowledge.measurements import Measurement


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_MCP_DATA", str(tmp_path))


def ask(gpu: str = "h100-sxm", **arguments: Any) -> dict[str, Any]:
    return advisor_mcp.call("roofline", gpu=gpu, **arguments).data()


def record(subject: str, **values: float) -> None:
    units = {"launch": "us", "copy.device": "GB/s"}
    rows = [
        Measurement("ceiling", subject, key.replace("__", "."), value, units.get(key.replace("__", "."), "TFLOP/s"), value, value, 30, "2026-11-21T08:00:00Z")
        for key, value in values.items()
    ]  # fmt: skip
    with measurements.writing() as store:
        store.add(rows)


def test_a_product_is_answered_with_bound_tiles_and_ceilings() -> None:
    found = ask(matmul={"m": 8192, "n": 8192, "k": 8192})
    figures = {
        key: found[key]
        for key in ("flops", "bytes", "bound", "attainable_ms", "attainable_tflops", "intensity", "ridge")
    }
    assert figures == {
        "flops": 1_099_511_627_776, "bytes": 402_653_184, "bound": "compute", "attainable_ms": 1.111, "attainable_tflops": 989.4,
        "intensity": 2731.0, "ridge": 295.3,
    }  # fmt: skip
    # 32 x 64 tiles of 256 x 128 in 16 waves of 132; 128 x 128 of 64 x 64 in 125
    assert found["tiling"] == [
        {"tile": "256x128", "tiles": 2048, "waves": 16, "tile_efficiency_percent": 100.0, "wave_efficiency_percent": 96.97, "efficiency_percent": 96.97},
        {"tile": "64x64", "tiles": 16384, "waves": 125, "tile_efficiency_percent": 100.0, "wave_efficiency_percent": 99.3, "efficiency_percent": 99.3},
    ]  # fmt: skip
    assert found["ceilings"] == [
        {"ceiling": "bf16", "value": 989.4, "unit": "TFLOP/s", "origin": "datasheet"},
        {"ceiling": "memory", "value": 3350.0, "unit": "GB/s", "origin": "datasheet"},
    ]
    assert found["warnings"] == []


def test_dimensions_that_tensor_cores_cannot_load_whole_are_told_with_their_harm() -> None:
    assert ask(matmul={"m": 4097, "n": 4096, "k": 4097})["warnings"] == [
        "k = 4097 is no multiple of 8 (16 bytes in bf16): kernels with narrow loads are taken (*_align1, *_align2), below this roof; "
        "pad to the next multiple"
    ]
    assert "torch refuses the product" in ask(matmul={"m": 4096, "n": 4104, "k": 4096}, dtype="fp8")["warnings"][0]


def test_amds_kernels_want_the_same_16_bytes() -> None:
    found = ask("mi300x", matmul={"m": 4097, "n": 4097, "k": 4097})
    assert found["warnings"] == [
        "n = 4097 and k = 4097 are no multiples of 8 (16 bytes in bf16): kernels that Tensile makes for whole multiples are passed over "
        "for slower ones; pad to the next multiple"
    ]
    assert "repo:rocm/hipblaslt@01c50c1bdae1:tensilelite/tensile/common.py" in found["sources"]


@pytest.mark.parametrize(("gpu", "sizes"), [
    ("h100-sxm", {"m": 4097, "n": 4096, "k": 4096}), ("mi300x", {"m": 4097, "n": 4096, "k": 4096}),
    ("tpu-v5e", {"m": 4096, "n": 4097, "k": 4097}),  # no source says what it does there
])  # fmt: skip
def test_rows_need_no_alignment_and_nothing_is_said_of_what_no_source_describes(
    gpu: str, sizes: dict[str, int]
) -> None:
    assert ask(gpu, matmul=sizes)["warnings"] == []


def test_fp32_is_told_what_tf32_would_allow() -> None:
    assert ask(matmul={"m": 4096, "n": 4096, "k": 4096}, dtype="fp32")["warnings"] == [
        "fp32 runs beside the tensor cores; with tf32 allowed the roof is 494.7 TFLOP/s"
    ]


def test_tiles_are_left_out_for_a_vendor_whose_tiles_are_not_described() -> None:
    found = ask("mi300x", matmul={"m": 4096, "n": 4096, "k": 4096})
    assert "tiling" not in found
    assert any("tile and wave quantisation is described for NVIDIA's GPUs" in note for note in found["assumptions"])


def test_a_measured_ceiling_bounds_the_answer_until_the_datasheet_is_asked_for() -> None:
    record("h100-sxm", matmul__bf16=740.0)
    measured = ask(matmul={"m": 8192, "n": 8192, "k": 8192})
    # 1.0995 x 10^12 FLOPs at 740 x 10^12 a second
    assert (measured["attainable_ms"], measured["ceilings"][0]["origin"]) == (
        1.486, "measured here 2026-11-21, n=30, instead of the datasheet's 989.4",
    )  # fmt: skip
    assert ask(matmul={"m": 8192, "n": 8192, "k": 8192}, ceilings="datasheet")["attainable_ms"] == 1.111


def test_a_measured_launch_bounds_a_small_product_and_warns_of_an_eager_step() -> None:
    record("h100-sxm", launch=5.0)
    found = ask(matmul={"m": 16, "n": 64, "k": 64})
    assert (found["bound"], found["attainable_ms"]) == ("launch", 0.005)
    step = ask(model="smollm2-135m", sequence_length=64)
    # 30 layers of 14 operations, the lookup, and norm and product of the head
    assert step["launches_ms"] == pytest.approx(5e-3 * (30 * 14 + 3), rel=0.05)
    assert any("use CUDA graphs" in warning for warning in step["warnings"])


def test_decoding_is_answered_group_by_group_with_shares_that_make_a_whole() -> None:
    found = ask(model="llama-3.1-8b", sequence_length=8192, detail="full")
    assert sum(row["share_percent"] for row in found["operations"]) == pytest.approx(100, abs=0.3)
    assert [row["group"] for row in found["operations"]] == [
        "mlp", "attention projections", "attention scores", "lm_head", "norms and the like",
    ]  # fmt: skip
    assert (found["bound"], found["attainable_tokens_per_s"]) == ("memory", 208.3)


@pytest.mark.parametrize(("arguments", "told"), [
    ({"model": "llama-3.1-8b"}, "a step takes at least {least} ms, which is"),
    ({"model": "llama-3.1-8b", "phase": "prefill"},
     "a step takes at least {floor} ms if all operations overlapped, {least} ms with operations one after another, which is"),
    ({"model": "mixtral-8x7b", "concurrency": 64},
     "a step takes at least {floor} ms if every token used the same experts, {least} ms with experts chosen alike, which is"),
])  # fmt: skip
def test_each_bound_of_a_step_is_told_with_what_it_assumes(arguments: dict[str, Any], told: str) -> None:
    found = ask(**arguments)
    assert told.format(floor=found["floor_ms"], least=found["attainable_ms"]) in found["summary"]


def test_a_step_that_routing_and_order_both_lengthen_names_both() -> None:
    said = ask("a100-sxm-80gb", model="mixtral-8x7b", concurrency=256, sequence_length=512)["summary"]
    causes = (
        "ms if every token used the same experts",
        "ms with experts chosen alike",
        "ms with operations one after another",
    )
    assert [said.count(cause) for cause in causes] == [1, 1, 1]


@pytest.mark.parametrize(("arguments", "warning"), [
    # 70,553,706,496 weights x 2 bytes, and 327,680 bytes of cache a token x 8,192, of 85,520,809,984 bytes
    ({"model": "llama-3.1-70b"},
     "131.42 GiB of weights and 2.5 GiB of caches do not fit in the 79.65 GiB of h100-sxm: see estimate_serving_memory"),
    # 8,030,261,248 x 2 bytes; 131,072 x 10,000,000
    ({"model": "llama-3.1-8b", "sequence_length": 10_000_000},
     "14.96 GiB of weights and 1,220.7 GiB of caches do not fit in the 79.65 GiB of h100-sxm: see estimate_serving_memory"),
    ({"model": "llama-3.1-70b", "phase": "training", "tensor_parallel": 2},
     "65.71 GiB of weights and 65.71 GiB of gradients do not fit in each rank's 79.65 GiB of h100-sxm"),
])  # fmt: skip
def test_a_model_that_a_device_cannot_hold_is_told_first(arguments: dict[str, Any], warning: str) -> None:
    assert ask(**arguments)["warnings"][0] == warning


@pytest.mark.parametrize("arguments", [
    {"model": "llama-3.1-8b"}, {"model": "llama-3.1-70b", "tensor_parallel": 2},
    {"model": "llama-3.1-70b", "quantization": "awq"},
])  # fmt: skip
def test_a_model_that_a_device_holds_is_not_warned_of(arguments: dict[str, Any]) -> None:
    assert not any("do not fit" in warning for warning in ask(**arguments)["warnings"])


def test_nothing_more_is_to_be_measured_where_all_ceilings_are() -> None:
    record("h100-sxm", matmul__bf16=740.0, copy__device=3000.0)
    assert "the cost of a launch" in ask(matmul={"m": 64, "n": 64, "k": 64})["next_measurement"]
    record("h100-sxm", launch=3.0)
    assert "next_measurement" not in ask(matmul={"m": 64, "n": 64, "k": 64})


def test_a_context_whose_cache_outweighs_its_arithmetic_has_no_batch_that_saves_it() -> None:
    found = ask(model="llama-3.1-8b", sequence_length=131072)
    assert "concurrency_to_ridge" not in found
    assert any("no concurrency makes this step compute bound" in warning for warning in found["warnings"])


def test_a_short_context_is_compute_bound_from_some_concurrency_on() -> None:
    found = ask(model="llama-3.1-8b", sequence_length=16)
    sequences = found["concurrency_to_ridge"]
    at, below = (
        ask(model="llama-3.1-8b", sequence_length=16, concurrency=n)["floor_ms"]
        for n in (2 * sequences, sequences // 2)
    )
    assert at > 1.9 * found["floor_ms"]
    assert below == pytest.approx(found["floor_ms"], rel=0.2)


def test_a_format_that_a_device_cannot_multiply_in_is_told() -> None:
    found = ask("a100-sxm-80gb", model="llama-3.1-8b", quantization="fp8")
    assert found["warnings"][0] == "a100-sxm-80gb has no fp8 arithmetic: weights stored so are multiplied in bf16"
    assert {row["dtype"] for row in found["operations"]} == {"bf16"}


def test_attention_is_answered_by_its_heads_and_lengths() -> None:
    found = ask(attention={"query_heads": 32, "kv_heads": 8, "head_dim": 128, "query_length": 8192})
    assert (found["flops"], found["bytes"], found["bound"]) == (549_822_922_752, 167_772_160, "compute")
    decoded = ask(
        attention={"query_heads": 32, "kv_heads": 8, "head_dim": 128, "query_length": 1, "context_length": 8192}
    )
    assert decoded["bound"] == "memory"


@pytest.mark.parametrize(("more", "kind", "note"), [
    ({}, "fused causal attention", "causal (the default): a query sees no later position; pairs that are masked are not multiplied (causal=false: all are)"),
    ({"causal": False}, "fused attention", "not causal: every query sees every position"),
    ({"materialised": True}, "materialised causal attention",
     "all pairs are multiplied, and masked afterwards where causal, which spares nothing; scores and probabilities are written and read once each"),
])  # fmt: skip
def test_attention_says_which_pairs_it_counts(more: dict[str, Any], kind: str, note: str) -> None:
    found = ask(attention={"query_heads": 8, "head_dim": 64, "query_length": 512, **more})
    assert found["summary"].startswith(f"{kind}, 512 queries on 512 positions")
    assert note in found["assumptions"]


@pytest.mark.parametrize(("arguments", "sentence"), [
    ({}, "give exactly one of matmul, attention and model"),
    ({"model": "llama-3.1-8b", "matmul": {"m": 1, "n": 1, "k": 1}}, "give exactly one of matmul, attention and model"),
    ({"matmul": {"m": 1, "n": 1}}, "matmul.k is required"),
    ({"matmul": {"m": 0, "n": 1, "k": 1}}, "matmul.m must be at least 1"),
    ({"matmul": {"m": 1, "n": 1, "k": 1}, "quantization": "awq"}, "quantization is for a model; give the dtype of a single operation"),
    ({"model": "llama-3.1-8b", "phase": "training", "concurrency": 2}, "phase training takes micro_batch_size, not concurrency"),
    ({"model": "llama-3.1-8b", "micro_batch_size": 2}, "phase decode takes concurrency, not micro_batch_size"),
    ({"attention": {"query_heads": 8, "head_dim": 64, "query_length": 9, "context_length": 8}}, "query_length exceeds context_length"),
    ({"attention": {"query_heads": 8, "kv_heads": 3, "head_dim": 64, "query_length": 9}}, "kv_heads 3 does not divide query_heads 8"),
])  # fmt: skip
def test_what_cannot_be_used_is_told_in_a_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        ask(**arguments)


@pytest.mark.parametrize(("gpu", "dtype", "reason", "needs"), [
    ("v100", None, "v100-sxm2-32gb (compute capability 7.0) has no bf16 matrix units", "a dtype that it has (fp64, fp32, fp16, int8_dp4a)"),
    ("t4", "bf16", "t4 (compute capability 7.5) has no bf16 matrix units", "a dtype that it has (fp32, fp16, int8, int4)"),
    ("a100-sxm-80gb", "fp8", "a100-sxm-80gb (compute capability 8.0) has no fp8 matrix units",
     "a dtype that it has (fp64, fp64_tensor, fp32, tf32, bf16, fp16, int8, int4)"),
    ("mi250x", "fp8", "mi250x (gfx90a) has no fp8 matrix units", "a dtype that it has (fp64, fp64_matrix, fp32, fp32_matrix, bf16, fp16, int8)"),
    # what its units can do is not known, only that no rate was found
    ("gaudi2", "fp16", "no dense fp16 rate is known for gaudi2 (known: bf16, fp8)", "dense fp16 TFLOP/s of gaudi2"),
])  # fmt: skip
def test_a_dtype_that_a_chip_has_no_units_for_is_told_from_an_unknown_rate(
    gpu: str, dtype: str | None, reason: str, needs: str
) -> None:
    with pytest.raises(CannotAnswer) as refused:
        ask(gpu, matmul={"m": 1, "n": 1, "k": 1}, **({"dtype": dtype} if dtype else {}))
    assert (str(refused.value), refused.value.needs) == (reason, [needs])


@pytest.mark.parametrize("arguments", [
    {"model": "deepseek-v3", "tensor_parallel": 8, "concurrency": 64}, {"model": "gpt-oss-120b", "phase": "prefill"},
    {"model": "gemma-3-27b", "phase": "training", "micro_batch_size": 2},
    {"matmul": {"m": 4097, "n": 4097, "k": 4097, "batch": 3}},
])  # fmt: skip
def test_brief_and_full_answers_keep_their_size_uncut(arguments: dict[str, Any]) -> None:
    record("h100-sxm", matmul__bf16=740.0, matmul__fp8=1400.0, copy__device=3000.0, launch=3.0)
    for detail, most in (("brief", 2_400), ("full", 16_000)):
        answer = advisor_mcp.call("roofline", gpu="h100-sxm", detail=detail, **arguments)
        assert max(len(answer.text().encode()), len(answer.json_text().encode())) <= most
        assert [note.endswith("each below 1 % of the time") for note in answer.omitted or []] in ([], [True])
