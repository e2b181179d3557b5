"""Qwen beyond the dense ones, OLMo Hybrid and Kimi Linear: state, components and traps, by hand and on named models."""

from __future__ import annotations

from typing import Any

import pytest

from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.flops import forward
from advisor_mcp.formulas.parameters import parameters
from advisor_mcp.formulas.state import StateGroup, state_bytes, state_groups

TEXT = {
    "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "intermediate_size": 16,
    "num_hidden_layers": 2, "vocab_size": 32,
}  # fmt: skip
DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 3, "linear_value_head_dim": 5,
    "linear_conv_kernel_dim": 3, "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
# by hand: keys 2 x 3, values 4 x 5, so a convolution over 6 + 6 + 20 channels and a state of 4 x 3 x 5
CHANNELS, STATE = 32, 60
# q-k-v 32x8, z 20x8, a and b 4x8 each, convolution 32x3, decay and step 4 each, out 8x20
DELTA_LAYER = 256 + 160 + 64 + 96 + 8 + 160
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 6,
    "shared_expert_intermediate_size": 10,
}
VISION = {
    "depth": 2, "hidden_size": 4, "intermediate_size": 6, "num_heads": 2, "in_channels": 3, "patch_size": 2,
    "temporal_patch_size": 2, "spatial_merge_size": 2, "out_hidden_size": 8, "num_position_embeddings": 9,
}  # fmt: skip


def groups(architecture: Architecture, kv_dtype: str = "bf16") -> list[StateGroup]:
    return state_groups(architecture, architecture.bound(), kv_dtype)


def stored(architecture: Architecture) -> int:
    sizes = architecture.bound()
    return sum(block.repeat * tensor.elements(sizes) for block in architecture.beside for tensor in block.tensors)


def shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    sizes = architecture.bound()
    return {tensor.name: tensor.shape(sizes) for _, tensor in architecture.tensors()}


def test_a_gated_delta_layer_counts_by_hand_and_its_norm_is_a_norm() -> None:
    counted = parameters(architecture_of({"model_type": "qwen3_5_text", **TEXT, **DELTA}))
    assert counted.by_component == {
        "ssm_or_linear_attn": DELTA_LAYER,
        "mlp": 2 * 3 * 8 * 16,
        "token_embedding": 32 * 8,
        "lm_head": 32 * 8,
        # q twice as wide for the gate, then k, v and o
        "attention": 2 * 8 * 8 + 2 * 4 * 8 + 8 * 8,
        "norm": 2 * 2 * 8 + 8 + 5,
        "qk_norm": 4 + 4,
    }


def test_a_delta_layer_keeps_kernel_columns_and_one_matrix_per_head_whatever_the_length() -> None:
    architecture = architecture_of({"model_type": "qwen3_5_text", **TEXT, **DELTA})
    assert groups(architecture) == [
        StateGroup("recurrent", 1, 0, 1, None, 3 * CHANNELS * 2, "bf16"),
        StateGroup("recurrent", 1, 0, 1, None, STATE * 2, "bf16"),
        StateGroup("full", 1, 2 * 4 * 2, 1, None, 0, "bf16"),
    ]
    assert state_bytes(groups(architecture), 10) == (3 * CHANNELS + STATE) * 2 + 10 * 16


@pytest.mark.parametrize(("given", "dtype"), [("float32", "fp32"), ("bfloat16", "bf16"), (None, "fp32")])
def test_the_recurrent_state_keeps_the_format_the_file_names_and_fp32_where_it_names_none(
    given: str | None, dtype: str
) -> None:
    architecture = architecture_of({"model_type": "qwen3_5_text", **TEXT, **DELTA, "mamba_ssm_dtype": given})
    assert [group.dtype for group in groups(architecture, "auto")] == ["bf16", dtype, "bf16"]


