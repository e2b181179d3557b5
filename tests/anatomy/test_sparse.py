"""DeepSeek's line and the mixtures since: counts and states by hand, and the traps of named models, from their dimensions."""

from __future__ import annotations

from typing import Any

import pytest

from advisor_mcp.anatomy.families.inkling import plan_scales
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.flops import forward
from advisor_mcp.formulas.parameters import parameters
from advisor_mcp.formulas.state import StateGroup, state_bytes, state_groups

TEXT = {"num_hidden_layers": 4, "hidden_size": 8, "vocab_size": 32, "num_attention_heads": 2, "intermediate_size": 16}
LATENT = {"q_lora_rank": 6, "kv_lora_rank": 4, "qk_rope_head_dim": 2, "qk_nope_head_dim": 3, "v_head_dim": 5}
EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 6, "n_shared_experts": 1}
DEEPSEEK_V3: dict[str, Any] = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128, "vocab_size": 129280,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256, "num_experts_per_tok": 8,
    "n_shared_experts": 1, "first_k_dense_replace": 3, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128, "v_head_dim": 128, "num_nextn_predict_layers": 1,
}  # fmt: skip
DEEPSEEK_V32 = DEEPSEEK_V3 | {
    "model_type": "deepseek_v32", "index_n_heads": 64, "index_head_dim": 128, "index_topk": 2048,
}  # fmt: skip
GLM_5: dict[str, Any] = {
    "model_type": "glm_moe_dsa", "hidden_size": 6144, "num_hidden_layers": 78, "num_attention_heads": 64, "vocab_size": 154880,
    "intermediate_size": 12288, "moe_intermediate_size": 2048, "n_routed_experts": 256, "num_experts_per_tok": 8,
    "n_shared_experts": 1, "first_k_dense_replace": 3, "q_lora_rank": 2048, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 192, "v_head_dim": 256, "index_n_heads": 32, "index_head_dim": 128, "index_topk": 2048,
    "num_nextn_predict_layers": 1,
}  # fmt: skip
GLM_4_5: dict[str, Any] = {
    "model_type": "glm4_moe", "hidden_size": 5120, "num_hidden_layers": 92, "num_attention_heads": 96, "vocab_size": 151552,
    "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288, "moe_intermediate_size": 1536,
    "n_routed_experts": 160, "num_experts_per_tok": 8, "n_shared_experts": 1, "first_k_dense_replace": 3,
    "attention_bias": True, "use_qk_norm": True, "num_nextn_predict_layers": 1,
}  # fmt: skip
KIMI_K3: dict[str, Any] = {
    "model_type": "kimi_linear", "hidden_size": 7168, "num_hidden_layers": 93, "num_attention_heads": 96, "vocab_size": 163840,
    "intermediate_size": 33792, "moe_intermediate_size": 3072, "num_experts": 896, "num_experts_per_token": 16,
    "num_shared_experts": 2, "first_k_dense_replace": 1, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128, "v_head_dim": 128, "routed_expert_hidden_size": 3584, "latent_moe_use_norm": True,
    "attn_res_block_size": 12, "mla_use_output_gate": True,
    "linear_attn_config": {
        "full_attn_layers": [*range(4, 93, 4), 93], "kda_layers": [n for n in range(1, 92) if n % 4], "head_dim": 128,
        "num_heads": 96, "short_conv_kernel_size": 4, "use_full_rank_gate": True,
    },
}  # fmt: skip


def count(config: dict[str, Any]) -> dict[str, int]:
    return parameters(architecture_of(config)).by_component


def beside(architecture: Architecture) -> dict[str, int]:
    sizes = architecture.bound()
    return {
        block.name: sum(block.repeat * tensor.elements(sizes) for tensor in block.tensors)
        for block in architecture.beside
    }


def groups(config: dict[str, Any]) -> list[StateGroup]:
    architecture = architecture_of(config)
    return state_groups(architecture, architecture.bound(), "bf16")


def per_token(config: dict[str, Any]) -> float:
    return sum(group.bytes_per_token for group in groups(config))


def test_the_prediction_layer_of_deepseek_v3_repeats_embedding_and_head_and_its_biases_include_its_own() -> None:
    assert beside(architecture_of(DEEPSEEK_V3)) == {
        "multi-token prediction": 11_610_067_968 + 2 * 129_280 * 7168,
        "router biases": (58 + 1) * 256,
    }


