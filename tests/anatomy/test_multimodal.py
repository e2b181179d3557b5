"""Models that see and hear, and Google's and Meta's decoders behind them: by hand on small ones, by dimensions on named ones."""

from __future__ import annotations

from typing import Any

import pytest

from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.flops import forward
from advisor_mcp.formulas.parameters import parameters
from advisor_mcp.formulas.state import state_bytes, state_groups

Config = dict[str, Any]
SLIDING, FULL = "sliding_attention", "full_attention"
NO_TOWERS: Config = {"vision_config": None, "audio_config": None}

GEMMA_3N_E4B: Config = {
    "hidden_size": 2048, "intermediate_size": [16384] * 35, "num_hidden_layers": 35, "num_attention_heads": 8,
    "num_key_value_heads": 2, "head_dim": 256, "num_kv_shared_layers": 15, "vocab_size": 262_400,
    "vocab_size_per_layer_input": 262_144, "hidden_size_per_layer_input": 256, "laurel_rank": 64, "altup_num_inputs": 4,
    "sliding_window": 512, "layer_types": ([SLIDING] * 4 + [FULL]) * 7,
}  # fmt: skip
GEMMA_3N_E2B = GEMMA_3N_E4B | {
    "intermediate_size": [8192] * 30, "num_hidden_layers": 30, "num_kv_shared_layers": 10, "layer_types": ([SLIDING] * 4 + [FULL]) * 6,
}  # fmt: skip
GEMMA_4_E2B: Config = {
    "hidden_size": 1536, "intermediate_size": 6144, "num_hidden_layers": 35, "num_attention_heads": 8, "num_key_value_heads": 1,
    "head_dim": 256, "global_head_dim": 512, "num_kv_shared_layers": 20, "vocab_size": 262_144, "hidden_size_per_layer_input": 256,
    "sliding_window": 512, "use_double_wide_mlp": True, "layer_types": ([SLIDING] * 4 + [FULL]) * 7,
}  # fmt: skip
GEMMA_4_E4B = GEMMA_4_E2B | {
    "hidden_size": 2560, "intermediate_size": 10_240, "num_hidden_layers": 42, "num_key_value_heads": 2, "num_kv_shared_layers": 18,
    "use_double_wide_mlp": False, "layer_types": ([SLIDING] * 5 + [FULL]) * 7,
}  # fmt: skip
GEMMA_4_31B: Config = {
    "hidden_size": 5376, "intermediate_size": 21_504, "num_hidden_layers": 60, "num_attention_heads": 32, "num_key_value_heads": 16,
    "num_global_key_value_heads": 4, "attention_k_eq_v": True, "head_dim": 256, "global_head_dim": 512, "vocab_size": 262_144,
    "hidden_size_per_layer_input": 0, "sliding_window": 1024,
}  # fmt: skip
GEMMA_4_26B = GEMMA_4_31B | {
    "hidden_size": 2816, "intermediate_size": 2112, "num_hidden_layers": 30, "num_attention_heads": 16, "num_key_value_heads": 8,
    "num_global_key_value_heads": 2, "enable_moe_block": True, "num_experts": 128, "top_k_experts": 8, "moe_intermediate_size": 704,
}  # fmt: skip
GEMMA_4_12B = GEMMA_4_31B | {
    "hidden_size": 3840, "intermediate_size": 15_360, "num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 8,
    "num_global_key_value_heads": 1,
}  # fmt: skip
GEMMA_4_SIGHT: Config = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16,
    "head_dim": 72, "standardize": True,
}  # fmt: skip
LLAMA_4: Config = {
    "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16_384, "num_hidden_layers": 48, "num_attention_heads": 40,
    "num_key_value_heads": 8, "head_dim": 128, "num_experts_per_tok": 1, "num_local_experts": 16, "interleave_moe_layer_step": 1,
    "attention_chunk_size": 8192, "vocab_size": 202_048,
}  # fmt: skip
LLAMA_4_SIGHT: Config = {
    "hidden_size": 1408, "intermediate_size": 5632, "num_hidden_layers": 34, "num_attention_heads": 16, "image_size": 336,
    "patch_size": 14, "vision_output_dim": 4096, "projector_input_dim": 4096, "projector_output_dim": 4096,
}  # fmt: skip
LLAMA_3_2_11B: Config = {
    "model_type": "mllama",
    "text_config": {
        "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 128_256, "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38], "tie_word_embeddings": False,
    },
    "vision_config": {
        "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_global_layers": 8, "attention_heads": 16,
        "image_size": 560, "patch_size": 14, "max_num_tiles": 4, "vision_output_dim": 7680, "tie_word_embeddings": True,
    },
}  # fmt: skip
WHISPER_LARGE_V3: Config = {
    "model_type": "whisper", "d_model": 1280, "encoder_layers": 32, "decoder_layers": 32, "encoder_attention_heads": 20,
    "decoder_attention_heads": 20, "encoder_ffn_dim": 5120, "decoder_ffn_dim": 5120, "vocab_size": 51_866, "num_mel_bins": 128,
    "max_source_positions": 1500, "max_target_positions": 448,
}  # fmt: skip
SMALL: Config = {
    "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 32,
}  # fmt: skip
# by hand, per layer: q 8x8, k and v 4x8 each, o 8x8; gate, up, down 16x8 each
ATTENTION, MLP = 192, 384


