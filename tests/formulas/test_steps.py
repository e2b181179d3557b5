"""The roofline of whole models: FLOPs equal those of the inventory, bytes those of weights and caches."""

from __future__ import annotations

import math
from typing import Any

import pytest

from advisor_mcp import knowledge
from advisor_mcp.anatomy.inventory import Architecture, total
from advisor_mcp.anatomy.reading import read_model
from advisor_mcp.errors import CannotAnswer
from advisor_mcp.formulas.ceilings import Ceilings, read_ceilings
from advisor_mcp.formulas.flops import forward
from advisor_mcp.formulas.parameters import parameters
from advisor_mcp.formulas.precision import WeightFormat, requested_format
from advisor_mcp.formulas.state import state_bytes, state_groups
from advisor_mcp.formulas.steps import Item, Part, Step, Workload, fewest, lower, step, tokens_to_ridge, touched

MODELS = knowledge.ids("model")
LOOKED_UP = ("token_embedding", "position_embedding", "per_layer_embedding")
H100 = read_ceilings("h100-sxm", "datasheet")
MAMBA = {
    "model_type": "mamba", "hidden_size": 64, "intermediate_size": 128, "state_size": 16, "conv_kernel": 4, "num_hidden_layers": 2,
    "time_step_rank": 4, "vocab_size": 100, "use_bias": False, "use_conv_bias": True, "tie_word_embeddings": True,
}  # fmt: skip


def fold(
    model: str | dict[str, Any], phase: Any, length: int, batch: int = 1, fmt: WeightFormat | None = None, **more: Any
) -> Step:
    architecture = read_model(model).architecture
    lowered = lower(architecture, fmt or WeightFormat("bf16"), H100, **more)
    return step(lowered, H100, Workload(phase, length, batch))


def part(run: Step, group: str) -> Part:
    return next(each for each in run.parts if each.group == group)


@pytest.mark.parametrize("model", MODELS)
def test_training_costs_three_times_the_forward_flops_of_the_inventory(model: str) -> None:
    architecture = read_model(model).architecture
    expected = 3 * forward(architecture, architecture.workload(1024, 2)).total
    assert fold(model, "training", 1024, 2).flops == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_prefill_costs_the_forward_flops_but_for_the_logits_of_earlier_tokens(model: str) -> None:
    architecture = read_model(model).architecture
    sizes = architecture.workload(1024)
    head = sum(total(op.flops, sizes) for block in architecture.blocks if block.name == "head" for op in block.ops)
    expected = forward(architecture, sizes).total - head * 1023 / 1024
    assert fold(model, "prefill", 1024).flops == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_decoding_one_sequence_reads_the_active_weights_and_the_cache(model: str) -> None:
    architecture = read_model(model).architecture
    counted = parameters(architecture)
    unread = 0 if architecture.tied else sum(counted.by_component.get(role, 0) for role in LOOKED_UP)
    towers = sum(
        block.repeat * tensor.elements(architecture.bound())
        for block, tensor in architecture.tensors()
        if block.tower or tensor.role in ("vision", "audio")
    )
    cached = state_bytes(state_groups(architecture, architecture.bound(), "bf16"), 1000)
    found = fold(model, "decode", 1000, kv_dtype="bf16").bytes
    assert found == pytest.approx(2 * (counted.active - unread - towers) + cached, rel=1e-6)


def test_llama_decodes_with_the_bytes_and_flops_of_its_datasheet() -> None:
    run = fold("llama-3.1-8b", "decode", 8192)
    # all 8,030,261,248 weights but the 525,336,576 of the embedding, and 131,072 bytes of cache a token
    assert run.bytes == 2 * (8_030_261_248 - 525_336_576) + 8192 * 131_072
    # 2 per matrix weight (65 norms of 4,096 aside) and 4 x 128 x 32 heads x 8192 positions in 32 layers
    assert run.flops == 2 * (7_504_924_672 - 65 * 4096) + 32 * 4 * 128 * 32 * 8192
    assert (run.limit, run.seconds) == ("memory", pytest.approx(run.bytes / 3350e9))


def test_latent_attention_decodes_on_the_latent_itself() -> None:
    run = fold("deepseek-v3", "decode", 8192)
    # scores over 512 + 64 and sums over 512, 128 heads, 61 layers; each position's latent of 576 values is read once
    assert part(run, "attention scores").flops == 61 * 2 * 128 * 8192 * (512 + 64 + 512)
    assert part(run, "attention scores").bytes == 61 * 2 * 8192 * 576


def test_a_window_bounds_what_decoding_reads() -> None:
    sliding = fold("mistral-7b-v0.1", "decode", 16384)
    assert part(sliding, "attention scores").bytes == 4096 * 32 * 2 * 8 * 128 * 2
    assert part(sliding, "attention scores").flops == 32 * 4 * 128 * 32 * 4096


def test_a_recurrent_state_is_read_and_written_whatever_the_length() -> None:
    short, long = (fold(MAMBA, "decode", length, kv_dtype="bf16") for length in (10, 100_000))
    assert short.bytes == long.bytes
    # 2 layers x 128 channels x (16 states + 4 of the convolution) x 2 bytes, there and back
    architecture = read_model(MAMBA).architecture
    state = state_bytes(state_groups(architecture, architecture.bound(), "bf16"), 10)
    weights = 2 * parameters(architecture).total
    assert short.bytes == pytest.approx(weights + 2 * state)