def test_the_recurrence_costs_three_products_with_the_state_per_token_and_the_convolution_one_per_column() -> None:
    architecture = architecture_of({"model_type": "qwen3_5_text", **TEXT, **DELTA})
    run = forward(architecture, architecture.workload(7))
    projections = 8 * (32 + 20 + 4 + 4 + 20)
    matrices = projections + 8 * (16 + 4 + 4 + 8) + 2 * 3 * 8 * 16 + 8 * 32
    attention = 2 * 2 * 28 * (4 + 4)
    assert run.total == 7 * 2 * (matrices + 3 * STATE + 3 * CHANNELS) + attention
    assert run.attention == attention


def test_qwen3_next_joins_the_projections_that_qwen3_5_splits_and_counts_the_same() -> None:
    config = {**TEXT, **DELTA, **EXPERTS}
    joined = architecture_of({"model_type": "qwen3_next", **config})
    split = architecture_of({"model_type": "qwen3_5_moe_text", **config})
    assert parameters(joined) == parameters(split)
    linear = "model.layers.{layer}.linear_attn."
    assert shapes(joined)[f"{linear}in_proj_qkvz.weight"] == (32 + 20, 8)
    assert shapes(joined)[f"{linear}in_proj_ba.weight"] == (8, 8)
    assert shapes(split)[f"{linear}in_proj_qkv.weight"] == (32, 8)
    assert shapes(split)[f"{linear}conv1d.weight"] == (32, 1, 3)
    assert shapes(joined)["model.layers.{layer}.mlp.experts.{expert}.up_proj.weight"] == (6, 8)
    assert shapes(split)["model.layers.{layer}.mlp.experts.gate_up_proj"] == (4, 12, 8)


def test_every_fourth_layer_is_full_where_the_file_gives_an_interval_or_nothing() -> None:
    config = {**TEXT, "num_hidden_layers": 8, **{k: v for k, v in DELTA.items() if k != "layer_types"}}
    fourth = architecture_of({"model_type": "qwen3_5_text", **config})
    assert {b.name: b.layers for b in fourth.blocks if "-" in b.name} == {
        "linear-dense": (0, 1, 2, 4, 5, 6),
        "full-dense": (3, 7),
    }
    third = architecture_of({"model_type": "qwen3_5_text", **config, "full_attention_interval": 3})
    assert {b.name: b.layers for b in third.blocks if "-" in b.name} == {
        "linear-dense": (0, 1, 3, 4, 6, 7),
        "full-dense": (2, 5),
    }


def test_the_shared_experts_gate_of_qwen3_next_counts_with_the_router() -> None:
    counted = parameters(architecture_of({"model_type": "qwen3_next", **TEXT, **DELTA, **EXPERTS}))
    assert counted.by_component["router"] == 2 * (4 * 8 + 8)
    assert counted.by_component["shared_expert"] == 2 * 3 * 8 * 10
    assert counted.total - counted.active == 2 * 2 * 3 * 8 * 6


def test_only_the_top_level_ties_the_head_of_qwen3_and_both_levels_that_of_qwen2() -> None:
    for model_type, tied in (("qwen3_5", False), ("qwen3_vl", False), ("qwen2_vl", True), ("qwen2_5_vl", True)):
        inside = {
            "model_type": model_type,
            "text_config": {**TEXT, "tie_word_embeddings": True},
            "vision_config": VISION,
        }
        assert architecture_of(inside).tied is tied
        assert architecture_of({**inside, "tie_word_embeddings": True}).tied


def test_a_qwen2_vl_file_may_hold_the_decoder_at_its_top_level() -> None:
    flat = architecture_of({"model_type": "qwen2_vl", **TEXT, "vision_config": VISION})
    nested = architecture_of({"model_type": "qwen2_vl", "text_config": TEXT, "vision_config": VISION})
    assert parameters(flat) == parameters(nested)


def test_the_qwen2_vl_tower_takes_its_width_from_embed_dim_and_the_decoders_from_hidden_size() -> None:
    vision = {"depth": 2, "embed_dim": 4, "hidden_size": 8, "mlp_ratio": 3, "num_heads": 2, "patch_size": 2}
    architecture = architecture_of({"model_type": "qwen2_vl", **TEXT, "vision_config": vision})
    # patches 3x2x2x2 -> 4; two norms of 4 with biases, q-k-v, out and an MLP of 12; merger 16 -> 16 -> 8
    layer = 2 * 8 + (12 * 4 + 12) + (4 * 4 + 4) + (12 * 4 + 12) + (4 * 12 + 4)
    assert parameters(architecture).by_component["vision"] == 24 * 4 + 2 * layer + 8 + (16 * 16 + 16) + (8 * 16 + 8)


