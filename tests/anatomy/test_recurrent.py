"""Recurrent and hybrid families: what they hold, keep and compute, by hand and against what their classes compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from advisor_mcp.anatomy.inventory import Architecture, total
from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.parameters import parameters
from advisor_mcp.formulas.state import state_bytes, state_groups

CASES = Path(__file__).resolve().parents[1] / "cases" / "counts"
FAMILIES = (
    "mamba", "mamba2", "jamba", "bamba", "zamba", "zamba2", "nemotron_h", "falcon_h1", "granitemoehybrid", "lfm2", "rwkv",
    "minimax", "recurrent_gemma",
)  # fmt: skip


def cases() -> list[Any]:
    return [
        pytest.param(case, id=f"{family}-{index}")
        for family in FAMILIES
        for index, case in enumerate(json.loads((CASES / f"{family}.json").read_text(encoding="utf-8"))["cases"])
        if "eager_forward_flops" in case
    ]


def mamba1_reads(n: dict[str, int], length: int, config: dict[str, Any]) -> int:
    """transformers updates Mamba's state element by element and reads it with a product."""
    return 2 * length * n["inner"] * n["state"]


def mamba2_chunks(n: dict[str, int], length: int, config: dict[str, Any]) -> int:
    """transformers runs Mamba 2 in chunks: scores and sums inside each, states of each, states between, reads of those."""
    chunk: int = config.get("chunk_size") or config["mamba_chunk_size"]
    chunks = -(-length // chunk)
    heads, hd, state = n["ssm_heads"], n["ssm_hd"], n["state"]
    inside = chunks * chunk * chunk * heads * (state + hd)
    states = 2 * chunks * chunk * heads * state * hd
    between = (chunks + 1) ** 2 * heads * hd * state
    return 2 * (inside + states + between)


def lightning_blocks(n: dict[str, int], length: int, config: dict[str, Any]) -> int:
    """transformers runs lightning attention in blocks: scores and sums inside each, reads and updates of the state."""
    block, done = config["block_size"], 0
    for start in range(0, length, block):
        width = min(block, length - start)
        done += 2 * width * width * n["hd"] + 2 * width * n["hd"] ** 2
    return 2 * n["qh"] * done


def element_by_element(n: dict[str, int], length: int, config: dict[str, Any]) -> int:
    return 0


SCANS = {
    **dict.fromkeys(("mamba", "falcon_mamba", "jamba", "zamba"), mamba1_reads),
    **dict.fromkeys(("mamba2", "bamba", "zamba2", "nemotron_h", "falcon_h1", "granitemoehybrid"), mamba2_chunks),
    "minimax": lightning_blocks,
    "rwkv": element_by_element,
    "recurrent_gemma": element_by_element,
}


@pytest.mark.parametrize("case", cases())
def test_products_are_those_the_class_computes_once_its_padding_and_its_form_of_the_scan_are_put_in(
    case: dict[str, Any],
) -> None:
    architecture, length = architecture_of(case["config"]), case["eager_flops_length"]
    sizes = architecture.workload(length, causal=False)
    sizes |= dict.fromkeys(architecture.spans, length**2)  # eager attention multiplies every query with every key
    computed = 0
    for block in architecture.blocks:
        for op in block.ops:
            cost = total(op.flops, sizes)
            if op.kind == "conv":  # it convolves over the padding as well, and drops what that gives
                cost = cost // length * (length + sizes["conv_kernel"] - 1)
            if op.kind == "scan":
                cost = SCANS[architecture.family](sizes, length, case["config"])
            computed += block.repeat * cost
    assert computed == case["eager_forward_flops"]


def state(config: dict[str, Any]) -> list[tuple[str, int, float, float, str]]:
    """Kind, layers, bytes per token, fixed bytes and format of each group, each cache in its own format."""
    architecture = architecture_of({"torch_dtype": "bfloat16", **config})
    groups = state_groups(architecture, architecture.bound())
    return [(g.kind, g.layers, g.bytes_per_token, g.fixed_bytes, g.dtype) for g in groups]


def in_bf16(config: dict[str, Any], length: int) -> int:
    architecture = architecture_of(config)
    return state_bytes(state_groups(architecture, architecture.bound(), "bf16"), length)


def components(config: dict[str, Any]) -> dict[str, int]:
    return parameters(architecture_of(config)).by_component


def beside(architecture: Architecture) -> dict[str, int]:
    sizes = architecture.bound()
    found: dict[str, int] = {}
    for block in architecture.beside:
        for tensor in block.tensors:
            found[block.name] = found.get(block.name, 0) + block.repeat * tensor.elements(sizes)
    return found


MAMBA = {"hidden_size": 32, "state_size": 3, "num_hidden_layers": 2, "vocab_size": 50}
# by hand, per layer: in 128x32, convolution 64x4 + 64, x 64 -> 2 + 2x3, time step 2 -> 64 and 64, A 64x3, D 64, out 32x64
MAMBA_MIXER = 128 * 32 + 64 * 5 + 8 * 64 + 3 * 64 + 64 * 3 + 64 + 32 * 64


def test_a_mamba_layer_counts_by_hand_and_keeps_no_byte_per_token() -> None:
    assert components({"model_type": "mamba", **MAMBA}) == {
        "ssm_or_linear_attn": 2 * MAMBA_MIXER,
        "token_embedding": 50 * 32,
        "norm": 3 * 32,
    }
    # per layer the convolution's 4 columns and the state's 3 numbers of each of 64 channels
    assert state({"model_type": "mamba", **MAMBA}) == [
        ("recurrent", 2, 0, 2 * 2 * 64 * 4, "bf16"),
        ("recurrent", 2, 0, 2 * 2 * 64 * 3, "bf16"),
    ]


def test_falcon_mamba_normalises_without_parameters_and_jamba_with() -> None:
    assert components({"model_type": "falcon_mamba", **MAMBA})["norm"] == 3 * 32
    jamba = {
        "model_type": "jamba", "hidden_size": 32, "intermediate_size": 20, "num_attention_heads": 2, "num_key_value_heads": 1,
        "num_hidden_layers": 2, "vocab_size": 50, "mamba_d_state": 3, "num_experts": 1, "attn_layer_offset": 7,
    }  # fmt: skip
    assert components(jamba) == {
        "ssm_or_linear_attn": 2 * MAMBA_MIXER,
        "mlp": 2 * 3 * 20 * 32,
        "token_embedding": 50 * 32,
        "lm_head": 50 * 32,
        "norm": 2 * (2 * 32 + 2 + 3 + 3) + 32,
    }


MAMBA2 = {
    "model_type": "mamba2", "hidden_size": 8, "num_heads": 4, "head_dim": 4, "n_groups": 2, "state_size": 3,
    "num_hidden_layers": 2, "vocab_size": 50,
}  # fmt: skip


def test_a_mamba2_layer_counts_by_hand_with_its_gated_norm_among_the_norms() -> None:
    # in: 2 x 16 + 2 x 2 x 3 + 4 rows; convolution over 16 + 12 channels; three numbers per head; out 8x16
    mixer = 48 * 8 + 28 * 5 + 3 * 4 + 8 * 16
    assert components(MAMBA2) == {
        "ssm_or_linear_attn": 2 * mixer, "token_embedding": 400, "lm_head": 400, "norm": 2 * (8 + 16) + 8
    }  # fmt: skip
    assert in_bf16(MAMBA2, 1) == in_bf16(MAMBA2, 10**6) == 2 * 2 * (28 * 4 + 16 * 3)


def test_mamba2_heads_that_do_not_make_the_inner_width_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        architecture_of(MAMBA2 | {"num_heads": 5, "n_groups": 5})
    assert (
        caught.value.message
        == "the configuration contradicts itself: 5 Mamba heads of 4 do not make the inner width 16"
    )


JAMBA = {
    "model_type": "jamba", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 65536, "num_experts": 16, "num_experts_per_tok": 2,
}  # fmt: skip


def test_jamba_has_attention_once_in_eight_layers_and_experts_in_every_second() -> None:
    counted = components(JAMBA)
    one_mlp = 3 * 4096 * 14336
    assert (counted["routed_experts"], counted["mlp"]) == (16 * 16 * one_mlp, 16 * one_mlp)
    assert counted["attention"] == 4 * (2 * 4096 * 4096 + 2 * 4096 * 1024)
    kinds = {b.name: b.layers for b in architecture_of(JAMBA).blocks}
    assert kinds["attention-dense"] == (4, 12, 20, 28)


def test_jamba_keeps_kv_in_four_of_32_layers_and_a_state_in_the_others() -> None:
    # 16,384 bytes a token and 9.2 MB, where 32 layers of attention would keep 131,072 a token
    assert in_bf16(JAMBA, 1000) == 16_384 * 1000 + 28 * 8192 * (4 + 16) * 2 == 16_384_000 + 9_175_040


NANO = {
    "model_type": "nemotron_h", "hidden_size": 2688, "vocab_size": 131072, "num_attention_heads": 32, "num_key_value_heads": 2,
    "head_dim": 128, "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", "num_hidden_layers": 52,
    "mamba_num_heads": 64, "mamba_head_dim": 64, "n_groups": 8, "ssm_state_size": 128, "n_routed_experts": 128,
    "num_experts_per_tok": 6, "moe_intermediate_size": 1856, "moe_shared_expert_intermediate_size": 3712,
}  # fmt: skip


def test_nemotron_3_nano_keeps_kv_in_six_of_52_layers_and_its_state_in_fp32() -> None:
    # 25.2 MB of state if all were bf16; the state matrices are fp32: 49.4 MB
    assert state(NANO | {"mamba_ssm_cache_dtype": "float32"}) == [
        ("recurrent", 23, 0, 23 * 4 * 6144 * 2, "bf16"),
        ("recurrent", 23, 0, 23 * 64 * 64 * 128 * 4, "fp32"),
        ("full", 6, 6144, 0, "bf16"),
    ]
    assert in_bf16(NANO, 1024) == 25_247_744 + 1024 * 6144
    assert sum(fixed for _, _, _, fixed, _ in state(NANO)) == 49_364_992


def test_nemotron_experts_have_two_matrices_and_their_routing_biases_stand_beside_the_model() -> None:
    architecture = architecture_of(NANO)
    counted = parameters(architecture)
    assert counted.by_component["routed_experts"] == 23 * 128 * 2 * 2688 * 1856
    assert counted.by_component["shared_expert"] == 23 * 2 * 2688 * 3712
    assert counted.total == 31_577_937_344  # as the hub has counted the file's parameters
    assert beside(architecture) == {"router biases": 23 * 128}


SUPER = NANO | {
    "hidden_size": 4096, "n_routed_experts": 512, "num_experts_per_tok": 22, "moe_intermediate_size": 2688,
    "moe_shared_expert_intermediate_size": 5376, "moe_latent_size": 1024, "mamba_num_heads": 128, "num_hidden_layers": 88,
    "hybrid_override_pattern":
        "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME",
}  # fmt: skip


def test_latent_experts_are_as_wide_as_the_latent_space_and_not_as_the_model() -> None:
    # Nemotron 3 Super: 112.7 billion; read as wide as the model, four times as many
    assert components(SUPER)["routed_experts"] == 40 * 512 * 2 * 1024 * 2688 == 112_742_891_520
    assert components(SUPER | {"moe_latent_size": None})["routed_experts"] == 4 * 112_742_891_520


def test_prediction_layers_of_nemotron_are_what_its_checkpoint_holds_more_than_the_model() -> None:
    predicting = SUPER | {"num_nextn_predict_layers": 1, "mtp_hybrid_override_pattern": "*E"}
    model, with_layers = architecture_of(SUPER), architecture_of(predicting)
    assert parameters(with_layers) == parameters(model)
    # 123,611,012,096 in the file and 120,668,687,360 in the model; the routing biases are buffers
    assert beside(with_layers) == {"router biases": 40 * 512, "prediction layers": 2_942_324_736 + 512}
    names = [t.name for block in with_layers.beside for t in block.tensors]
    assert "mtp.layers.{layer}.eh_proj.weight" in names
    assert "mtp.layers.{layer}.final_layernorm.weight" in names


def test_a_list_of_layers_says_how_many_there_are_where_num_hidden_layers_is_missing_or_differs() -> None:
    short = {k: v for k, v in NANO.items() if k not in ("hybrid_override_pattern", "num_hidden_layers")}
    listed = short | {"layers_block_type": ["mamba", "moe", "attention"]}
    assert architecture_of(listed).layers == 3
    noted = architecture_of(listed | {"num_hidden_layers": 52})
    assert noted.layers == 3
    assert "num_hidden_layers is 52, but 3 layers are listed: the list counts" in noted.notes


def test_an_infinite_time_step_limit_in_the_file_is_read() -> None:
    text = json.dumps(NANO | {"time_step_limit": [0.0, float("inf")]})
    assert "Infinity" in text
    assert architecture_of(json.loads(text)).layers == 52


ZAMBA = {
    "model_type": "zamba", "hidden_size": 3712, "num_hidden_layers": 76, "num_attention_heads": 16, "num_key_value_heads": 16,
    "intermediate_size": 14848, "vocab_size": 32000,
}  # fmt: skip


def test_zambas_one_block_is_held_once_and_used_and_cached_thirteen_times() -> None:
    architecture = architecture_of(ZAMBA)
    counted = parameters(architecture).by_component
    # it reads 2 x 3712 and splits that over 16 heads
    assert counted["attention"] == 3 * 7424 * 7424 + 3712 * 7424
    assert counted["mlp"] == 3 * 3712 * 14848
    assert counted["other"] == 13 * 3712 * 3712
    groups = state_groups(architecture, architecture.bound(), "bf16")
    assert [(g.layers, g.bytes_per_token) for g in groups if g.kind == "full"] == [(13, 13 * 2 * 7424 * 2)]
    used = [
        block.repeat for block in architecture.blocks for op in block.ops
        if any(name.endswith("shared_transf.feed_forward.down_proj.weight") for name in op.weights)
    ]  # fmt: skip
    assert sum(used) == 13


ZAMBA2 = {
    "model_type": "zamba2", "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 20, "vocab_size": 50,
    "mamba_d_state": 3, "n_mamba_heads": 4, "adapter_rank": 2, "num_mem_blocks": 2, "use_shared_attention_adapter": True,
    "layers_block_type": ["mamba", "hybrid", "hybrid", "hybrid"],
}  # fmt: skip


def test_zamba2_holds_two_blocks_for_three_uses_and_an_adapter_for_each_use() -> None:
    counted = components(ZAMBA2)
    assert counted["attention"] == 2 * (3 * 16 * 16 + 8 * 16) + 3 * 3 * (2 * 16 + 16 * 2)
    assert counted["mlp"] == 2 * 3 * 8 * 20 + 3 * (2 * 8 + 40 * 2)
    names = {t.name for _, t in architecture_of(ZAMBA2).tensors()}
    assert "model.layers.1.shared_transformer.feed_forward.gate_up_proj_adapter_list.2.0.weight" in names
    assert "model.layers.3.shared_transformer.feed_forward.gate_up_proj.weight" not in names


FALCON_H1 = {
    "model_type": "falcon_h1", "hidden_size": 5120, "num_hidden_layers": 72, "num_attention_heads": 20, "num_key_value_heads": 4,
    "head_dim": 128, "intermediate_size": 21504, "vocab_size": 261120, "mamba_d_ssm": 4096, "mamba_n_heads": 32,
    "mamba_d_head": 128, "mamba_n_groups": 2, "mamba_d_state": 256,
}  # fmt: skip


def test_falcon_h1_keeps_kv_and_a_state_in_every_layer() -> None:
    # 147,456 bytes a token and 154 MB
    assert in_bf16(FALCON_H1, 1000) == 147_456_000 + 72 * 2 * (32 * 128 * 256 + 4 * (4096 + 2 * 2 * 256))


def test_falcon_h1_has_a_gated_norm_only_where_it_says_so() -> None:
    plain, normed = components(FALCON_H1), components(FALCON_H1 | {"mamba_rms_norm": True})
    assert normed == plain | {"norm": plain["norm"] + 72 * 4096}


MINIMAX = {
    "model_type": "minimax_text_01", "hidden_size": 6144, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 9216, "vocab_size": 200064, "num_local_experts": 32,
    "num_experts_per_tok": 2, "attn_type_list": [0, 0, 0, 0, 0, 0, 0, 1] * 10, "shared_intermediate_size": 0,
}  # fmt: skip


def test_minimax_text_01_keeps_kv_in_ten_of_80_layers_and_a_matrix_per_head_in_the_others() -> None:
    assert in_bf16(MINIMAX, 1000) == 10 * 2 * 8 * 128 * 2 * 1000 + 70 * 64 * 128 * 128 * 2 == 40_960_000 + 146_800_640


def test_minimax_layer_lists_in_codes_and_in_words_mean_the_same() -> None:
    words = ["linear_attention" if code == 0 else "full_attention" for code in [0, 0, 0, 0, 0, 0, 0, 1] * 10]
    told = {k: v for k, v in MINIMAX.items() if k != "attn_type_list"} | {"layer_types": words}
    assert parameters(architecture_of(told)) == parameters(architecture_of(MINIMAX))


def test_decay_factors_that_the_class_saves_stand_beside_minimax() -> None:
    saved = architecture_of(MINIMAX | {"model_type": "minimax", "block_size": 4})
    assert beside(saved) == {"decay factors": 70 * 64 * (1 + 4 + 4 + 16)}


LFM2 = {
    "model_type": "lfm2", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 65536, "block_ff_dim": 12288, "full_attn_idxs": [2, 5, 8, 10, 12, 14],
}  # fmt: skip


def test_lfm2_mlps_are_two_thirds_as_wide_as_the_file_says() -> None:
    # LFM2-1.2B: 12,288 means 8,192; taken as it stands, 402,653,184 parameters more
    assert components(LFM2)["mlp"] == 16 * 3 * 2048 * 8192
    assert components(LFM2 | {"block_auto_adjust_ff_dim": False})["mlp"] == 16 * 3 * 2048 * 8192 + 402_653_184


def test_lfm2_keeps_three_columns_where_it_has_convolutions_and_kv_elsewhere() -> None:
    assert in_bf16(LFM2, 100) == 10 * 3 * 2048 * 2 + 6 * 2 * 8 * 64 * 2 * 100


def test_lfm2_moe_is_dense_first_and_its_expert_biases_stand_beside_the_model() -> None:
    config = LFM2 | {
        "model_type": "lfm2_moe", "intermediate_size": 7168, "moe_intermediate_size": 1792, "num_experts": 32,
        "num_experts_per_tok": 4, "num_dense_layers": 2,
    }  # fmt: skip
    counted = components(config | {"block_ff_dim": None})
    assert (counted["mlp"], counted["routed_experts"]) == (2 * 3 * 2048 * 7168, 14 * 32 * 3 * 2048 * 1792)
    assert beside(architecture_of(config)) == {"router biases": 14 * 32}


GRANITE = {
    "model_type": "granitemoehybrid", "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 6,
    "shared_intermediate_size": 10, "vocab_size": 50, "mamba_n_heads": 4, "mamba_d_state": 3, "num_local_experts": 4,
    "num_experts_per_tok": 2, "layer_types": ["mamba", "attention", "mamba"],
}  # fmt: skip


def test_granite_4_has_an_mlp_beside_its_experts_and_only_that_where_it_has_none() -> None:
    counted = components(GRANITE)
    assert (counted["routed_experts"], counted["shared_expert"]) == (3 * 4 * 3 * 8 * 6, 3 * 3 * 8 * 10)
    dense = components(GRANITE | {"num_local_experts": 0, "num_experts_per_tok": 0})
    assert dense == {k: v for k, v in counted.items() if k not in ("routed_experts", "router", "shared_expert")} | {
        "mlp": 3 * 3 * 8 * 10
    }


GRIFFIN = {
    "model_type": "recurrent_gemma", "hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 20, "vocab_size": 50, "attention_window_size": 6,
}  # fmt: skip


def test_recurrent_gemma_halves_its_mlp_and_gates_within_each_head() -> None:
    # three recurrent layers: in 2 x (8x8 + 8), convolution 8x4 + 8, two gates of 2 heads x (4x4 + 4), decay 8, out 8x8 + 8
    assert components(GRIFFIN) == {
        "ssm_or_linear_attn": 3 * (2 * 72 + 40 + 2 * 2 * 20 + 8 + 72),
        "attention": 2 * 64 + 2 * 32 + 8,
        "mlp": 4 * (3 * 80 + 2 * 10 + 8),
        "token_embedding": 400,
        "norm": 9 * 8,
    }


def test_recurrent_gemma_keeps_a_window_and_one_column_less_than_its_convolution_is_wide() -> None:
    assert state(GRIFFIN) == [
        ("recurrent", 3, 0, 3 * 3 * 8 * 2, "bf16"),
        ("recurrent", 3, 0, 3 * 8 * 4, "fp32"),
        ("sliding", 1, 2 * 4 * 2, 0, "bf16"),
    ]
    assert in_bf16(GRIFFIN, 100) == 3 * (3 + 1) * 8 * 2 + 6 * 2 * 4 * 2


def test_rwkv_keeps_two_tokens_and_three_numbers_per_channel_in_fp32() -> None:
    config = {"model_type": "rwkv", "hidden_size": 6, "num_hidden_layers": 3, "vocab_size": 50}
    assert sum(fixed for _, _, _, fixed, _ in state(config)) == 3 * 6 * (2 * 2 + 3 * 4)
    counted = components(config)
    assert counted["attention"] == 3 * (4 * 36 + 5 * 6)
    assert counted["mlp"] == 3 * (2 * 6 * 24 + 36 + 2 * 6)
    assert (counted["norm"], counted["other"]) == (3 * 24 + 12, 12)


XLSTM = {"model_type": "xlstm", "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 2, "vocab_size": 50}


def test_xlstm_keeps_a_matrix_a_vector_and_a_number_per_head_and_one_counter() -> None:
    # heads of 8 (queries and keys) x 16 (values)
    assert in_bf16(XLSTM, 5) == in_bf16(XLSTM, 5000) == 2 * (2 * 2 * (8 * 16 + 8 + 1) + 1)
    assert state(XLSTM)[1] == ("recurrent", 2, 0, 2 * 2 * 137 * 4, "fp32")


def test_xlstm_rounds_its_mlp_up_and_the_fused_form_holds_as_many_parameters() -> None:
    # 2.667 x 32 is 85.3: 128
    assert components(XLSTM)["mlp"] == 2 * 3 * 32 * 128
    assert components(XLSTM | {"weight_mode": "fused"}) == components(XLSTM)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (NANO | {"hybrid_override_pattern": "M*X"}, "hybrid_override_pattern has the letter 'X', which is not described for this model type"),
        (MINIMAX | {"attn_type_list": [2] * 80}, "attn_type_list has the code 2; known are 0 (lightning) and 1 (full attention)"),
        (MINIMAX | {"shared_intermediate_size": 64}, "shared_intermediate_size 64 is not described for MiniMax; published files have none"),
        (XLSTM | {"weight_mode": "split"}, "weight_mode 'split' is not described for xLSTM; known are single and fused"),
        (GRIFFIN | {"block_types": ["hyena"]}, "block_types names the layer kind 'hyena', which is not described for this model type"),
        (NANO | {"mamba_ssm_cache_dtype": "int4"}, "mamba_ssm_cache_dtype is 'int4'; the recurrent state is described in float32, bfloat16, float16"),
    ],
)  # fmt: skip
def test_a_variant_that_is_not_described_is_named_and_not_guessed(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CannotAnswer) as caught:
        architecture_of(config)
    assert caught.value.message == sentence


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (JAMBA | {"attn_layer_offset": 8}, "the configuration contradicts itself: attn_layer_offset 8 is not below attn_layer_period 8"),
        (MAMBA2 | {"n_groups": 3}, "the configuration contradicts itself: the Mamba groups do not divide the Mamba heads (4 / 3 is not whole)"),
        (LFM2 | {"full_attn_idxs": [16]}, "full_attn_idxs in the configuration must list layer numbers from 0 to 15"),
        (LFM2 | {"block_ffn_dim_multiplier": -1}, "block_ffn_dim_multiplier in the configuration must be a positive number, not -1"),
        (MINIMAX | {"attn_type_list": [0]}, "attn_type_list in the configuration has 1 entries for 80 layers"),
        (XLSTM | {"num_heads": 5}, "the configuration contradicts itself: the heads do not divide qk_dim_factor x hidden_size (16 / 5 is not whole)"),
        (NANO | {"hybrid_override_pattern": ""}, "the configuration lists 0 layers; 1 to 10000 are described"),
    ],
)  # fmt: skip
def test_a_configuration_that_contradicts_itself_is_refused_in_one_sentence(
    config: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        architecture_of(config)
    assert caught.value.message == sentence
