"""Decoders behind towers: components counted by hand, and what each wrapper says about its head and its parts."""

from __future__ import annotations

from typing import Any

import pytest

from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.parameters import parameters
from advisor_mcp.formulas.state import state_bytes, state_groups

# by hand, a decoder of one layer: q 8x8, k and v 4x8 each, o 8x8; three 16x8; two norms and one last; a table of 32x8
LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 32,
}  # fmt: skip
DECODER = {"attention": 192, "mlp": 384, "norm": 24, "token_embedding": 256}
# by hand: patches 3x3x3 to 6 and biases, 4 positions, a last norm; one layer of four 6x6, 10x6 and 6x10 with biases, two norms
VIT: dict[str, Any] = {
    "hidden_size": 6, "intermediate_size": 10, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 6,
    "patch_size": 3,
}  # fmt: skip
SIGLIP: dict[str, Any] = VIT | {"model_type": "siglip_vision_model", "vision_use_head": False}
TOWER = (27 * 6 + 6) + 4 * 6 + 12 + (4 * (36 + 6) + (60 + 10) + (60 + 6) + 2 * 12)


def wrapper(model_type: str, text: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"model_type": model_type, "text_config": LLAMA | (text or {}), **more}


def components(config: dict[str, Any]) -> dict[str, int]:
    return parameters(architecture_of(config)).by_component


def test_llava_onevision_adds_two_biased_matrices_and_a_mark_for_the_end_of_a_row() -> None:
    projector = (6 * 8 + 8) + (8 * 8 + 8) + 8
    untied = DECODER | {"lm_head": 256}
    assert components(wrapper("llava_onevision", vision_config=SIGLIP)) == untied | {"vision": TOWER + projector}


def test_video_llava_holds_its_tower_twice_and_no_mark() -> None:
    clip = VIT | {"model_type": "clip_vision_model"}
    once = components(wrapper("llava_next_video", vision_config=clip))["vision"]
    # CLIP: no bias of patches, a class token and its position, a norm before the layers
    tower = TOWER - 6 + 2 * 6 + 12
    assert once == tower + (6 * 8 + 8) + (8 * 8 + 8) + 8
    assert components(wrapper("video_llava", vision_config=clip))["vision"] == once + tower - 8


def test_vipllava_reads_five_layers_side_by_side_where_the_file_names_none() -> None:
    clip = VIT | {"model_type": "clip_vision_model"}
    five = components(wrapper("vipllava", vision_config=clip))["vision"]
    one = components(wrapper("vipllava", vision_config=clip, vision_feature_layers=-2))["vision"]
    assert five - one == 4 * 6 * (8 + 2)  # 24 more columns of the matrix and of the norm


@pytest.mark.parametrize("model_type", ["llava_onevision", "llava_next_video"])
def test_the_decoders_part_alone_can_tie_the_head_of_some_wrappers(model_type: str) -> None:
    assert architecture_of(wrapper(model_type, {"tie_word_embeddings": True})).tied


@pytest.mark.parametrize("model_type", ["video_llava", "vipllava"])
def test_the_decoders_part_says_nothing_about_the_head_of_others(model_type: str) -> None:
    assert not architecture_of(wrapper(model_type, {"tie_word_embeddings": True})).tied


def test_a_wrapper_without_a_tower_says_so() -> None:
    found = architecture_of(wrapper("llava_onevision"))
    assert found.not_described == ("the configuration has no vision_config, so the vision tower is not counted",)


def test_towers_and_projectors_are_in_neither_the_state_nor_the_decoders_layers() -> None:
    found = architecture_of(wrapper("deepseek_vl", vision_config=SIGLIP))
    assert found.layers == 1
    assert state_bytes(state_groups(found, found.bound(), "bf16"), 10) == 2 * 4 * 2 * 10


def test_glm4v_gives_its_towers_mlp_the_decoders_width_and_its_merger_the_other_one() -> None:
    text = {k: v for k, v in LLAMA.items() if k != "model_type"}
    vision = {
        "depth": 1, "hidden_size": 6, "num_heads": 2, "image_size": 6, "patch_size": 3, "out_hidden_size": 8,
        "intermediate_size": 10,
    }  # fmt: skip
    counted = components({"model_type": "glm4v", "text_config": text, "vision_config": vision})
    layer = 3 * 36 + 36 + 3 * 6 * 8 + 2 * 6
    ends = (2 * 27 * 6 + 6) + 4 * 6 + 6 + 6
    merger = (4 * 6 * 8 + 8) + 64 + 16 + 3 * 8 * 10
    assert counted["vision"] == layer + ends + merger
    # four norms a layer, and biases of q, k and v that no field takes away
    assert (counted["norm"], counted["attention"]) == (4 * 8 + 8, 192 + 8 + 4 + 4)