def test_the_prediction_layers_of_glm_4_5_glm_5_and_hy3_match_what_their_checkpoints_hold_beyond_the_model() -> None:
    hy3 = {
        "model_type": "hy_v3", "hidden_size": 4096, "num_hidden_layers": 80, "num_attention_heads": 64, "head_dim": 128,
        "num_key_value_heads": 8, "intermediate_size": 13312, "moe_intermediate_size": 1536, "num_experts": 192,
        "num_experts_per_tok": 8, "num_shared_experts": 1, "vocab_size": 120832, "num_nextn_predict_layers": 1,
    }  # fmt: skip
    found = [beside(architecture_of(config))["multi-token prediction"] for config in (GLM_4_5, GLM_5, hy3)]
    assert found == [3_988_069_632, 9_952_920_320, 3_752_612_096]


@pytest.mark.parametrize(
    ("config", "stored"),
    [
        (GLM_4_5, 356_785_898_816),
        (GLM_5, 753_864_139_008),
        (GLM_5 | {"index_topk_freq": 4}, 753_329_940_480),
    ],
    ids=["GLM-4.6", "GLM-5", "GLM-5.2"],
)
def test_model_prediction_layer_and_router_biases_are_the_total_that_the_hub_shows(
    config: dict[str, Any], stored: int
) -> None:
    architecture = architecture_of(config)
    assert parameters(architecture).total + sum(beside(architecture).values()) == stored


def test_deepseek_v4_flash_and_its_prediction_layer_tables_and_biases_are_the_total_that_the_hub_shows() -> None:
    flash = {
        "model_type": "deepseek_v4", "hidden_size": 4096, "num_hidden_layers": 43, "num_attention_heads": 64, "head_dim": 512,
        "vocab_size": 129280, "moe_intermediate_size": 2048, "n_routed_experts": 256, "num_experts_per_tok": 6,
        "num_hash_layers": 3, "q_lora_rank": 1024, "o_groups": 8, "o_lora_rank": 1024, "hc_mult": 4, "index_n_heads": 64,
        "index_head_dim": 128, "index_topk": 512, "sliding_window": 128, "num_nextn_predict_layers": 1,
        "compress_ratios": [0, 0, *[4, 128] * 20, 4, 0],
    }  # fmt: skip
    architecture = architecture_of(flash)
    assert parameters(architecture).total + sum(beside(architecture).values()) == 290_944_616_402
    window, *compressed = groups(flash)
    assert (window.kind, window.bytes_per_token * 128) == ("sliding", 43 * 512 * 2 * 128)
    assert sum(group.bytes_per_token for group in compressed) == 6880


def test_an_indexer_adds_its_matrices_and_one_cached_key_a_token() -> None:
    config = TEXT | LATENT | EXPERTS | {
        "model_type": "deepseek_v32", "first_k_dense_replace": 1, "index_n_heads": 3, "index_head_dim": 7, "index_topk": 5,
    }  # fmt: skip
    # wq_b 21x6, wk 7x8, weights 3x8, a LayerNorm of 7
    assert count(config)["sparse_indexer"] == 4 * (126 + 56 + 24 + 14)
    assert [(g.kind, g.bytes_per_token, g.cap_tokens) for g in groups(config)] == [
        ("full", 4 * 7 * 2, None),
        ("latent", 4 * (4 + 2) * 2, None),
    ]


def test_attention_over_picked_positions_saves_flops_only_beyond_their_number() -> None:
    config = TEXT | LATENT | EXPERTS | {
        "model_type": "deepseek_v32", "first_k_dense_replace": 1, "index_n_heads": 3, "index_head_dim": 7, "index_topk": 5,
    }  # fmt: skip
    few, many = (architecture_of(config | {"index_topk": picks}) for picks in (5, 9))
    assert forward(few, few.workload(5)).total == forward(many, many.workload(5)).total
    # one more query at position 6 sees 5 of 6 and 6 of 6 positions: heads x (qk 5 + v 5) x 2 in each of four layers
    assert forward(many, many.workload(6)).total - forward(few, few.workload(6)).total == 4 * 2 * (5 + 5) * 2


