"""Weight formats: bytes by hand, published totals, and what a configuration's quantization_config declares."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import AdvisorError, CannotAnswer, UsageError
from advisor_mcp.formulas.precision import (
    Names,
    checkpoint_bytes,
    declared_format,
    requested_format,
    weight_bytes,
)

CONFIG = {
    "model_type": "llama", "hidden_size": 256, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 384,
    "num_hidden_layers": 1, "vocab_size": 100, "torch_dtype": "bfloat16",
}  # fmt: skip
# q, o: 256 x 256; k, v: 128 x 256; gate, up: 384 x 256; down: 256 x 384 (outputs x inputs)
ATTENTION = 2 * 256 * 256 + 2 * 128 * 256
MLP = 3 * 384 * 256
MATRICES = ATTENTION + MLP
KEPT = 2 * 100 * 256 + 3 * 256
OUTPUTS = 256 + 256 + 128 + 128 + 384 + 384 + 256
INPUTS = 6 * 256 + 384
GROUPS_128 = (256 + 256 + 128 + 128 + 384 + 384) * 2 + 256 * 3


def stored(**config: Any) -> float:
    architecture = architecture_of(CONFIG | config)
    return weight_bytes(architecture, architecture.bound(), declared_format(architecture))


def quantised(**declared: Any) -> float:
    """Bytes beyond those of what every method keeps."""
    return stored(quantization_config=declared) - 2 * KEPT


def test_an_unquantised_checkpoint_is_its_elements_times_the_width_of_its_dtype() -> None:
    assert stored() == 2 * (MATRICES + KEPT)
    assert stored(torch_dtype="float32") == 4 * (MATRICES + KEPT)


def test_block_fp8_adds_a_scale_per_block_of_128_and_keeps_embeddings_norms_and_head() -> None:
    # q, o: 2x2 blocks; k, v: 1x2; gate, up: 3x2; down: 2x3
    blocks = 4 + 4 + 2 + 2 + 6 + 6 + 6
    assert quantised(quant_method="fp8", weight_block_size=[128, 128]) == MATRICES + 4 * blocks


def test_an_fp8_block_that_a_matrix_does_not_fill_has_a_scale_all_the_same() -> None:
    # blocks of 100 outputs and 200 inputs; q, o: 3x2; k, v: 2x2; gate, up: 4x2; down: 3x2
    blocks = 6 + 6 + 4 + 4 + 8 + 8 + 6
    assert quantised(quant_method="fp8", weight_block_size=[100, 200]) == MATRICES + 4 * blocks


def test_fp8_per_matrix_has_a_scale_of_the_weight_and_of_static_activations_one_more() -> None:
    assert quantised(quant_method="fp8", activation_scheme="dynamic") == MATRICES + 7 * 4
    assert quantised(quant_method="fp8", activation_scheme="static") == MATRICES + 7 * 8
    assert quantised(quant_method="fbgemm_fp8") == MATRICES + 4 * OUTPUTS


def test_modules_that_a_configuration_excludes_stay_as_they_are() -> None:
    listed = ["model.layers.*.self_attn", "lm_head"]
    assert quantised(quant_method="fp8", modules_to_not_convert=listed) == MLP + 3 * 4 + 2 * ATTENTION
    assert quantised(quant_method="fp8", ignored_layers=["re:.*mlp.*"]) == ATTENTION + 4 * 4 + 2 * MLP
    assert quantised(quant_method="fp8", ignored_layers=["model.layers.0.mlp"]) == ATTENTION + 4 * 4 + 2 * MLP
    assert quantised(quant_method="fp8", ignored_layers=["model.layers.0*"]) == 2 * MATRICES
    assert quantised(quant_method="fp8", ignored_layers=["model.layers.1.mlp"]) == MATRICES + 7 * 4


def test_a_module_that_is_excluded_in_one_layer_is_quantised_in_the_others() -> None:
    config = CONFIG | {
        "num_hidden_layers": 3,
        "quantization_config": {"quant_method": "fp8", "ignored_layers": ["model.layers.1.mlp.down_proj"]},
    }
    architecture = architecture_of(config)
    one = 256 * 384
    rest = 2 * (2 * 100 * 256 + 7 * 256)
    expected = 3 * MATRICES - one + 20 * 4 + 2 * one + rest
    assert checkpoint_bytes(architecture, declared_format(architecture)) == expected


@pytest.mark.parametrize(("pattern", "path", "named"), [
    ("lm_head", "lm_head", True), ("mlp.gate", "model.layers.3.mlp.gate", True), ("mlp.gate", "model.layers.3.mlp.gate_proj", False),
    ("model.layers.1", "model.layers.11.mlp", False), ("model.layers.1*", "model.layers.11.mlp", True),
    ("model.visual", "visual.blocks.0.attn.qkv", True), ("language_model.layers.2.mlp", "model.layers.2.mlp.up_proj", True),
    ("re:.*self_attn", "model.layers.0.self_attn.q_proj", True), ("re:self_attn", "model.layers.0.self_attn.q_proj", False),
    ("mtp*", "model.layers.0.mlp.mtp", True), (r"layers\.[02]\.mlp", "model.layers.2.mlp.up_proj", True),
])  # fmt: skip
def test_a_pattern_names_a_path_a_part_of_one_a_glob_or_an_expression(pattern: str, path: str, named: bool) -> None:
    assert (path in Names([pattern])) is named


def test_a_pattern_that_is_no_regular_expression_is_told() -> None:
    with pytest.raises(UsageError, match=r"the module pattern 're:\(' is no regular expression"):
        stored(quantization_config={"quant_method": "fp8", "ignore": ["re:("]})


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq_packs_values_and_zero_points_and_names_the_group_of_each_input(bits: int) -> None:
    declared = {"quant_method": "gptq", "bits": bits, "group_size": 128}
    zeros = (2 * (256 + 256 + 128 + 128 + 384 + 384) + 3 * 256) * bits // 8
    assert quantised(**declared) == MATRICES * bits // 8 + 2 * GROUPS_128 + zeros + 4 * INPUTS


def test_gptq_without_groups_has_one_scale_per_output() -> None:
    assert quantised(quant_method="gptq", bits=4, group_size=-1) == MATRICES // 2 + OUTPUTS * 5 // 2 + 4 * INPUTS


def test_gptq_overrides_count_where_their_pattern_matches() -> None:
    dynamic = {"-:.*self_attn": {}, "+:.*down_proj": {"bits": 8}}
    gate_up, down = 2 * 384 * 256, 384 * 256
    expected = (
        2 * ATTENTION
        + gate_up // 2 + 2 * 384 * 2 * 5 // 2 + 4 * 512
        + down + 256 * 3 * 3 + 4 * 384
    )  # fmt: skip
    assert quantised(quant_method="gptq", bits=4, group_size=128, dynamic=dynamic) == expected


def test_awq_holds_four_bits_a_scale_and_a_zero_point_per_group() -> None:
    assert quantised(quant_method="awq", bits=4, group_size=128) == MATRICES // 2 + GROUPS_128 * 5 // 2
    with pytest.raises(CannotAnswer, match="awq with 4 bits in the layout 'gemv' is not described"):
        quantised(quant_method="awq", bits=4, version="gemv")


def test_bitsandbytes_in_8_bits_has_a_scale_per_output_and_a_byte_that_names_the_layout() -> None:
    assert quantised(quant_method="bitsandbytes", load_in_8bit=True) == MATRICES + 4 * OUTPUTS + 7


def test_bitsandbytes_in_4_bits_spells_out_how_each_matrix_was_made() -> None:
    text = '{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [256, 256]}'
    once = MATRICES // 2 + 4 * MATRICES // 64 + 7 * (64 + len(text))  # every shape has as many digits
    declared = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    assert quantised(**declared) == once
    longer = text[:-1] + ', "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.04583740234375001}'
    # 1024 scales of q and o are 4 groups of 256, 512 of k and v 2, 1536 of the mlp 6
    twice = MATRICES // 2 + MATRICES // 64 + 4 * (4 + 4 + 2 + 2 + 6 + 6 + 6) + 7 * (64 + 1024 + len(longer))
    assert quantised(**declared, bnb_4bit_use_double_quant=True) == twice


def compressed(weights: dict[str, Any], inputs: dict[str, Any] | None = None, **more: Any) -> float:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return quantised(quant_method="compressed-tensors", config_groups={"group_0": group}, ignore=["lm_head"], **more)


def test_compressed_tensors_hold_scales_in_the_models_dtype() -> None:
    fp8 = {"type": "float", "num_bits": 8}
    dynamic = {"type": "float", "num_bits": 8, "dynamic": True, "strategy": "token"}
    static = {"type": "float", "num_bits": 8, "dynamic": False, "strategy": "tensor"}
    assert compressed(fp8 | {"strategy": "channel"}, dynamic) == MATRICES + 2 * OUTPUTS
    assert compressed(fp8 | {"strategy": "tensor"}, static) == MATRICES + 7 * (2 + 2)
    blocks = 4 + 4 + 2 + 2 + 6 + 6 + 6
    assert compressed(fp8 | {"strategy": "block", "block_structure": [128, 128]}, dynamic) == MATRICES + 2 * blocks


def test_compressed_tensors_pack_whole_numbers_where_activations_stay() -> None:
    int4 = {"type": "int", "num_bits": 4, "strategy": "group", "group_size": 128}
    assert compressed(int4) == MATRICES // 2 + 2 * GROUPS_128 + 7 * 16
    assert compressed(int4 | {"symmetric": False}) == MATRICES // 2 + GROUPS_128 * 5 // 2 + 7 * 16
    assert compressed(int4 | {"actorder": "group"}) == MATRICES // 2 + 2 * GROUPS_128 + 7 * 16 + 4 * INPUTS
    inputs = {"type": "int", "num_bits": 8, "dynamic": True}
    assert compressed({"type": "int", "num_bits": 8, "strategy": "channel"}, inputs) == MATRICES + 2 * OUTPUTS


def test_compressed_tensors_in_four_bit_floats_have_a_scale_per_16_or_32_values() -> None:
    fp4 = {"type": "float", "num_bits": 4}
    local = {"type": "float", "num_bits": 4, "dynamic": "local"}
    assert compressed(fp4 | {"strategy": "tensor_group", "group_size": 16}, local) == MATRICES * 9 // 16 + 7 * 8
    assert compressed(fp4 | {"strategy": "tensor_group", "group_size": 16}) == MATRICES * 9 // 16 + 7 * 4
    assert compressed(fp4 | {"strategy": "group", "group_size": 32}) == MATRICES * 17 // 32


def test_a_quantised_cache_keeps_a_scale_of_keys_and_one_of_values_per_layer() -> None:
    cache = {"type": "float", "num_bits": 8, "dynamic": False}
    fp8 = {"type": "float", "num_bits": 8, "strategy": "tensor"}
    assert compressed(fp8, kv_cache_scheme=cache) == MATRICES + 7 * 2 + 2 * 2
    assert (
        quantised(quant_method="modelopt", quant_algo="FP8", kv_cache_quant_algo="FP8", exclude_modules=["lm_head"])
        == MATRICES + 7 * 8 + 2 * 4
    )


def test_groups_of_modules_have_formats_of_their_own() -> None:
    weights = {"type": "float", "num_bits": 8, "strategy": "channel"}
    int4 = {"type": "int", "num_bits": 4, "strategy": "channel"}
    groups = {
        "all": {"targets": ["Linear"], "weights": weights},
        "some": {"targets": ["re:.*down_proj"], "weights": int4, "format": "pack-quantized"},
    }
    down = 256 * 384
    expected = (MATRICES - down) + 2 * (OUTPUTS - 256) + down // 2 + 2 * 256 + 16
    assert quantised(quant_method="compressed-tensors", config_groups=groups, ignore=["lm_head"]) == expected


def test_linear_layers_that_compressed_tensors_do_not_ignore_are_quantised_the_head_included() -> None:
    weights = {"type": "float", "num_bits": 8, "strategy": "tensor"}
    declared = {
        "quant_method": "compressed-tensors",
        "config_groups": {"g": {"targets": ["Linear"], "weights": weights}},
    }
    assert quantised(**declared) == MATRICES + 8 * 2 - 100 * 256


def test_layers_listed_one_by_one_are_quantised_as_listed_and_no_other() -> None:
    listed = {
        "model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"},
        "model.layers.0.mlp.down_proj": {"quant_algo": "W4A16_NVFP4", "group_size": 16},
        "model.layers.0.mlp.up_proj": {"quant_algo": "NVFP4", "group_size": 16},
    }
    q, one = 256 * 256, 256 * 384
    expected = q + 8 + one * 9 // 16 + 4 + one * 9 // 16 + 8 + 2 * (MATRICES - q - 2 * one)
    assert quantised(quant_method="modelopt", quant_algo="MIXED_PRECISION", quantized_layers=listed) == expected


def test_bitnet_packs_four_outputs_in_a_byte() -> None:
    assert quantised(quant_method="bitnet") == MATRICES // 4 + 7 * 2


@pytest.mark.parametrize(("quantization", "expected"), [
    ("none", 2 * MATRICES), ("fp8", MATRICES + 7 * 8), ("nvfp4", MATRICES * 9 // 16 + 7 * 8), ("int8", MATRICES + 4 * OUTPUTS + 7),
    ("gptq", MATRICES // 2 + GROUPS_128 * 5 // 2 + 4 * INPUTS), ("awq", MATRICES // 2 + GROUPS_128 * 5 // 2),
    ("mxfp4", MATRICES * 17 // 32), ("fp8_block", MATRICES + 4 * 30),
])  # fmt: skip
def test_a_requested_format_replaces_the_declared_one(quantization: str, expected: float) -> None:
    architecture = architecture_of(CONFIG | {"quantization_config": {"quant_method": "fp8"}})
    assert (
        weight_bytes(architecture, architecture.bound(), requested_format(architecture, None, quantization))
        == expected + 2 * KEPT
    )


def test_mxfp4_of_a_mixture_quantises_its_experts_alone() -> None:
    config = CONFIG | {"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 1}
    architecture = architecture_of(config)
    experts = 2 * 3 * 384 * 256
    rest = ATTENTION + 2 * 256 + KEPT
    expected = experts * 17 / 32 + 2 * rest
    assert weight_bytes(architecture, architecture.bound(), requested_format(architecture, None, "mxfp4")) == expected
    declared = architecture_of(config | {"quantization_config": {"quant_method": "mxfp4"}})
    assert checkpoint_bytes(declared, declared_format(declared)) == expected


DEEPSEEK_V3 = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048,
    "num_hidden_layers": 61, "num_nextn_predict_layers": 1, "num_attention_heads": 128, "num_key_value_heads": 128,
    "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "moe_layer_freq": 1,
    "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "vocab_size": 129280, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "topk_method": "noaux_tc",
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"},
}  # fmt: skip
GPT_OSS = {
    "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201088, "num_experts_per_tok": 4, "attention_bias": True,
    "quantization_config": {
        "quant_method": "mxfp4",
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
    },
}  # fmt: skip
LLAMA_3_70B_AWQ = {
    "model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False, "torch_dtype": "float16",
    "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True},
}  # fmt: skip
QWEN3_32B = {
    "model_type": "qwen3", "hidden_size": 5120, "intermediate_size": 25600, "num_hidden_layers": 64, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"]},
}  # fmt: skip
MINIMAX_M2 = {
    "model_type": "minimax_m2", "hidden_size": 3072, "intermediate_size": 1536, "num_hidden_layers": 62, "head_dim": 128,
    "num_attention_heads": 48, "num_key_value_heads": 8, "num_local_experts": 256, "num_experts_per_tok": 8,
    "vocab_size": 200064, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "quantization_config": {
        "quant_method": "fp8", "weight_block_size": [128, 128],
        "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"],
    },
}  # fmt: skip


@pytest.mark.parametrize(("config", "published"), [
    # the hub's count of DeepSeek-V3's values: fp8, bf16 and fp32
    (DEEPSEEK_V3, 680_571_043_840 + 2 * 3_918_786_560 + 4 * 41_555_600),
    # total_size in the index files of gpt-oss-120b and 20b
    (GPT_OSS | {"num_hidden_layers": 36, "num_local_experts": 128}, 65_248_815_744),
    (GPT_OSS | {"num_hidden_layers": 24, "num_local_experts": 32}, 13_761_264_768),
    # the hub's count of Qwen3-32B-FP8's values: fp8 and bf16
    (QWEN3_32B, 31_205_621_760 + 2 * 1_558_406_144),
    # the sum over the headers of MiniMax-M2's files
    (MINIMAX_M2, 230_121_630_720),
    # total_size in an index file of Llama 3 70B in AWQ
    (LLAMA_3_70B_AWQ, 39_767_785_472),
], ids=["deepseek-v3", "gpt-oss-120b", "gpt-oss-20b", "qwen3-32b-fp8", "minimax-m2", "llama-3-70b-awq"])  # fmt: skip
def test_a_declared_format_gives_the_bytes_that_were_published(config: dict[str, Any], published: int) -> None:
    architecture = architecture_of(config)
    assert checkpoint_bytes(architecture, declared_format(architecture)) == published


@pytest.mark.parametrize(("declared", "said"), [
    ({"quant_method": "quip"}, "the quantisation method 'quip' of the configuration is not described"),
    ({"quant_method": "gptq", "bits": 5}, "gptq with 5 bits is not described"),
    ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, "the GPTQ format 'marlin'"),
    ({"quant_method": "gptq", "bits": 4, "group_size": "all"}, "the group_size 'all'"),
    ({"quant_method": "fp8", "weight_block_size": [128]}, "the weight_block_size"),
    ({"quant_method": "fp8", "scale_fmt": "e5m2"}, "the scale_fmt 'e5m2'"),
    ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "the quant_algo 'W4A8_AWQ'"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "int4"}, "the bnb_4bit_quant_type 'int4'"),
    ({"quant_method": "compressed-tensors"}, "does not say how weights are stored"),
    ({"quant_method": "compressed-tensors", "config_groups": {"g": {"targets": ["Conv2d"], "weights": {"num_bits": 8}}}},
     "the target 'Conv2d'"),
    ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8}}}, "format": "marlin-24"},
     "the format 'marlin-24'"),
    ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8}}},
      "sparsity_config": {"format": "sparse-24-bitmask"}}, "the sparsity_config format"),
])  # fmt: skip
def test_what_is_not_described_is_named(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(CannotAnswer, match=said):
        stored(quantization_config=declared)


def test_fp8_weights_and_another_quantisation_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="dtype fp8 and quantization awq contradict each other"):
        requested_format(architecture_of(CONFIG), "fp8", "awq")


FIELDS = (
    "bits", "group_size", "weight_block_size", "activation_scheme", "scale_fmt", "dynamic", "ignore", "config_groups", "format",
    "quant_algo", "quantized_layers", "kv_cache_scheme", "load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "version",
    "modules_to_not_convert", "modules_in_block_to_quantize", "quantization", "sparsity_config", "expert_dtype",
)  # fmt: skip
METHODS = st.sampled_from(
    ["fp8", "fbgemm_fp8", "gptq", "awq", "bitsandbytes", "compressed-tensors", "modelopt", "mxfp4", "bitnet", 7, None]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("NVFP4")
GROUP = st.dictionaries(
    st.sampled_from(["targets", "weights", "input_activations", "format"]),
    LEAVES | st.lists(LEAVES, max_size=2)
    | st.dictionaries(
        st.sampled_from(["type", "num_bits", "strategy", "group_size", "symmetric", "block_structure", "dynamic"]),
        LEAVES | st.sampled_from(["float", "int", "group", "channel", "block", 4, 8, 16]), max_size=5,
    ),
    max_size=4,
)  # fmt: skip
VALUES = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(max_size=6), LEAVES | GROUP, max_size=3)


@given(method=METHODS, fields=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5))
def test_whatever_a_configuration_declares_is_answered_or_refused_in_words(method: Any, fields: dict[str, Any]) -> None:
    with suppress(AdvisorError):
        assert stored(quantization_config={"quant_method": method, **fields}) >= 0


def test_a_pattern_that_could_take_for_ever_is_refused() -> None:
    config = {"quant_method": "fp8", "modules_to_not_convert": ["re:(.*.*)*.*#"]}
    with pytest.raises(CannotAnswer, match="is too involved to be matched safely"):
        stored(quantization_config=config)