def test_a_matrix_of_the_querying_transformer_reads_the_tower_in_every_second_layer_only() -> None:
    opt = {
        "model_type": "opt", "vocab_size": 32, "hidden_size": 8, "num_hidden_layers": 1, "ffn_dim": 16,
        "num_attention_heads": 2, "word_embed_proj_dim": 8, "max_position_embeddings": 4,
    }  # fmt: skip
    vision = {k: v for k, v in VIT.items() if k != "model_type"}
    queries = {"hidden_size": 4, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 5}
    config = {"model_type": "blip-2", "text_config": opt, "vision_config": vision, "qformer_config": queries}
    tower = TOWER + 2 * 6  # a class token and its position; the joined bias is as long as three
    own, across = 4 * (16 + 4) + 8, 2 * (16 + 4) + 2 * (6 * 4 + 4) + 8
    feed = (20 + 5) + (20 + 4) + 8
    projector = 32 * 4 + (4 * 8 + 8)
    assert components(config)["vision"] == tower + 8 + 3 * (own + feed) + 2 * across + projector


def test_molmo2_predicts_fewer_tokens_than_it_embeds() -> None:
    text = {k: v for k, v in LLAMA.items() if k != "model_type"} | {"head_dim": 4, "additional_vocab_size": 3}
    counted = components({"model_type": "molmo2", "text_config": text})
    assert (counted["token_embedding"], counted["lm_head"], counted["qk_norm"]) == ((32 + 3) * 8, 32 * 8, 2 * 4)


def test_moonshine_keeps_keys_and_values_of_the_text_and_of_the_sound() -> None:
    config = {
        "model_type": "moonshine", "hidden_size": 8, "intermediate_size": 16, "encoder_num_hidden_layers": 1,
        "decoder_num_hidden_layers": 1, "encoder_num_attention_heads": 2, "decoder_num_attention_heads": 4, "vocab_size": 32,
    }  # fmt: skip
    found = architecture_of(config)
    assert [(group.kind, group.layers) for group in state_groups(found, found.bound(), "bf16")] == [
        ("full", 1),
        ("cross", 1),
    ]
    assert parameters(found).by_component == {
        "token_embedding": 256,
        "attention": 3 * 4 * 64,
        "mlp": (16 * 8 + 16 + 8 * 16 + 8) + (32 * 8 + 32 + 8 * 16 + 8),
        "norm": 16 + 3 * 8 + 4 * 8,
        "other": 8 * 127 + (16 * 8 * 7 + 16) + (8 * 16 * 3 + 8),
    }


def test_batch_norms_statistics_stand_beside_the_model() -> None:
    encoder = {"hidden_dim": 6, "num_layers": 2, "num_heads": 2, "conv_expansion_factor": 2}
    config = wrapper("granite_speech", {"model_type": "granite"}, encoder_config=encoder, has_lora_adapter=False)
    found = architecture_of(config)
    sizes = found.bound()
    beside = sum(block.repeat * tensor.elements(sizes) for block in found.beside for tensor in block.tensors)
    assert beside == 2 * (12 + 12 + 1)
    assert found.not_described == ()


def test_low_rank_adapters_of_a_speech_checkpoint_are_named_as_not_counted() -> None:
    found = architecture_of(wrapper("granite_speech", {"model_type": "granite"}))
    assert found.not_described == (
        "the low-rank adapter that the checkpoint adds to the decoder for sound is not counted",
    )


def test_a_way_of_pooling_that_is_not_known_is_not_guessed() -> None:
    clip = VIT | {"model_type": "clip_vision_model"}
    with pytest.raises(CannotAnswer, match="spatial_pool_mode is 'median'; described here are average, max and conv"):
        architecture_of(wrapper("llava_next_video", vision_config=clip, spatial_pool_mode="median"))


def test_widths_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="contradicts itself: hidden_size is 9, and 8 in text_config"):
        architecture_of(wrapper("ovis2", {"model_type": "qwen2"}, hidden_size=9))


@pytest.mark.parametrize("rate", ["4", "0/8", "4/8/2", "a/b"])
def test_a_rate_of_joining_that_is_no_pair_of_sides_is_refused(rate: str) -> None:
    config = wrapper("granite4_vision", vision_config=VIT | {"hidden_size": 128, "model_type": "clip_vision_model"})
    with pytest.raises(UsageError, match="downsample_rate in the configuration must be like '4/8'"):
        architecture_of(config | {"downsample_rate": rate, "deepstack_layer_map": [[0, 0]]})