def test_the_indexers_of_deepseek_v3_2_cost_851_million_parameters_and_15616_bytes_a_token() -> None:
    assert count(DEEPSEEK_V32)["sparse_indexer"] == 851_524_864
    assert per_token(DEEPSEEK_V32) == 70_272 + 15_616


def test_glm_5_2_shares_indexers_so_that_21_of_78_layers_own_one() -> None:
    shared = GLM_5 | {"index_topk_freq": 4}
    assert (per_token(GLM_5), per_token(shared)) == (109_824, 95_232)
    assert count(GLM_5)["sparse_indexer"] - count(shared)["sparse_indexer"] == 534_198_528


def test_a_pattern_of_indexers_must_name_every_layer() -> None:
    with pytest.raises(UsageError, match="index_topk_pattern in the configuration must be one F or S for each of 78"):
        architecture_of(GLM_5 | {"index_topk_pattern": "FS"})


def test_kv_heads_in_a_latent_model_change_nothing() -> None:
    assert per_token(GLM_5 | {"num_key_value_heads": 8}) == per_token(GLM_5)
    assert count(GLM_5 | {"num_key_value_heads": 8}) == count(GLM_5)


def test_glm_4_5_biases_q_k_and_v_but_not_the_output_and_only_it_normalises_them() -> None:
    air = GLM_4_5 | {"attention_bias": False, "use_qk_norm": False}
    found, plain = count(GLM_4_5), count(air)
    assert found["attention"] - plain["attention"] == 92 * (96 + 2 * 8) * 128
    assert (found["qk_norm"], plain.get("qk_norm")) == (92 * 2 * 128, None)


def test_seed_oss_biases_q_k_and_v_by_default_and_the_output_on_request() -> None:
    config = TEXT | {"model_type": "seed_oss", "head_dim": 4, "num_key_value_heads": 1}
    plain = count(config | {"attention_bias": False})["attention"]
    assert count(config)["attention"] - plain == 4 * (8 + 4 + 4)
    assert count(config | {"attention_out_bias": True})["attention"] - plain == 4 * (8 + 4 + 4 + 8)


def test_minimax_m2_normalises_queries_and_keys_over_their_whole_width() -> None:
    m2 = {
        "model_type": "minimax_m2", "hidden_size": 3072, "num_hidden_layers": 62, "num_attention_heads": 48, "head_dim": 128,
        "num_key_value_heads": 8, "intermediate_size": 1536, "num_local_experts": 256, "num_experts_per_tok": 8,
        "vocab_size": 200064,
    }  # fmt: skip
    assert count(m2)["qk_norm"] == 62 * (48 + 8) * 128
    assert beside(architecture_of(m2)) == {"router biases": 15_872}


def test_glm_4_0414_has_four_norms_a_layer_and_glm_4_9b_two() -> None:
    config = TEXT | {"head_dim": 4, "num_key_value_heads": 1}
    norms = [count(config | {"model_type": kind})["norm"] for kind in ("glm", "glm4")]
    assert norms == [(4 * 2 + 1) * 8, (4 * 4 + 1) * 8]


CHATGLM3 = {
    "model_type": "chatglm", "hidden_size": 4096, "num_layers": 28, "num_attention_heads": 32, "multi_query_attention": True,
    "multi_query_group_num": 2, "kv_channels": 128, "ffn_hidden_size": 13696, "padded_vocab_size": 65024, "add_qkv_bias": True,
}  # fmt: skip


def test_chatglm3_6b_is_read_by_its_own_field_names_and_stores_32_rotary_frequencies() -> None:
    architecture = architecture_of(CHATGLM3)
    assert parameters(architecture).total == 6_243_584_000
    assert beside(architecture) == {"rotary frequencies": 32}
    assert per_token(CHATGLM3) == 28 * 2 * 2 * 128 * 2


def test_the_first_chatglm_is_refused() -> None:
    with pytest.raises(CannotAnswer, match="the first generation of ChatGLM is not described"):
        architecture_of(CHATGLM3 | {"position_encoding_2d": True})


def test_kimi_k2_is_deepseek_v3_with_more_experts_and_one_dense_layer() -> None:
    config = DEEPSEEK_V3 | {
        "model_type": "kimi_k2", "num_attention_heads": 64, "n_routed_experts": 384, "first_k_dense_replace": 1,
        "vocab_size": 163840, "num_nextn_predict_layers": 0,
    }  # fmt: skip
    architecture = architecture_of(config)
    assert parameters(architecture).total + beside(architecture)["router biases"] == 1_026_408_232_448