def test_experts_are_read_as_often_as_tokens_choose_them_alike() -> None:
    item = Item("routed_experts", "moe", 1, 1, "bf16", (), experts=8, used=2)
    # 8 x (1 - (3/4)^T)
    assert [round(touched(item, tokens), 6) for tokens in (1, 2, 1000)] == [2, 3.5, 8]


def test_the_floor_lets_every_token_use_the_same_experts() -> None:
    one, many = (fold("mixtral-8x7b", "decode", 128, batch) for batch in (1, 64))
    assert one.floor_s == pytest.approx(one.seconds, rel=1e-3)
    assert part(many, "routed_experts").floor_bytes == pytest.approx(part(one, "routed_experts").bytes)
    assert part(many, "routed_experts").bytes == pytest.approx(4 * part(one, "routed_experts").bytes, rel=1e-6)


def test_the_three_bounds_of_a_step_part_by_routing_and_by_overlap() -> None:
    run = fold("mixtral-8x7b", "decode", 128, 64)
    routed = part(run, "routed_experts")
    # every group is memory bound: overlapping gains nothing, and only the experts that are read part the bounds
    assert run.overlapped_s == pytest.approx(run.seconds, rel=1e-12)
    assert run.overlapped_s - run.floor_s == pytest.approx((routed.bytes - routed.floor_bytes) / 3350e9, rel=1e-9)
    # a long prompt has groups of both kinds, and every expert is at work
    prompt = fold("llama-3.1-8b", "prefill", 8192)
    assert prompt.floor_s == prompt.overlapped_s == pytest.approx(sum(each.compute_s for each in prompt.parts))
    assert prompt.overlapped_s < prompt.seconds


def test_a_rank_of_two_reads_half_of_what_tensor_parallelism_divides() -> None:
    whole, half = (fold("llama-3.1-8b", "decode", 4096, tensor_parallel=ranks) for ranks in (1, 2))
    assert [part(whole, name).bytes / part(half, name).bytes for name in ("mlp", "attention scores", "lm_head")] == [
        2,
        2,
        2,
    ]
    assert part(half, "norms and the like").bytes == part(whole, "norms and the like").bytes


def test_a_quantised_model_multiplies_in_the_fastest_arithmetic_that_suits_it() -> None:
    architecture = read_model("llama-3.1-8b").architecture
    a100, b200 = read_ceilings("a100-sxm-80gb", "datasheet"), read_ceilings("b200-sxm", "datasheet")

    def rates(name: str, ceilings: Ceilings) -> str:
        return next(
            i.arithmetic
            for i in lower(architecture, requested_format(architecture, None, name), ceilings).items
            if i.group == "mlp"
        )

    assert {name: (rates(name, a100), rates(name, H100), rates(name, b200)) for name in ("fp8", "nvfp4", "awq", "q4_k_m")} == {
        "fp8": ("bf16", "fp8", "fp8"), "nvfp4": ("bf16", "fp8", "fp4"), "awq": ("bf16", "bf16", "bf16"), "q4_k_m": ("int8", "int8", "int8"),
    }  # fmt: skip


def test_the_tokens_that_reach_the_ridge_do_so_and_one_fewer_does_not() -> None:
    architecture = read_model("mixtral-8x7b").architecture
    lowered = lower(architecture, WeightFormat("bf16"), H100)
    groups = step(lowered, H100, Workload("decode", 128, 1))
    for name in ("routed_experts", "attention projections"):
        tokens = tokens_to_ridge(part(groups, name), H100, lowered.sizes)
        assert tokens is not None
        at, below = (
            part(step(lowered, H100, Workload("decode", 128, batch)), name).limit for batch in (tokens, tokens - 1)
        )
        assert (name, at, below) == (name, "compute", "memory")


def test_a_dense_weight_in_16_bits_reaches_the_ridge_at_as_many_tokens_as_flops_per_byte() -> None:
    # 2 FLOPs and 2 bytes a weight: the ridge of 989.4 / 3.35 = 295.3 itself
    architecture = read_model("llama-3.1-8b").architecture
    lowered = lower(architecture, WeightFormat("bf16"), H100)
    run = step(lowered, H100, Workload("prefill", 128, 1))
    assert tokens_to_ridge(part(run, "mlp"), H100, lowered.sizes) == math.ceil(989.4 / 3.35)


def test_attention_has_no_batch_that_saves_it() -> None:
    architecture = read_model("llama-3.1-8b").architecture
    lowered = lower(architecture, WeightFormat("bf16"), H100)
    run = step(lowered, H100, Workload("decode", 128, 1))
    assert tokens_to_ridge(part(run, "attention scores"), H100, lowered.sizes) is None


@pytest.mark.parametrize("config", [
    {"model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128, "vocab_size": 100},
    {"model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 100},
])  # fmt: skip
def test_decoding_is_refused_for_models_that_keep_no_cache_of_their_own_tokens_alone(config: dict[str, Any]) -> None:
    architecture: Architecture = read_model(config).architecture
    with pytest.raises(
        CannotAnswer, match="decoding is described for models that keep a cache of their own tokens alone"
    ):
        step(lower(architecture, WeightFormat("bf16"), H100), H100, Workload("decode", 16, 1))


def test_a_search_finds_the_first_count_that_holds_or_none() -> None:
    assert [fewest(lambda n: n >= 7), fewest(lambda n: True), fewest(lambda n: n >= 100, most=99)] == [7, 1, None]