def named(model_type: str, text: Config, **parts: Any) -> Architecture:
    return architecture_of({"model_type": model_type, "text_config": text, **parts})


def text(model_type: str, fields: Config, **changes: Any) -> Architecture:
    return architecture_of({**fields, "model_type": model_type, **changes})


def components(architecture: Architecture) -> dict[str, int]:
    return parameters(architecture).by_component


def total(architecture: Architecture) -> int:
    return parameters(architecture).total


def beside(architecture: Architecture) -> int:
    sizes = architecture.bound()
    return sum(block.repeat * tensor.elements(sizes) for block in architecture.beside for tensor in block.tensors)


def groups(architecture: Architecture, **sizes: int) -> list[tuple[str, int, float, int | None, float]]:
    found = state_groups(architecture, {**architecture.bound(), **sizes}, "bf16")
    return [(g.kind, g.layers, g.bytes_per_token, g.cap_tokens, g.fixed_bytes) for g in found]


def test_gemma_has_heads_of_256_where_its_file_says_nothing_and_ties_its_head() -> None:
    counted = components(text("gemma", SMALL))
    assert counted == {
        "mlp": 2 * MLP, "attention": 2 * 8 * 256 * (2 + 1 + 1 + 2), "token_embedding": 32 * 8, "norm": 2 * 2 * 8 + 8,
    }  # fmt: skip


def test_heads_of_gemma_7b_are_wider_than_its_width_over_heads_by_352_million_parameters() -> None:
    fields = {
        "hidden_size": 3072,
        "intermediate_size": 24_576,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "vocab_size": 256_000,
    }
    own, naive = (components(text("gemma", fields, head_dim=size))["attention"] for size in (256, 192))
    assert own - naive == 352_321_536


def test_the_checkpoints_of_gemma_3n_hold_keys_and_values_that_the_model_never_reads() -> None:
    # hub totals of the E4B and E2B files: the model and 15 (10) layers' k, v and k_norm
    for fields, whole, unused in ((GEMMA_3N_E4B, 7_849_978_192, 31_461_120), (GEMMA_3N_E2B, 5_439_438_272, 20_974_080)):
        model = named("gemma3n", fields, vision_config={}, audio_config={})
        assert (total(model) + beside(model), beside(model)) == (whole, unused)


def test_per_layer_embeddings_are_a_third_of_gemma_3n_e4b_and_no_flops() -> None:
    model = text("gemma3n_text", GEMMA_3N_E4B)
    assert components(model)["per_layer_embedding"] == 262_144 * 35 * 256 == 2_348_810_240
    half = text("gemma3n_text", GEMMA_3N_E4B, vocab_size_per_layer_input=131_072)
    assert forward(model, model.workload(64)).total == forward(half, half.workload(64)).total


def test_twenty_of_thirty_five_layers_of_gemma_3n_e4b_keep_keys_and_values() -> None:
    assert groups(text("gemma3n_text", GEMMA_3N_E4B)) == [("sliding", 16, 32_768, 512, 0), ("full", 4, 8192, None, 0)]