def test_each_deepstack_layer_adds_a_merger_that_normalises_the_joined_patches() -> None:
    def tower(indexes: list[int], model_type: str = "qwen3_vl") -> int:
        config = {"text_config": TEXT, "vision_config": {**VISION, "deepstack_visual_indexes": indexes}}
        return parameters(architecture_of({"model_type": model_type, **config})).by_component["vision"]

    # four patches of 4 joined: norm and its bias, 16 -> 16, 16 -> 8
    assert tower([0, 1]) - tower([]) == 2 * (2 * 16 + 16 * 16 + 16 + 8 * 16 + 8)
    assert tower([0, 1], "qwen3_5") == tower([])


def test_qwen2_5_vl_windows_all_tower_layers_but_those_listed() -> None:
    vision = {**VISION, "depth": 4, "window_size": 8, "fullatt_block_indexes": [1, 3]}
    architecture = architecture_of({"model_type": "qwen2_5_vl", **TEXT, "vision_config": vision})
    assert {b.name: b.layers for b in architecture.blocks if b.name.startswith("vision-layer")} == {
        "vision-layer": (0, 2),
        "vision-layer-full": (1, 3),
    }
    assert architecture.sizes["vision.window"] == 16


def test_towers_count_neither_as_layers_nor_in_the_state_nor_in_the_flops_of_text() -> None:
    alone = architecture_of({"model_type": "qwen3_5_text", **TEXT, **DELTA})
    seeing = architecture_of({"model_type": "qwen3_5", "text_config": {**TEXT, **DELTA}, "vision_config": VISION})
    assert (seeing.layers, groups(seeing)) == (alone.layers, groups(alone))
    assert forward(seeing, seeing.workload(9)) == forward(alone, alone.workload(9))


def test_a_file_without_its_vision_config_says_that_the_tower_is_missing() -> None:
    text = {**TEXT, **DELTA, "mtp_num_hidden_layers": 0}
    found = architecture_of({"model_type": "qwen3_5", "text_config": text})
    assert found.not_described == ("the configuration has no vision_config, so the vision tower is not counted",)


def test_qwen2_audio_biases_queries_and_values_but_not_keys_and_never_ties() -> None:
    audio = {"d_model": 4, "num_mel_bins": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 6, "encoder_layers": 2}
    config = {
        "text_config": {**TEXT, "tie_word_embeddings": True},
        "audio_config": {**audio, "max_source_positions": 5},
    }
    architecture = architecture_of({"model_type": "qwen2_audio", **config})
    layer = 4 * 16 + 3 * 4 + (6 * 4 + 6) + (4 * 6 + 4) + 2 * 8
    ends = (4 * 3 * 3 + 4) + (4 * 4 * 3 + 4) + 5 * 4 + 8 + (8 * 4 + 8)
    assert parameters(architecture).by_component["audio"] == 2 * layer + ends
    assert not architecture.tied


def test_qwen2_5_omni_counts_its_thinker_and_names_the_talker() -> None:
    thinker = {"text_config": TEXT, "vision_config": VISION, "audio_config": {"encoder_layers": 1, "output_dim": 8}}
    whole = architecture_of({"model_type": "qwen2_5_omni", "thinker_config": thinker})
    alone = architecture_of({"model_type": "qwen2_5_omni_thinker", **thinker})
    assert parameters(whole) == parameters(alone)
    assert (len(whole.not_described), alone.not_described) == (1, ())
    assert "thinker.model.embed_tokens.weight" in shapes(whole)