def test_experts_of_kimi_k3_work_in_half_the_width_so_that_reading_hidden_size_doubles_them() -> None:
    config = {"model_type": "kimi_k3", "text_config": KIMI_K3}
    assert count(config)["routed_experts"] == 2_722_740_830_208
    wide = {"model_type": "kimi_k3", "text_config": KIMI_K3 | {"routed_expert_hidden_size": None}}
    assert count(wide)["routed_experts"] == 2 * 2_722_740_830_208


def test_kimi_k3_keeps_a_latent_in_24_layers_and_a_fixed_state_in_69() -> None:
    found = groups({"model_type": "kimi_k3", "text_config": KIMI_K3})
    assert sum(group.bytes_per_token for group in found) == 24 * 576 * 2
    # q, k and v of 96 heads of 128 over 4 columns, and a 128 x 128 matrix per head
    assert sum(group.fixed_bytes for group in found) == 69 * 96 * (3 * 128 * 4 + 128 * 128) * 2


def test_kimi_linear_itself_does_not_read_the_fields_of_kimi_k3() -> None:
    with pytest.raises(CannotAnswer, match="attn_res_block_size, a variant of Kimi Linear that is not described here"):
        architecture_of(KIMI_K3)


ERNIE_VL = {
    "hidden_size": 2560, "num_hidden_layers": 28, "num_attention_heads": 20, "num_key_value_heads": 4, "vocab_size": 103424,
    "intermediate_size": 12288, "moe_num_experts": 64, "moe_k": 6, "moe_intermediate_size": [1536, 512],
}  # fmt: skip


def test_ernie_vl_has_a_second_set_of_experts_whose_products_no_text_token_pays_for() -> None:
    config = {"model_type": "ernie4_5_vl_moe", "text_config": ERNIE_VL}
    both = architecture_of(config)
    assert count(config)["routed_experts"] == 27 * 64 * 3 * 2560 * (1536 + 512)
    wider = architecture_of(
        {"model_type": "ernie4_5_vl_moe", "text_config": ERNIE_VL | {"moe_intermediate_size": [1536, 1024]}}
    )
    assert forward(both, both.workload(7)).total == forward(wider, wider.workload(7)).total


def test_ernie_vl_reads_one_number_where_its_files_repeat_it_and_refuses_two() -> None:
    same = {"model_type": "ernie4_5_vl_moe", "text_config": ERNIE_VL | {"moe_num_experts": [64, 64]}}
    assert count(same) == count({"model_type": "ernie4_5_vl_moe", "text_config": ERNIE_VL})
    with pytest.raises(CannotAnswer, match=r"text_config.moe_num_experts differs between layers"):
        architecture_of({"model_type": "ernie4_5_vl_moe", "text_config": ERNIE_VL | {"moe_num_experts": [64, 32]}})


LONGCAT = {
    "model_type": "longcat_flash", "hidden_size": 6144, "num_layers": 28, "num_attention_heads": 64, "vocab_size": 131072,
    "ffn_hidden_size": 12288, "expert_ffn_hidden_size": 2048, "n_routed_experts": 512, "zero_expert_num": 256, "moe_topk": 12,
    "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
}  # fmt: skip


def test_idle_experts_of_longcat_have_rows_in_the_router_and_no_weights() -> None:
    found, without = count(LONGCAT), count(LONGCAT | {"zero_expert_num": 0})
    assert found["routed_experts"] == without["routed_experts"] == 28 * 512 * 3 * 6144 * 2048
    assert found["router"] - without["router"] == 28 * 256 * 6144


def test_longcat_caches_two_latents_a_layer() -> None:
    assert per_token(LONGCAT) == 56 * 576 * 2


