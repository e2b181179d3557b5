"""The text decoders of 2026 and the small ones beside them: what they hold and keep, by hand and against their classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.flops import forward
from advisor_mcp.formulas.parameters import parameters
from advisor_mcp.formulas.state import state_bytes, state_groups

CASES = Path(__file__).resolve().parents[1] / "cases" / "counts"


def config(family: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    """A recorded configuration, with these fields in place of its own."""
    cases = json.loads((CASES / f"{family}.json").read_text(encoding="utf-8"))["cases"]
    return {**cases[index]["config"], **fields}


def described(family: str, index: int = 0, **fields: Any) -> Architecture:
    return architecture_of(config(family, index, **fields))


def kept(architecture: Architecture, length: int) -> int:
    """Bytes of state at two bytes an element."""
    return state_bytes(state_groups(architecture, architecture.bound(), "bf16"), length)


def components(architecture: Architecture) -> dict[str, int]:
    return {role: count for role, count in parameters(architecture).by_component.items() if count}


def names(architecture: Architecture) -> set[str]:
    return {tensor.name for _, tensor in architecture.stored()}


def all_pairs_flops(architecture: Architecture, length: int) -> float:
    """FLOPs of a forward pass that multiplies every query with every key, as eager attention does."""
    sizes = architecture.workload(length, causal=False)
    return forward(architecture, sizes | dict.fromkeys(architecture.spans, length**2)).total


def test_nanochat_has_no_norm_weights_at_all() -> None:
    # 97 x 24 twice; per layer q and o 24 x 24, k and v 8 x 24, and two matrices of 34 x 24
    assert components(described("nanochat")) == {
        "token_embedding": 97 * 24,
        "attention": 3 * (2 * 24 * 24 + 2 * 8 * 24),
        "mlp": 3 * 2 * 34 * 24,
        "lm_head": 97 * 24,
    }


def test_hyperclova_x_has_two_more_norms_a_layer_unless_the_file_says_otherwise() -> None:
    with_post, without = described("hyperclovax"), described("hyperclovax", use_post_norm=False)
    assert components(with_post)["norm"] == 3 * 4 * 24 + 24
    assert components(without)["norm"] == 3 * 2 * 24 + 24


def test_youtu_keeps_one_latent_and_one_rotary_key_per_token_and_layer() -> None:
    assert kept(described("youtu"), 100) == 3 * 100 * (13 + 6) * 2


def test_youtu_ties_its_head_unless_the_file_says_otherwise() -> None:
    tied, untied = described("youtu"), described("youtu", tie_word_embeddings=False)
    assert parameters(untied).total - parameters(tied).total == 97 * 24


def test_kolibri_sees_everything_in_every_fifth_layer_and_a_window_in_the_others() -> None:
    architecture = described("kolibri1")
    assert {block.name: block.layers for block in architecture.blocks[1:-1]} == {
        "moe-sliding": (0, 1, 2, 3, 5), "moe-full": (4,)
    }  # fmt: skip
    # keys and values of two heads of 10; five tokens in a window, all of them elsewhere
    assert kept(architecture, 100) == 2 * 2 * 10 * 2 * (5 * 5 + 100)


def test_kolibri_without_a_window_for_its_windowed_layers_contradicts_itself() -> None:
    with pytest.raises(UsageError, match="sliding_window in the configuration is null"):
        described("kolibri1", sliding_window=None)


def test_ax_k1_normalises_what_its_experts_return_and_stores_that_norm_for_dense_layers_too() -> None:
    architecture = described("axk1")
    held = [block for block, tensor in architecture.tensors() if tensor.name.endswith("post_mlp_layernorm.weight")]
    beside = [block for block in architecture.beside if block.name == "unused norms"]
    assert [block.layers for block in held] == [(1, 2)]
    assert [block.layers for block in beside] == [(0,)]


def test_ax_k2_reads_queries_and_gates_from_the_compressed_queries_before_and_after_their_norm() -> None:
    architecture = described("axk2")
    name = "model.layers.{layer}.self_attn.q_b_proj.weight"
    shapes = {tensor.shape(architecture.bound()) for _, tensor in architecture.tensors() if tensor.name == name}
    assert shapes == {(4 * (10 + 6 + 9), 2 * 11)}


def test_ax_k2_gates_the_second_norm_only_where_there_are_experts() -> None:
    architecture = described("axk2")
    gated = {
        block.layers for block, tensor in architecture.tensors() if "post_attention_layernorm.W_up" in tensor.name
    }  # fmt: skip
    assert gated == {(1, 2)}


def test_ax_k2_keeps_a_latent_and_an_indexer_key() -> None:
    assert kept(described("axk2"), 100) == 3 * 100 * (13 + 6 + 12) * 2


def test_laguna_has_as_many_query_heads_as_each_layer_lists() -> None:
    architecture = described("laguna")
    name = "model.layers.{layer}.self_attn.q_proj.weight"
    found = {
        block.layers: tensor.shape(architecture.bound())
        for block, tensor in architecture.tensors()
        if tensor.name == name
    }
    assert found == {(0,): (40, 24), (1,): (60, 24), (2,): (40, 24)}


def test_laguna_gates_heads_or_elements_and_says_so_of_anything_else() -> None:
    per_head, per_element = described("laguna"), described("laguna", gating="per-element")
    # 4, 6 and 4 heads of 10: a number for each head, or for each of its elements
    assert parameters(per_element).total - parameters(per_head).total == 24 * 14 * (10 - 1)
    with pytest.raises(CannotAnswer, match="gating is 'per-layer'"):
        described("laguna", gating="per-layer")


def test_laguna_refuses_kv_heads_that_do_not_divide_the_heads_of_a_layer() -> None:
    with pytest.raises(UsageError, match="the KV heads do not divide the attention heads of a layer"):
        described("laguna", num_attention_heads_per_layer=[4, 5, 4])


def test_lfm3_keeps_the_columns_of_its_kernel_a_window_or_everything() -> None:
    architecture = described("lfm3")
    kinds = [block.name for block in architecture.blocks[1:-1] for _ in block.layers]
    assert sorted(kinds) == ["conv", "conv", "conv", "full", "sliding"]
    # three convolutions keep 7 columns of 24; keys and values of two heads of 10
    assert kept(architecture, 100) == 2 * (3 * 7 * 24 + 2 * 2 * 10 * (100 + 5))


def test_hy4_keeps_an_indexer_key_only_where_a_layer_has_an_indexer() -> None:
    architecture = described("hy_v4")
    # of six layers 0, 1 and 5 hold one
    assert kept(architecture, 100) == 2 * 100 * (6 * (13 + 6) + 3 * 12)
    assert components(architecture)["sparse_indexer"] == 3 * (36 * 11 + 12 * 24 + 2 * 12 + 3 * 24)


def test_hy4_says_that_its_prediction_layers_are_not_counted() -> None:
    assert described("hy_v4").not_described == (
        "the prediction layers (model.mtp_layers) that the checkpoint holds beside the model",
    )


def test_hy4_mixes_its_streams_with_two_numbers_per_stream_and_part() -> None:
    architecture = described("hy_v4")
    assert components(architecture)["other"] == 3 * 3 * 24 + 3 + 1  # the last mix, over three streams
    fn = [tensor.shape(architecture.bound()) for _, tensor in architecture.tensors() if tensor.name.endswith("hc_fn")]
    assert set(fn) == {(6, 72)}


def test_doge_makes_its_mask_of_the_values_and_attends_to_the_positions_it_keeps() -> None:
    architecture = described("doge", keep_window_size=5)
    assert kept(architecture, 100) == 3 * 100 * 2 * 8 * 2
    assert {span.window for span in architecture.spans.values()} == {5}


def test_doge_chooses_among_pairs_of_keys() -> None:
    architecture = described("doge", 1)
    # 29 experts are addressed by 5 x 5 pairs
    found = components(architecture)
    assert (found["router"], found["routed_experts"]) == (3 * 10 * 24, 3 * 2 * 29 * 24)
    # a token uses 7 of the 29
    assert parameters(architecture).total - parameters(architecture).active == 3 * 2 * (29 - 7) * 24
    with pytest.raises(UsageError, match="exceeds the 5 x 5 pairs of keys"):
        described("doge", 1, num_experts_per_tok=26)


def test_zaya_keeps_keys_values_convolution_columns_and_half_a_value() -> None:
    # kernels of 3 and 2 need 2 + 1 columns of (4 + 2) heads of 6; the value of the token before is half of 2 x 6
    assert kept(described("zaya"), 100) == 3 * 2 * (100 * 2 * 12 + 3 * 36 + 6)


def test_zaya_routes_to_one_expert_or_none() -> None:
    architecture = described("zaya")
    name = "model.layers.{layer}.mlp.gate.router_mlp.out_proj.weight"
    shapes = {tensor.shape(architecture.bound()) for _, tensor in architecture.tensors() if tensor.name == name}
    assert shapes == {(5 + 1, 9)}
    with pytest.raises(CannotAnswer, match="1 expert per token"):
        described("zaya", num_experts_per_tok=2)


@pytest.mark.parametrize(("index", "depthwise", "grouped"), [(0, 3, 2), (1, 2, 3)])
def test_zaya_computes_what_its_class_does_less_the_padding_of_the_convolutions(
    index: int, depthwise: int, grouped: int
) -> None:
    case = json.loads((CASES / "zaya.json").read_text(encoding="utf-8"))["cases"][index]
    architecture, length = architecture_of(case["config"]), case["eager_flops_length"]
    n = architecture.bound()
    # the class convolves the columns before the first token too, and projects one token of zeros for the delayed value
    padding = 2 * n["qk"] * depthwise * (grouped - 1) + 2 * n["h"] * n["kv_half"]
    assert all_pairs_flops(architecture, length) + 3 * padding == case["eager_forward_flops"]


def test_ling_3_keeps_a_matrix_per_head_in_five_layers_of_six_and_a_latent_in_the_sixth() -> None:
    architecture = described("bailing_hybrid")
    matrices, columns = 4 * 10 * 10, 3 * (3 * 4 * 10)
    assert kept(architecture, 100) == 2 * (6 * (matrices + columns) + 100 * (13 + 6))
    groups = {(g.kind, g.dtype) for g in state_groups(architecture, architecture.bound())}
    assert ("recurrent", "fp32") in groups


def test_ling_3_ties_nothing_whatever_the_file_says() -> None:
    tied, untied = described("bailing_hybrid", 1), described("bailing_hybrid", 1, tie_word_embeddings=False)
    assert parameters(tied).total == parameters(untied).total


def test_hrm_text_runs_its_stacks_in_turn_and_caches_every_run() -> None:
    architecture = described("hrm_text")
    # two stacks of 3 layers; the low one runs 2 x 3 times, the high one twice: 24 layers of keys and values of 6 x 10
    assert kept(architecture, 100) == 24 * 100 * 2 * 60 * 2
    once = described("hrm_text", H_cycles=1, L_cycles=1)
    assert parameters(once) == parameters(architecture)
    head = 2 * 11 * 24 * 97
    assert all_pairs_flops(architecture, 11) - head == 4 * (all_pairs_flops(once, 11) - head)


def test_hrm_text_reads_the_depth_of_a_stack_from_files_that_transformers_wrote() -> None:
    written = described("hrm_text", num_hidden_layers=24, num_layers_per_stack=3)
    assert parameters(written) == parameters(described("hrm_text"))


def test_modernberts_decoder_sees_half_of_its_local_attention() -> None:
    architecture = described("modernbert_decoder")
    # layers 0 and 3 of five see everything, the others the last 5 tokens of 10; keys and values of 6 x 4
    assert kept(architecture, 100) == 2 * 2 * 24 * (2 * 100 + 3 * 5)


def test_muse_sees_everything_in_every_fourth_layer_from_the_last() -> None:
    architecture = described("muse")
    layers = {block.name: block.layers for block in architecture.blocks[1:-1]}
    assert layers == {"dense-full": (0, 4), "dense-sliding": (1, 2, 3)}


def test_muse_spark_runs_its_experts_in_a_narrower_stream() -> None:
    architecture = described("muse", 2)
    # five layers of 5 experts, each 3 x 7 x 9
    assert components(architecture)["routed_experts"] == 5 * 5 * 3 * 7 * 9


@pytest.mark.parametrize(("family", "index"), [("muse", 0), ("muse", 2), ("glm5_next", 0)])
def test_a_decoder_behind_a_tower_is_the_decoder_and_says_that_the_tower_is_missing(family: str, index: int) -> None:
    text = config(family, index)
    whole = architecture_of({"model_type": text["model_type"].removesuffix("_text"), "text_config": text})
    alone = architecture_of(text)
    assert parameters(whole) == parameters(alone)
    assert [line for line in whole.not_described if "tower" in line]
    assert "model.language_model.embed_tokens.weight" in names(whole)


def test_glm_5_3_flash_keeps_keys_and_gates_of_its_pools_and_no_rotary_key() -> None:
    architecture = described("glm5_next")
    # of eight layers 3 and 7 are sparse and hold an indexer: a latent of 13, and a key, a gate and a mark
    matrices, columns = 3 * 8 * 8, 3 * (3 * 3 * 8)
    assert kept(architecture, 100) == 2 * (6 * (matrices + columns) + 2 * 100 * (13 + 2 * 12 + 1))


def test_glm_5_3_flash_scores_a_pool_once() -> None:
    small, large = described("glm5_next", 1, index_kpool=4), described("glm5_next", 1, index_kpool=8)
    # two layers hold an indexer of 3 heads of 12; 12 x 12 pairs
    scored = 2 * 144 * (3 * 12 + 3)
    assert all_pairs_flops(small, 12) - all_pairs_flops(large, 12) == 2 * scored * (1 / 4 - 1 / 8)


def test_glm_5_3_flash_refuses_rotary_positions_and_pools_that_do_not_divide() -> None:
    with pytest.raises(CannotAnswer, match="qk_rope_head_dim is not 0"):
        described("glm5_next", qk_rope_head_dim=8)
    with pytest.raises(UsageError, match="index_kpool 5 does not divide index_topk"):
        described("glm5_next", index_kpool=5)


def test_qwen4_exp_looks_n_grams_up_in_tables_of_prime_sizes() -> None:
    architecture = described("qwen4_exp")
    tables = [architecture.sizes[axis] for axis in architecture.sizes if axis.startswith("ngrams.")]
    # four heads a table: 53 + 59 + 61 + 67 = 240 and 71 + 73 + 79 + 83 = 306, in multiples of 16
    assert tables == [240, 320]
    assert components(architecture)["per_layer_embedding"] == (240 + 320) * (40 // 4)


def test_qwen4_exp_keeps_the_columns_and_tokens_of_its_n_grams() -> None:
    architecture = described("qwen4_exp")
    delta = 4 * 5 * 7 + 3 * (2 * 2 * 5 + 4 * 7)
    n_grams = 3 * 3 * (3 * 24) + 2
    sparse = 100 * (2 * 2 * 8 + 10)
    assert kept(architecture, 100) == 2 * (4 * delta + 2 * n_grams + sparse)


def test_qwen4_exp_has_no_norm_before_its_parts() -> None:
    assert not [
        name for name in names(described("qwen4_exp")) if name.endswith("layernorm.weight") and "indexer" not in name
    ]


@pytest.mark.parametrize("layers", [[4], [9]])
def test_qwen4_exp_refuses_n_grams_in_layers_that_have_no_linear_attention(layers: list[int]) -> None:
    with pytest.raises(UsageError, match="ple_layer_ids in the configuration must name layers"):
        described("qwen4_exp", ple_layer_ids=layers)


def test_qwen4_exp_needs_its_indexer_for_layers_that_are_sparse() -> None:
    with pytest.raises(CannotAnswer, match="indexer_kv_heads"):
        described("qwen4_exp", indexer_kv_heads=None)


def test_gpt_1_ends_without_a_norm_and_normalises_after_its_parts() -> None:
    architecture = described("early_decoders")
    assert components(architecture)["norm"] == 3 * 2 * 2 * 24
    assert "transformer.ln_f.weight" not in names(architecture)


def test_ctrl_ties_its_head_to_the_embedding_and_adds_a_bias() -> None:
    assert components(described("early_decoders", 2))["lm_head"] == 97


def test_biogpt_has_two_rows_of_positions_to_spare() -> None:
    assert components(described("early_decoders", 4))["position_embedding"] == (31 + 2) * 24


def test_gpt_neox_japanese_has_an_attention_bias_in_its_last_layer_alone() -> None:
    architecture = described("early_decoders", 6)
    biased = [block.layers for block, tensor in architecture.tensors() if tensor.name.endswith("dense_bias")]
    assert biased == [(2,)]
