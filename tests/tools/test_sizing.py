"""describe_model and estimate_serving_memory as a caller sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import advisor_mcp
from advisor_mcp.errors import AdvisorError, InternalError

SMALL: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 16,
    "num_hidden_layers": 2, "vocab_size": 32, "max_position_embeddings": 100,
}  # fmt: skip


def ask(tool: str, **arguments: Any) -> dict[str, Any]:
    return advisor_mcp.call(tool, **arguments).data()


def refused(tool: str, **arguments: Any) -> str:
    with pytest.raises(AdvisorError) as caught:
        ask(tool, **arguments)
    return caught.value.message


def test_a_small_model_is_described_whole() -> None:
    found = ask("describe_model", model=SMALL, sequence_length=10)
    per_layer = 8 * 8 * 2 + 4 * 8 * 2 + 3 * 16 * 8 + 16
    total = 2 * per_layer + 2 * 256 + 8
    forward = 2 * (2 * (per_layer - 16) + 256)
    attention = 2 * 55 * 4 * 2 * (2 + 2) // 10
    assert found["parameters"]["total"] == found["parameters"]["active"] == total
    assert found["state"] == {
        "sequence_length": 10, "bytes_per_token": 32, "fixed_bytes": 0, "total_bytes": 320,
        "groups": [{"kind": "full", "layers": 2, "bytes_per_token": 32, "tokens_per_entry": 1, "fixed_bytes": 0, "dtype": "bf16"}],
    }  # fmt: skip
    assert found["flops_per_token"] == {
        "sequence_length": 10, "forward_full": forward + 2 * 100 * 4 * 2 * (2 + 2) // 10, "forward": forward + attention, "forward_attention": attention, "forward_backward": 3 * (forward + attention),
    }  # fmt: skip
    assert (found["checkpoint_bytes"], found["checkpoint_format"]) == (2 * total, "bf16")
    assert found["assumptions"] == ["the configuration names no dtype: bf16 is taken", "caches keep the model's dtype"]
    assert "tensors" not in found


def test_the_full_answer_lists_both_inventories_and_they_add_up() -> None:
    found = ask("describe_model", model="qwen3-30b-a3b", sequence_length=64, detail="full")
    assert sum(row["parameters"] for row in found["tensors"]) == found["parameters"]["total"]
    assert sum(row["bytes"] for row in found["tensors"]) == found["checkpoint_bytes"]
    assert sum(row["flops_per_token"] for row in found["operations"]) == pytest.approx(
        found["flops_per_token"]["forward"], rel=1e-9
    )
    experts = [row for row in found["tensors"] if row["component"] == "routed_experts"]
    assert {row["name"] for row in experts} == {
        f"model.layers.0-47.mlp.experts.0-127.{name}_proj.weight" for name in ("gate", "up", "down")
    }
    assert {row["tensors"] for row in experts} == {48 * 128}
    assert {entry["figure"] for entry in found["derivation"]} == {
        "parameters.total",
        "state.total_bytes",
        "flops_per_token.forward",
    }


def test_a_requested_dtype_and_a_cache_dtype_replace_the_declared_ones() -> None:
    found = ask("describe_model", model="llama-3.1-8b", dtype="fp32", kv_dtype="fp8", sequence_length=1024)
    assert found["checkpoint_bytes"] == 4 * 8_030_261_248
    assert found["state"]["total_bytes"] == 1024 * 32 * 2 * 8 * 128


def test_a_length_beyond_the_configuration_is_answered_with_a_warning() -> None:
    assert ask("describe_model", model=SMALL, sequence_length=101)["warnings"] == [
        "101 tokens exceed the 100 the configuration is made for"
    ]


def test_memory_without_a_gpu_is_answered_without_a_verdict() -> None:
    found = ask("estimate_serving_memory", model="llama-3.1-8b", sequence_length=8192, concurrency=2)
    assert found["kv_gib"] == 2.0
    assert {"fits", "capacity", "gpu", "budget_gib"}.isdisjoint(found)


def test_a_model_that_is_too_large_does_not_fit_and_holds_nobody() -> None:
    found = ask("estimate_serving_memory", model="llama-3.1-405b", gpu="h100-sxm", gpu_count=8)
    assert found["fits"] is False
    assert found["capacity"] == {
        "kv_tokens": 0, "kv_tokens_range": [0, 0], "max_concurrency": 0, "max_concurrency_range": [0, 0], "max_sequence_length": 0
    }  # fmt: skip
    assert found["would_fit"] == ["tensor_parallel 16 (16 x h100-sxm a replica)", "quantization fp8"]
    assert "next_measurement" not in found
    assert " does not fit on 8 x h100-sxm" in found["summary"]


def test_the_range_holds_the_estimate_and_its_evidence_is_named() -> None:
    found = ask("estimate_serving_memory", model="llama-3.1-8b", gpu="h100", sequence_length=32768)
    low, high = found["total_gib_range"]
    assert low <= found["total_gib"] <= high
    assert any("80 % ranges from 102 published measurements" in note for note in found["assumptions"])
    assert "'h100' is read as h100-sxm (H100 SXM5 80GB)" in found["assumptions"]


def test_what_the_capacity_promises_fits_and_one_more_does_not() -> None:
    asked: dict[str, Any] = {"model": "llama-3.1-8b", "gpu": "l40s", "sequence_length": 4096}
    most = ask("estimate_serving_memory", **asked)["capacity"]["max_concurrency"]
    # at that concurrency a step holds its full number of tokens, as it does for one more
    assert most > 2
    fits = [ask("estimate_serving_memory", **asked, concurrency=users)["fits"] for users in (most - 1, most + 1)]
    assert fits == [True, False]


def test_gpus_beyond_one_replica_make_more_replicas() -> None:
    asked: dict[str, Any] = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "tensor_parallel": 2}
    one = ask("estimate_serving_memory", **asked, gpu_count=2, concurrency=100)
    four = ask("estimate_serving_memory", **asked, gpu_count=8, concurrency=400)
    assert (four["tensor_parallel"], four["replicas"]) == (2, 4)
    assert four["total_gib"] == one["total_gib"]
    assert four["capacity"]["max_concurrency"] == 4 * one["capacity"]["max_concurrency"]
    assert "400 sequences of 8,192 tokens (100 sequences a replica)" in four["summary"]


def test_gpus_that_do_not_divide_the_model_are_used_as_replicas_unless_the_split_was_asked_for() -> None:
    found = ask("estimate_serving_memory", model="llama-3.1-8b", gpu="h100-sxm", gpu_count=3)
    assert (found["tensor_parallel"], found["replicas"]) == (1, 3)
    assert "tensor_parallel is not given: 1, 3 replicas, each over as many as divide the model" in found["assumptions"]


def test_fewer_sequences_are_offered_where_only_they_are_too_many() -> None:
    found = ask("estimate_serving_memory", model="llama-3.1-8b", gpu="h100-sxm", concurrency=1000, tensor_parallel=32)
    assert found["would_fit"] == [f"concurrency {found['capacity']['max_concurrency']:,} a replica"]


def test_a_format_that_the_device_cannot_compute_in_is_a_warning() -> None:
    warned = ask("estimate_serving_memory", model="llama-3.1-8b", gpu="a100-sxm-80gb", quantization="fp8")["warnings"]
    assert warned == ["a100-sxm-80gb has no fp8 arithmetic: weights stored so are computed with in a wider format"]
    assert ask("estimate_serving_memory", model="llama-3.1-8b", gpu="h100-sxm", quantization="fp8")["warnings"] == []


def test_the_range_of_the_capacity_holds_it() -> None:
    found = ask("estimate_serving_memory", model="llama-3.1-70b", gpu="h100-sxm", gpu_count=4, sequence_length=32768)[
        "capacity"
    ]
    assert found["max_concurrency_range"][0] <= found["max_concurrency"] <= found["max_concurrency_range"][1]
    assert found["kv_tokens_range"][0] < found["kv_tokens"] < found["kv_tokens_range"][1]


def test_a_model_without_attention_is_sized_and_splits_as_its_widths_allow() -> None:
    mamba = {
        "model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 96, "state_size": 16, "conv_kernel": 4,
        "expand": 2, "time_step_rank": 4, "intermediate_size": 128,
    }  # fmt: skip
    assert ask("estimate_serving_memory", model=mamba)["kv_gib"] == 0
    assert "tensor_parallel 7 does not divide this model's heads and widths" in refused(
        "estimate_serving_memory", model=mamba, tensor_parallel=7
    )


def test_the_latent_cache_is_replicated_on_every_rank() -> None:
    one, eight = (
        ask("estimate_serving_memory", model="deepseek-v3", tensor_parallel=ranks, sequence_length=32768)["kv_gib"]
        for ranks in (1, 8)
    )
    assert one == eight == round(70_272 * 32768 / 2**30, 2)


@pytest.mark.parametrize(("arguments", "sentence"), [
    ({"model": "llama-3.1-8b", "gpu": "h100-sxn"}, "unknown GPU 'h100-sxn'; did you mean 'h100-sxm'? (all are listed by search_knowledge with kinds=['gpu'])"),
    ({"model": "llama-3.1-8b", "gpu": ""}, "estimate_serving_memory: gpu must not be empty"),
    ({"model": "llama-3.1-8b", "gpu_count": 6, "tensor_parallel": 4}, "tensor_parallel 4 does not divide gpu_count 6; each replica takes tensor_parallel GPUs"),
    ({"model": "llama-3.1-8b", "gpu_memory_utilization": 1.5}, "estimate_serving_memory: gpu_memory_utilization must be at most 1.0, not 1.5"),
    ({"model": "llama-3.1-8b", "concurrency": 0}, "estimate_serving_memory: concurrency must be at least 1, not 0"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_one_sentence(arguments: dict[str, Any], sentence: str) -> None:
    assert refused("estimate_serving_memory", **arguments) == sentence


def test_ranks_that_divide_nothing_are_refused_with_those_that_do() -> None:
    said = refused("estimate_serving_memory", model="llama-3.1-8b", tensor_parallel=5)
    assert said == (
        "tensor_parallel 5 does not divide this model's heads and widths (32 attention heads, 8 KV heads, 14,336 MLP width); "
        "usable are 1, 2, 4, 8, 16, 32"
    )


def test_no_recorded_configuration_makes_a_tool_fail_on_a_fault_of_its_own() -> None:
    folder = Path(__file__).resolve().parents[1] / "cases" / "counts"
    cases = [
        case["config"]
        for path in folder.glob("*.json")
        for case in json.loads(path.read_text(encoding="utf-8"))["cases"]
    ]
    faults = []
    for config in cases:
        for tool, more in (
            ("estimate_serving_memory", {"gpu": "h100-sxm"}),
            ("describe_model", {"lora_rank": 4, "detail": "full"}),
        ):
            try:
                advisor_mcp.call(tool, model=config, **more)
            except InternalError as fault:
                faults.append((config["model_type"], tool, fault.message))
            except AdvisorError:
                continue
    assert len(cases) > 500
    assert faults == []