def test_a_decoder_of_gemma_3n_counts_by_hand() -> None:
    model = text(
        "gemma3n_text", SMALL, head_dim=4, num_hidden_layers=3, num_kv_shared_layers=1, layer_types=[SLIDING, FULL, FULL],
        vocab_size_per_layer_input=30, hidden_size_per_layer_input=2, altup_num_inputs=3, laurel_rank=5, sliding_window=6,
    )  # fmt: skip
    assert components(model) == {
        "attention": 3 * 2 * 64 + 2 * 2 * 32,
        "qk_norm": 3 * 4 + 2 * 4,
        "mlp": 3 * MLP,
        "norm": 3 * 6 * 8 + 8 + 2,
        # per stream but the first, in and out; coefficients 3->9 and 3->3, a scale; laurel; gate and projection of the embedding
        "other": 2 * 2 * 64 + 3 * (27 + 9 + 8 + 2 * 40 + 2 * 16) + 3 * 2 * 8,
        "router": 3 * (3 * 8 + 8),
        "per_layer_embedding": 30 * 3 * 2,
        "token_embedding": 32 * 8,
    }
    assert beside(model) == 2 * 32 + 4


def test_layers_that_share_need_a_layer_of_their_kind_before_them() -> None:
    with pytest.raises(UsageError, match="not every kind of layer stands before them"):
        text("gemma3n_text", SMALL, num_kv_shared_layers=1, layer_types=[SLIDING, FULL])


@pytest.mark.parametrize(
    ("family", "fields", "parts", "whole"),
    [
        ("gemma4", GEMMA_4_31B, {"vision_config": GEMMA_4_SIGHT}, 31_273_088_876),
        ("gemma4", GEMMA_4_26B, {"vision_config": GEMMA_4_SIGHT}, 25_805_936_206),
        ("gemma4_unified", GEMMA_4_12B, {"vision_config": {}, "audio_config": {}}, 11_959_730_224),
    ],
)
def test_the_files_of_gemma_4_hold_what_the_hub_says(family: str, fields: Config, parts: Config, whole: int) -> None:
    model = named(family, fields, **parts)
    assert total(model) + beside(model) == whole


def test_full_layers_of_gemma_4_31b_have_no_value_matrix_and_few_wide_heads() -> None:
    sliding = 50 * (2 * 5376 * 32 * 256 + 2 * 5376 * 16 * 256)
    full = 10 * (2 * 5376 * 32 * 512 + 5376 * 4 * 512)
    model = text("gemma4_text", GEMMA_4_31B)
    assert components(model)["attention"] == sliding + full
    # keys and values are both kept, though one matrix makes them
    assert groups(model) == [
        ("sliding", 50, 50 * 2 * 16 * 256 * 2, 1024, 0),
        ("full", 10, 10 * 2 * 4 * 512 * 2, None, 0),
    ]


def test_sharing_layers_of_gemma_4_e2b_have_an_mlp_of_twice_the_width() -> None:
    model = text("gemma4_text", GEMMA_4_E2B)
    assert components(model)["mlp"] == 3 * 1536 * (15 * 6144 + 20 * 12_288)
    assert groups(model) == [("sliding", 12, 12 * 2 * 256 * 2, 512, 0), ("full", 3, 3 * 2 * 512 * 2, None, 0)]


@pytest.mark.parametrize(("fields", "unused"), [(GEMMA_4_E2B, 18_880_512), (GEMMA_4_E4B, 55_055_616)])
def test_the_checkpoints_of_small_gemma_4_hold_unused_keys_and_values(fields: Config, unused: int) -> None:
    model = text("gemma4_text", fields)
    assert beside(model) == unused + fields["num_hidden_layers"]  # and a scalar for each layer
    assert components(model)["per_layer_embedding"] == 262_144 * 256 * fields["num_hidden_layers"]


def test_twenty_four_of_forty_two_layers_of_gemma_4_e4b_keep_keys_and_values() -> None:
    assert [(kind, layers) for kind, layers, *_ in groups(text("gemma4_text", GEMMA_4_E4B))] == [
        ("sliding", 20),
        ("full", 4),
    ]


def test_experts_of_gemma_4_26b_stand_beside_a_dense_mlp() -> None:
    model = text("gemma4_text", GEMMA_4_26B)
    counted = components(model)
    assert (counted["routed_experts"], counted["mlp"]) == (30 * 128 * 3 * 2816 * 704, 30 * 3 * 2816 * 2112)
    assert counted["router"] == 30 * (128 * 2816 + 2816 + 128)
    assert total(model) - parameters(model).active == 30 * 120 * 3 * 2816 * 704