def test_olmo_hybrid_normalises_queries_and_keys_over_the_full_width_and_defaults_its_linear_widths() -> None:
    config = {k: v for k, v in TEXT.items() if k != "num_key_value_heads"}
    architecture = architecture_of({"model_type": "olmo_hybrid", **config, "layer_types": DELTA["layer_types"]})
    # three quarters of 8 over 2 heads, and twice that for values
    assert [architecture.sizes[axis] for axis in ("delta_kh", "delta_vh", "delta_kd", "delta_vd")] == [2, 2, 3, 6]
    counted = parameters(architecture).by_component
    assert counted["qk_norm"] == 8 + 8
    assert counted["ssm_or_linear_attn"] == 8 * (6 + 6 + 12 + 2 + 2 + 12) + 24 * 4 + 2 + 2 + 12 * 8


def test_olmo_hybrid_needs_both_kinds_of_layer() -> None:
    with pytest.raises(UsageError, match="has layers of linear and of full attention"):
        architecture_of({"model_type": "olmo_hybrid", **TEXT, "layer_types": ["full_attention"] * 2})


# Qwen-1.8B: 24 layers of 2,048, a configured width of 11,008
QWEN_1_8B = {
    "model_type": "qwen", "hidden_size": 2048, "num_attention_heads": 16, "kv_channels": 128, "num_hidden_layers": 24,
    "intermediate_size": 11008, "vocab_size": 151936,
}  # fmt: skip


