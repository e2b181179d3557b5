"""What calculators get wrong, with its size on a named model; the other families' traps stand with their own tests."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import advisor_mcp
from advisor_mcp import knowledge
from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.formulas.parameters import parameters
from advisor_mcp.formulas.precision import declared_format, weight_bytes
from advisor_mcp.formulas.state import state_bytes, state_groups


def config(name: str, **changes: Any) -> dict[str, Any]:
    fact = knowledge.find("model", name)
    assert fact is not None
    return {k: v for k, v in (copy.deepcopy(fact["config"]) | changes).items() if v is not ...}


def total(name: str, **changes: Any) -> int:
    return parameters(architecture_of(config(name, **changes))).total


def component(name: str, role: str, **changes: Any) -> int:
    return parameters(architecture_of(config(name, **changes))).by_component.get(role, 0)


def cache(name: str, length: int, **changes: Any) -> int:
    architecture = architecture_of(config(name, **changes))
    return state_bytes(state_groups(architecture, architecture.bound(), "bf16"), length)


def test_a_tied_head_read_as_untied_adds_a_fifth_to_llama_3_2_1b() -> None:
    assert total("llama-3.2-1b") == 1_235_814_400
    assert total("llama-3.2-1b", tie_word_embeddings=False) - total("llama-3.2-1b") == 262_668_288


def test_an_absent_tie_means_tied_for_gemma_and_untied_for_llama() -> None:
    assert architecture_of(config("gemma-2-2b", tie_word_embeddings=...)).tied
    assert not architecture_of(config("llama-3.1-8b", tie_word_embeddings=...)).tied


def test_a_head_size_that_is_not_hidden_size_over_heads_changes_qwen3_0_6b_and_mistral_nemo_both_ways() -> None:
    # 128 and not 1024 / 16 = 64: attention doubles; 128 and not 5120 / 32 = 160: it shrinks
    assert component("qwen3-0.6b", "attention") == 2 * component("qwen3-0.6b", "attention", head_dim=64)
    assert component("mistral-nemo-12b", "attention") < component("mistral-nemo-12b", "attention", head_dim=...)


def test_the_dense_width_of_qwen3_30b_a3b_is_dead() -> None:
    assert total("qwen3-30b-a3b", intermediate_size=1) == total("qwen3-30b-a3b") == 30_532_122_624


def test_three_dense_layers_of_deepseek_v3_read_as_mixtures_add_33_billion() -> None:
    # 3 x (256 + 1 experts of 3 x 7168 x 2048 and a router of 256 x 7168 - a dense MLP of 3 x 7168 x 18432)
    added = 3 * (257 * 3 * 7168 * 2048 + 256 * 7168 - 3 * 7168 * 18432)
    assert total("deepseek-v3", first_k_dense_replace=0) - total("deepseek-v3") == added > 32e9


def test_shared_experts_of_deepseek_v3_are_two_and_a_half_billion() -> None:
    assert component("deepseek-v3", "shared_expert") == 58 * 3 * 7168 * 2048 == 2_554_331_136


def test_the_prediction_layer_of_deepseek_v3_and_its_router_biases_stand_beside_the_model() -> None:
    architecture = architecture_of(config("deepseek-v3"))
    sizes = architecture.bound()
    beside = {b.name: sum(b.repeat * t.elements(sizes) for t in b.tensors) for b in architecture.beside}
    # 11,610,067,968 of its own and the embedding and the head, 129,280 x 7,168 each, once more; 58 + 1 routers of 256
    assert sum(beside.values()) == 11_610_067_968 + 2 * 129_280 * 7168 + 59 * 256


def test_biases_of_qwen2_5_7b_and_of_gpt_oss_20b_are_counted() -> None:
    assert component("qwen2.5-7b", "attention") - 28 * (2 * 3584 * 3584 + 2 * 512 * 3584) == 129_024
    experts = 24 * 32 * (2880 * 2 * 2880 + 2880 * 2880)
    assert component("gpt-oss-20b", "routed_experts") - experts == 6_635_520
    matrices = 24 * (2 * 2880 * 4096 + 2 * 2880 * 512)
    assert component("gpt-oss-20b", "attention") - matrices == 24 * (4096 + 2 * 512 + 2880 + 64)


def test_query_and_key_norms_of_qwen3_8b_are_per_head_size_and_not_per_width() -> None:
    assert component("qwen3-8b", "qk_norm") == 36 * 2 * 128 == 9216


@pytest.mark.parametrize("key", ["partial_rotary_factor", "rope_theta", "n_group", "topk_group", "num_key_value_heads"])
def test_keys_that_change_nothing_in_deepseek_v3_change_nothing(key: str) -> None:
    changed = {key: 1}
    assert total("deepseek-v3", **changed) == total("deepseek-v3")
    assert cache("deepseek-v3", 8192, **changed) == cache("deepseek-v3", 8192)


def test_the_latent_cache_of_deepseek_v3_is_a_seventy_first_of_what_its_heads_would_keep() -> None:
    assert cache("deepseek-v3", 1) == 61 * (512 + 64) * 2 == 70_272
    assert 61 * 128 * (192 + 128) * 2 // 70_272 == 71


def test_windows_make_the_cache_of_gemma_3_27b_a_sixth_at_128k() -> None:
    assert cache("gemma-3-27b", 131_072) == 11_173_625_856
    assert 62 * 2 * 16 * 128 * 2 * 131_072 == 66_571_993_088


def test_mistral_7b_v0_1_caps_its_cache_at_half_a_gibibyte_and_v0_3_does_not() -> None:
    assert cache("mistral-7b-v0.1", 131_072) == 512 * 2**20
    assert cache("mistral-7b-v0.3", 131_072) == 16 * 2**30


def test_kv_heads_fewer_than_ranks_are_replicated_so_that_eight_ranks_keep_twice_the_cache() -> None:
    one, eight = (
        advisor_mcp.call(
            "estimate_serving_memory", model="qwen2.5-0.5b", tensor_parallel=ranks, sequence_length=2**17
        ).data()["kv_gib"]
        for ranks in (1, 2)
    )
    assert eight == one / 2  # two KV heads on two ranks
    from advisor_mcp.anatomy.inventory import place

    seven = architecture_of(config("qwen2.5-7b"))
    per_rank = state_groups(seven, seven.bound(place(seven, tensor=8)), "bf16")
    assert 8 * state_bytes(per_rank, 1000) == 2 * cache("qwen2.5-7b", 1000)


def test_mxfp4_touches_the_expert_matrices_alone_so_that_gpt_oss_is_not_half_a_byte_a_parameter() -> None:
    for name, published in (("gpt-oss-120b", 65_248_815_744), ("gpt-oss-20b", 13_761_264_768)):
        architecture = architecture_of(config(name))
        assert weight_bytes(architecture, architecture.bound(), declared_format(architecture)) == published
        assert published > 1.1 * parameters(architecture).total / 2


def test_marketed_gigabytes_are_not_what_the_driver_reports_and_sparse_rates_are_not_dense_ones() -> None:
    h100 = knowledge.find("gpu", "h100-sxm")
    assert h100 is not None
    assert h100["memory_bytes"] == 81_559 * 2**20
    assert h100["dense_tflops"]["bf16"] < 1000 < 1979