def test_a_file_that_lists_the_heads_of_single_layers_reads_as_one_that_names_them_for_all_full_ones() -> None:
    own = {str(layer): {"head_dim": 512, "num_key_value_heads": 4} for layer in range(5, 60, 6)}
    listed = {k: v for k, v in GEMMA_4_31B.items() if not k.startswith(("global_", "num_global_"))} | {
        "per_layer_config": own
    }
    assert components(text("gemma4_text", listed)) == components(text("gemma4_text", GEMMA_4_31B))
    assert groups(text("gemma4_text", listed)) == groups(text("gemma4_text", GEMMA_4_31B))


def test_the_last_layer_of_gemma_4_sees_everything_whatever_its_file_says() -> None:
    model = text(
        "gemma4_text",
        SMALL,
        global_head_dim=4,
        head_dim=4,
        layer_types=[SLIDING, SLIDING],
        hidden_size_per_layer_input=0,
    )
    assert [(kind, layers) for kind, layers, *_ in groups(model)] == [("sliding", 1), ("full", 1)]


def test_the_hub_total_of_llama_4_scout_is_met_with_its_tower() -> None:
    model = named("llama4", LLAMA_4, vision_config=LLAMA_4_SIGHT)
    assert total(model) == 108_641_793_536
    assert components(model)["shared_expert"] == 48 * 3 * 5120 * 8192 == 6_039_797_760


def test_llama_4_maverick_has_experts_in_every_second_layer_and_not_in_all() -> None:
    maverick = LLAMA_4 | {"num_local_experts": 128, "interleave_moe_layer_step": 2}
    model = named("llama4", maverick, vision_config=LLAMA_4_SIGHT)
    assert total(model) == 401_583_781_376
    everywhere = named("llama4", maverick | {"interleave_moe_layer_step": 1}, vision_config=LLAMA_4_SIGHT)
    # 24 more mixtures (128 experts, a shared one, a router) in place of dense MLPs
    more = 24 * (129 * 3 * 5120 * 8192 + 128 * 5120 - 3 * 5120 * 16_384)
    assert total(everywhere) - total(model) == more > 380e9


def test_three_quarters_of_llama_4s_layers_keep_no_more_than_their_chunk() -> None:
    model = named("llama4", LLAMA_4)
    per_layer = 2 * 8 * 128 * 2
    assert groups(model) == [("chunked", 36, 36 * per_layer, 8192, 0), ("full", 12, 12 * per_layer, None, 0)]


def test_a_flattened_llama_4_is_not_counted_by_its_class_defaults() -> None:
    with pytest.raises(CannotAnswer, match="the configuration has no text_config"):
        architecture_of({**LLAMA_4, "model_type": "llama4"})


def test_llama_3_2_11b_vision_has_its_published_parameters_and_eight_rows_more_in_than_out() -> None:
    model = architecture_of(LLAMA_3_2_11B)
    assert total(model) == 10_670_220_835
    assert components(model)["token_embedding"] - components(model)["lm_head"] == 8 * 4096
    assert not model.tied  # the tower's "tie_word_embeddings" means nothing


def test_text_keeps_no_state_in_the_eight_layers_of_llama_3_2_11b_that_attend_to_images() -> None:
    model = architecture_of(LLAMA_3_2_11B)
    assert groups(model) == [("full", 32, 131_072, None, 0), ("cross", 8, 0, None, 0)]
    # an image: 4 tiles of 40 x 40 patches and a class token, 32,768 bytes each
    tokens = 4 * (40 * 40 + 1)
    assert groups(model, images=1)[1] == ("cross", 8, 0, None, 32_768 * tokens)
    assert any("8 layers that attend to images are skipped" in note for note in model.notes)


def test_text_alone_skips_the_flops_of_layers_that_attend_to_images() -> None:
    model = architecture_of(LLAMA_3_2_11B)
    fewer = {
        **LLAMA_3_2_11B,
        "text_config": LLAMA_3_2_11B["text_config"] | {"num_hidden_layers": 32, "cross_attention_layers": []},
    }
    without = architecture_of(fewer)
    assert forward(model, model.workload(100)) == forward(without, without.workload(100))