def test_the_configured_width_of_qwen_1_is_twice_its_mlp_which_doubles_811_597_824_parameters_when_misread() -> None:
    counted = parameters(architecture_of(QWEN_1_8B))
    assert counted.by_component["mlp"] == 24 * 3 * 2048 * (11008 // 2) == 811_597_824
    assert counted.total == 1_836_828_672


def test_qwen_1_biases_its_joined_projection_whatever_no_bias_says() -> None:
    without = parameters(architecture_of(QWEN_1_8B)).by_component["attention"]
    biased = parameters(architecture_of(QWEN_1_8B | {"no_bias": False}))
    assert without == 24 * (4 * 2048 * 2048 + 3 * 2048)
    assert biased.by_component["attention"] == without + 24 * 2048


def test_the_towers_of_qwen_1_are_refused_by_name() -> None:
    with pytest.raises(CannotAnswer, match="the configuration has visual, a tower of Qwen 1 that is not described"):
        architecture_of(QWEN_1_8B | {"visual": {"width": 1664}})


def test_qwen_1_heads_that_do_not_make_its_width_are_refused() -> None:
    with pytest.raises(UsageError, match="16 heads of kv_channels 64 do not make hidden_size 2048"):
        architecture_of(QWEN_1_8B | {"kv_channels": 64})


# Qwen3.5-27B and Qwen3-Next-80B-A3B, by their published dimensions
QWEN3_5_27B: dict[str, Any] = {
    "model_type": "qwen3_5_text", "hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 64,
    "num_attention_heads": 24, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 248320, "mamba_ssm_dtype": "float32",
    "linear_num_key_heads": 16, "linear_num_value_heads": 48, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4, "full_attention_interval": 4, "mtp_num_hidden_layers": 1,
}  # fmt: skip
QWEN3_NEXT: dict[str, Any] = {
    "model_type": "qwen3_next", "hidden_size": 2048, "intermediate_size": 5120, "num_hidden_layers": 48,
    "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "vocab_size": 151936, "linear_num_key_heads": 16,
    "linear_num_value_heads": 32, "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
    "num_experts": 512, "num_experts_per_tok": 10, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
}  # fmt: skip


def test_16_of_64_layers_of_qwen3_5_27b_grow_with_the_sequence_and_the_rest_keep_a_fixed_state() -> None:
    architecture = architecture_of(QWEN3_5_27B)
    for dtype, fixed in (("bf16", 79_429_632), ("auto", 154_927_104)):
        found = groups(architecture, dtype)
        assert sum(group.bytes_per_token for group in found) == 16 * 2 * 4 * 256 * 2 == 65_536
        assert sum(group.fixed_bytes for group in found) == fixed


def test_the_prediction_layer_of_qwen3_5_27b_holds_424_699_392_parameters_beside_the_model() -> None:
    architecture = architecture_of(QWEN3_5_27B)
    layer = 5120 * (2 * 6144 + 2 * 1024 + 6144) + 2 * 256 + 3 * 5120 * 17408 + 2 * 5120
    assert stored(architecture) == layer + 2 * 5120 * 5120 + 3 * 5120 == 424_699_392
    without = architecture_of(QWEN3_5_27B | {"mtp_num_hidden_layers": 0})
    assert (stored(without), parameters(without)) == (0, parameters(architecture))


def test_a_qwen3_next_file_does_not_say_whether_1_650_471_424_more_parameters_are_stored() -> None:
    architecture = architecture_of(QWEN3_NEXT)
    assert (stored(architecture), len(architecture.not_described)) == (0, 1)
    assert "would add 1,650,471,424 parameters" in architecture.not_described[0]
    stated = architecture_of(QWEN3_NEXT | {"num_nextn_predict_layers": 1})
    assert (stored(stated), stated.not_described) == (1_650_471_424, ())


def test_attention_without_its_output_gate_is_refused_by_name() -> None:
    with pytest.raises(CannotAnswer, match="attn_output_gate is false"):
        architecture_of(QWEN3_5_27B | {"attn_output_gate": False})


# Kimi-Linear-48B-A3B: layers 4, 8, 12, 16, 20, 24 and 27 of 27 attend to everything
FULL = [4, 8, 12, 16, 20, 24, 27]
KIMI: dict[str, Any] = {
    "model_type": "kimi_linear", "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 27,
    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 163840, "kv_lora_rank": 512, "q_lora_rank": None,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "num_experts": 256, "num_experts_per_token": 8,
    "num_shared_experts": 1, "moe_intermediate_size": 1024, "first_k_dense_replace": 1,
    "linear_attn_config": {
        "full_attn_layers": FULL, "kda_layers": [layer for layer in range(1, 28) if layer not in FULL], "head_dim": 128,
        "num_heads": 32, "short_conv_kernel_size": 4,
    },
}  # fmt: skip


def test_kimi_linear_counts_its_layers_from_1_which_the_defaults_of_the_class_misplace() -> None:
    architecture = architecture_of(KIMI)
    full = sorted(layer for block in architecture.blocks if block.name.startswith("full") for layer in block.layers)
    assert full == [layer - 1 for layer in FULL]
    assert parameters(architecture).total == 49_122_675_072
    # what transformers' own default of every fourth layer from the fifth on would make of it
    misplaced = ["full_attention" if index and index % 4 == 0 else "linear_attention" for index in range(27)]
    assert parameters(architecture_of(KIMI | {"layer_types": misplaced})).total == 49_133_074_464


def test_kimi_linear_caches_a_latent_in_7_layers_and_matrices_in_20() -> None:
    found = groups(architecture_of(KIMI), "auto")
    assert sum(group.bytes_per_token for group in found) == 7 * (512 + 64) * 2
    assert sum(group.fixed_bytes for group in found) == 20 * (4 * 3 * 4096 * 2 + 32 * 128 * 128 * 4)


def test_the_balancing_biases_of_kimi_linear_are_stored_beside_the_model() -> None:
    assert stored(architecture_of(KIMI)) == 26 * 256


def test_kimi_linear_without_its_two_lists_is_not_guessed() -> None:
    with pytest.raises(CannotAnswer, match=r"linear_attn_config\.full_attn_layers"):
        architecture_of(KIMI | {"linear_attn_config": {"head_dim": 128}})


def test_kimi_linear_lists_that_miss_or_repeat_a_layer_are_refused() -> None:
    lists = {"full_attn_layers": FULL, "kda_layers": FULL}
    with pytest.raises(UsageError, match="must name each of the layers 1 to 27 once"):
        architecture_of(KIMI | {"linear_attn_config": lists})


@pytest.mark.parametrize("field", ["attn_res_block_size", "routed_expert_hidden_size", "mla_use_output_gate"])
def test_what_later_kimi_models_added_is_refused_by_name(field: str) -> None:
    with pytest.raises(CannotAnswer, match=f"the configuration has {field}, a variant of Kimi Linear"):
        architecture_of(KIMI | {field: 1})