def test_hunyuan_lists_with_one_value_for_all_layers_are_read_and_others_refused() -> None:
    config = TEXT | {
        "model_type": "hunyuan_v1_moe", "head_dim": 4, "num_key_value_heads": 1, "num_experts": 4, "moe_topk": [2] * 4,
        "moe_intermediate_size": [16] * 4, "num_shared_expert": [1] * 4,
    }  # fmt: skip
    counted = parameters(architecture_of(config))
    assert counted.by_component["routed_experts"] == 4 * 4 * 3 * 8 * 16
    assert counted.total - counted.active == 4 * 2 * 3 * 8 * 16
    with pytest.raises(CannotAnswer, match="moe_topk differs between layers"):
        architecture_of(config | {"moe_topk": [1, 2, 2, 2]})


def test_mimo_v2_flash_keeps_wider_keys_than_values_and_more_heads_in_its_windows() -> None:
    config = {
        "model_type": "mimo_v2_flash", "hidden_size": 4096, "num_hidden_layers": 48, "num_attention_heads": 64,
        "num_key_value_heads": 4, "swa_num_key_value_heads": 8, "head_dim": 192, "v_head_dim": 128, "vocab_size": 152576,
        "intermediate_size": 16384, "moe_intermediate_size": 2048, "n_routed_experts": 256, "num_experts_per_tok": 8,
        "sliding_window": 128, "hybrid_layer_pattern": [0, *[1] * 4, *[0, *[1] * 5] * 7, 0],
    }  # fmt: skip
    assert [(g.kind, g.layers, g.bytes_per_token, g.cap_tokens) for g in groups(config)] == [
        ("full", 9, 9 * 4 * (192 + 128) * 2, None),
        ("sliding", 39, 39 * 8 * (192 + 128) * 2, 128),
    ]


def test_windowed_layers_of_step_3_7_have_more_query_heads_and_the_same_cache() -> None:
    config = TEXT | {
        "model_type": "step3p5", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 3, "moe_layers_enum": "2,3",
        "moe_num_experts": 4, "moe_top_k": 2, "moe_intermediate_size": 6, "share_expert_dim": 5, "sliding_window": 7,
        "layer_types": ["full_attention", "sliding_attention"] * 2, "attention_other_setting": {"num_attention_heads": 6},
    }  # fmt: skip
    # q, o and the gate of one number a head, twice with 4 heads and twice with 6; k and v alike in all four layers
    queries = 2 * (2 * 4 * 3 * 8 + 4 * 8) + 2 * (2 * 6 * 3 * 8 + 6 * 8)
    assert count(config)["attention"] == queries + 4 * 2 * 2 * 3 * 8
    assert [(g.kind, g.layers, g.bytes_per_token, g.cap_tokens) for g in groups(config)] == [
        ("full", 2, 2 * 2 * 2 * 3 * 2, None),
        ("sliding", 2, 2 * 2 * 2 * 3 * 2, 7),
    ]


def test_sparse_layers_of_minimax_m3_cache_one_index_key_a_token_more() -> None:
    text = {
        "hidden_size": 6144, "num_hidden_layers": 60, "num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 128,
        "vocab_size": 200064, "dense_intermediate_size": 12288, "moe_layer_freq": [0] * 3 + [1] * 57,
        "sparse_attention_config": {"sparse_attention_freq": [0] * 3 + [1] * 57, "sparse_index_dim": 128},
    }  # fmt: skip
    assert per_token({"model_type": "minimax_m3_vl", "text_config": text}) == (60 * 2 * 4 * 128 + 57 * 128) * 2


def test_inkling_has_other_kv_heads_in_its_windows_and_four_short_convolutions_a_layer() -> None:
    text = {
        "hidden_size": 6144, "num_hidden_layers": 6, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128,
        "swa_num_attention_heads": 64, "swa_num_key_value_heads": 16, "swa_head_dim": 128, "sliding_window_size": 512,
        "vocab_size": 97, "conv_kernel_size": 4,
    }  # fmt: skip
    found = groups({"model_type": "inkling_mm_model", "text_config": text})
    assert {(g.kind, g.layers): (g.bytes_per_token, g.cap_tokens) for g in found if g.kind != "recurrent"} == {
        ("sliding", 5): (5 * 2 * 16 * 128 * 2, 512),
        ("full", 1): (2 * 8 * 128 * 2, None),
    }
    # keys and values of both kinds of layer, and both updates of every layer, over four columns
    columns = 5 * 2 * 16 * 128 + 2 * 8 * 128 + 6 * 2 * 6144
    assert sum(g.fixed_bytes for g in found) == columns * 4 * 2