def test_whisper_large_v3_has_its_hub_total_and_a_fixed_cache_of_what_it_heard() -> None:
    model = architecture_of(WHISPER_LARGE_V3)
    assert total(model) == 1_543_490_560
    per_token = 32 * 2 * 1280 * 2
    assert groups(model) == [("full", 32, per_token, None, 0), ("cross", 32, 0, None, 1500 * per_token)]
    assert 1500 * per_token == 245_760_000
    assert state_bytes(state_groups(model, model.bound(), "bf16"), 448) == 245_760_000 + 448 * per_token


def test_keys_of_whisper_have_no_bias_and_its_mlp_two_matrices() -> None:
    fields = {
        "model_type": "whisper", "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 10, "decoder_ffn_dim": 12, "vocab_size": 32, "num_mel_bins": 5,
        "max_source_positions": 7, "max_target_positions": 9,
    }  # fmt: skip
    model = architecture_of(fields)
    assert components(model) == {
        "attention": 3 * (4 * 64 + 3 * 8),
        "mlp": 2 * 8 * 10 + 18 + 2 * 8 * 12 + 20,
        "norm": (2 + 3 + 2) * 16,
        "position_embedding": (7 + 9) * 8,
        "token_embedding": 32 * 8,
        "other": 8 * 5 * 3 + 8 + 8 * 8 * 3 + 8,
    }
    length, heads = 6, 8 * 8
    # decoder: q, k, v, o of both attentions (k and v of the second over 7 frames), scores over 6 and 7 keys, MLP, head
    matrices = 2 * length * (4 * heads + 2 * heads + 2 * 8 * 12 + 8 * 32) + 2 * 7 * 2 * heads
    scores = 4 * 8 * (length * (length + 1) // 2 + length * 7)
    assert forward(model, model.workload(length)).total == matrices + scores


CLIP: Config = {
    "model_type": "clip_vision_model", "hidden_size": 6, "intermediate_size": 10, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 8, "patch_size": 4,
}  # fmt: skip


def test_a_tower_of_llava_counts_by_hand_and_neither_its_flops_nor_state_are_the_decoders() -> None:
    model = named("llava", SMALL | {"model_type": "llama"}, vision_config=CLIP)
    layer = 4 * (36 + 6) + 2 * 60 + 16 + 2 * 12
    tower = 6 * 3 * 16 + 6 + (4 + 1) * 6 + 12 + layer + 12
    assert components(model)["vision"] == tower + (6 * 8 + 8) + (8 * 8 + 8)
    alone = text("llama", SMALL)
    assert total(model) - components(model)["vision"] == total(alone)
    assert forward(model, model.workload(9)) == forward(alone, alone.workload(9))
    assert groups(model) == groups(alone)


def test_fields_that_a_nested_file_leaves_out_are_its_classs_and_are_told() -> None:
    model = named("llava", {"model_type": "llama", "vocab_size": 32_064}, vision_config={**CLIP, "hidden_size": 8})
    assert (model.sizes["h"], model.sizes["ffn"], model.layers) == (4096, 11_008, 32)
    assert "text_config.hidden_size is absent: 4096, the default of LlamaConfig" in model.notes


@pytest.mark.parametrize(
    ("top", "inner", "tied"),
    [
        (None, None, False),
        (True, None, True),
        (None, True, True),
        (False, True, True),
        (True, False, True),
        (None, False, False),
    ],
)
def test_either_level_of_llava_ties_its_head(top: bool | None, inner: bool | None, tied: bool) -> None:
    fields = SMALL | {"model_type": "llama", "tie_word_embeddings": inner}
    assert named("llava", fields, tie_word_embeddings=top).tied is tied


@pytest.mark.parametrize(
    ("family", "inner", "tied"),
    [
        ("paligemma", "gemma", True),
        ("mistral3", "mistral", False),
        ("idefics3", "llama", False),
        ("internvl", "qwen2", True),
    ],
)
def test_where_no_level_says_so_the_wrapper_decides_whether_the_head_is_tied(
    family: str, inner: str, tied: bool
) -> None:
    assert named(family, SMALL | {"model_type": inner}).tied is tied
    assert named(family, SMALL | {"model_type": inner}, tie_word_embeddings=not tied).tied is not tied


def test_paligemma_counts_the_vocabulary_of_its_decoder_and_not_the_tokenizers() -> None:
    fields = {
        "model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16_384, "num_hidden_layers": 18, "num_attention_heads": 8,
        "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 257_216,
    }  # fmt: skip
    sight = {
        "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
        "num_attention_heads": 16, "patch_size": 14, "vision_use_head": False,
    }  # fmt: skip
    model = named("paligemma", fields, vision_config=sight, vocab_size=257_152)
    # keras-hub's 2,923,335,408 have 64 rows of 2,048 fewer
    assert total(model) == 2_923_335_408 + 64 * 2048


def test_a_tower_without_a_word_about_its_head_has_siglips_pooling_head() -> None:
    sight = CLIP | {"model_type": "siglip_vision_model"}
    with_head, without = (
        components(named("llava", SMALL | {"model_type": "llama"}, vision_config=sight | change))["vision"]
        for change in ({}, {"vision_use_head": False})
    )
    # a probe, joined q-k-v and its bias, the output matrix, a norm, an MLP
    assert with_head - without == 6 + (18 * 6 + 18) + (36 + 6) + 12 + (2 * 60 + 16)


def test_a_tower_that_is_not_described_is_named_and_not_guessed() -> None:
    with pytest.raises(CannotAnswer, match=r"vision_config\.model_type is 'dinov2'; described here are"):
        named("llava", SMALL | {"model_type": "llama"}, vision_config=CLIP | {"model_type": "dinov2"})


def test_a_missing_tower_is_said_and_the_decoder_counted() -> None:
    model = named("llava", SMALL | {"model_type": "llama"})
    assert model.not_described == ("the configuration has no vision_config, so the vision tower is not counted",)
    assert total(model) == total(text("llama", SMALL))


def test_a_wrapper_in_a_wrapper_is_refused() -> None:
    inner = {"model_type": "llava", "text_config": SMALL}
    with pytest.raises(UsageError, match="text_config in the configuration holds another text_config"):
        named("llava", inner)


def test_tensors_have_the_names_of_the_checkpoints() -> None:
    model = named("llava", SMALL | {"model_type": "llama"}, vision_config=CLIP)
    names = {tensor.name for _, tensor in model.tensors()}
    assert {
        "language_model.model.layers.{layer}.self_attn.q_proj.weight",
        "language_model.lm_head.weight",
        "vision_tower.vision_model.embeddings.patch_embedding.weight",
        "multi_modal_projector.linear_1.bias",
    } <= names


def test_ministral_windows_only_the_layers_that_its_list_names() -> None:
    model = text("ministral", SMALL, sliding_window=5, layer_types=[FULL, SLIDING])
    assert groups(model) == [("full", 1, 16, None, 0), ("sliding", 1, 16, 5, 0)]


def test_voxtral_realtime_keeps_a_window_and_conditions_every_layer_on_its_delay() -> None:
    model = named("voxtral_realtime", SMALL | {"head_dim": 4, "sliding_window": 6})
    assert groups(model) == [("sliding", 2, 32, 6, 0)]
    assert components(model)["other"] == 2 * 2 * 32 * 8


def test_layers_of_mistral_large_4_that_borrow_a_latent_cache_only_what_is_their_own() -> None:
    fields = {
        "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 32, "kv_lora_rank": 6,
        "qk_rope_head_dim": 2, "qk_nope_head_dim": 3, "v_head_dim": 5, "index_topk": 4, "index_head_dim": 7, "index_n_heads": 2,
        "mlp_layer_types": ["dense"] * 3, "no_rope_layers": [1, 1, 0], "kv_source_layers": [0, 0, 2], "indexer_types": ["full", "shared", "full"],
    }  # fmt: skip
    model = text("mistral_large4_text", fields)
    # a latent of 6 and a rotary key of 2; a latent alone; an index key of 7 where an indexer is
    assert groups(model) == [
        ("latent", 1, 2 * 8, None, 0),
        ("full", 2, 2 * 2 * 7, None, 0),
        ("latent", 1, 2 * 6, None, 0),
    ]
    rotary, borrowed, plain = 8 * 8 + 2 * (3 + 5) * 6, 2 * (3 + 5) * 6, 8 * 6 + 2 * (3 + 2 + 5) * 6
    counted = components(model)
    assert counted["attention"] == rotary + borrowed + plain + 3 * (2 * 5 * 8 + 2 * 5 * 8 + 2 * 2)
    assert counted["norm"] == 3 * 2 * 8 + 8 + 2 * 6
    assert counted["sparse_indexer"] == 2 * (16 + 14 * 8 + 7 * 8 + 14 + 2 * 8 + 4)