def test_the_image_tower_of_inkling_folds_by_prime_factors_and_uses_each_scale_once_when_layers_are_few() -> None:
    assert plan_scales(40, 2, 5, 3) == [
        (1, 1, 1, 3), (1, 5, 5, 128), (1, 10, 10, 320), (1, 20, 20, 1216), (1, 40, 40, 4800), (2, 40, 40, 614_400),
    ]  # fmt: skip


def test_ling_mini_2_is_the_total_that_the_hub_shows_with_its_router_biases() -> None:
    ling = {
        "model_type": "bailing_moe", "hidden_size": 2048, "num_hidden_layers": 20, "num_attention_heads": 16, "head_dim": 128,
        "num_key_value_heads": 4, "intermediate_size": 5120, "vocab_size": 157184, "num_experts": 256,
        "num_experts_per_tok": 8, "num_shared_experts": 1, "moe_intermediate_size": 512, "first_k_dense_replace": 1,
        "use_qk_norm": True, "moe_router_enable_expert_bias": True,
    }  # fmt: skip
    architecture = architecture_of(ling)
    assert beside(architecture) == {"router biases": 19 * 256}
    # attention 2048x(16+8)x128 + 2048x2048 and two norms of 128; the dense MLP; 19 mixtures of 257 experts; both tables
    layers = 20 * (2048 * 3072 + 2048 * 2048 + 2 * 128 + 2 * 2048) + 3 * 2048 * 5120
    assert parameters(architecture).total == (
        layers + 19 * (257 * 3 * 2048 * 512 + 256 * 2048) + 2 * 157_184 * 2048 + 2048
    )


def test_mimo_7b_holds_a_prediction_layer_of_qwen2s_kind_beside_it() -> None:
    mimo = {
        "model_type": "mimo", "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32, "head_dim": 128,
        "num_key_value_heads": 8, "intermediate_size": 11008, "vocab_size": 151680, "num_nextn_predict_layers": 1,
    }  # fmt: skip
    layer = 4096 * 4096 * 2 + 2 * 4096 * 1024 + 4096 + 2 * 1024 + 3 * 4096 * 11008 + 2 * 4096
    assert beside(architecture_of(mimo)) == {"multi-token prediction": layer + 2 * 4096 * 4096 + 3 * 4096}


def test_step_3_makes_queries_through_a_narrow_projection_and_caches_one_head() -> None:
    config = TEXT | {
        "model_type": "step3_text", "head_dim": 5, "share_q_dim": 3, "num_attention_groups": 1, "moe_num_experts": 4,
        "moe_top_k": 2, "moe_intermediate_size": 6, "share_expert_dim": 7, "moe_layers_enum": "1,3",
    }  # fmt: skip
    counted = count(config)
    # q 3x8, wq 10x3, k and v 5x8 each, o 8x10; the norm of 3 beside two of 8
    assert (counted["attention"], counted["norm"]) == (4 * (24 + 30 + 80 + 80), 4 * (3 + 16) + 8)
    assert (counted["routed_experts"], counted["shared_expert"]) == (2 * 4 * 3 * 48, 2 * 3 * 56)
    assert per_token(config) == 4 * 2 * 5 * 2


def test_a_class_default_that_is_taken_is_noted_and_a_null_is_not_a_default() -> None:
    config = TEXT | {"model_type": "deepseek_v3"}
    assert "q_lora_rank is absent: 1536, the default of DeepseekV3Config" in architecture_of(config).notes
    assert not any(note.startswith("q_lora_rank") for note in architecture_of(config | {"q_lora_rank": None}).notes)


def test_a_whole_sequence_of_deepseek_v4_is_the_window_and_what_was_compressed() -> None:
    config = {
        "model_type": "deepseek_v4", "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 5,
        "vocab_size": 32, "o_groups": 2, "index_head_dim": 3, "compress_ratios": [0, 4, 128], "sliding_window": 16,
    }  # fmt: skip
    architecture = architecture_of(config)
    # at 300 tokens: 16 latents of 5 in each layer, 75 entries of 5 and of 3, 2 entries of 5
    assert state_bytes(state_groups(architecture, architecture.bound(), "bf16"), 300) == 2 * (
        3 * 16 * 5 + 75 * (5 + 3) + 2 * 5
    )
