"""Descendants of Llama and their mixtures: counts and caches by hand, and where reading a field plainly would be wrong."""

from __future__ import annotations

from typing import Any

import pytest

from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.parameters import parameters
from advisor_mcp.formulas.state import state_bytes, state_groups

SMALL = {
    "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16,
    "num_hidden_layers": 2, "vocab_size": 32,
}  # fmt: skip
# by hand, per layer: q 8x8, k and v 4x8 each, o 8x8; gate, up, down 16x8 each
ATTENTION, MLP, TABLE = 192, 384, 256
PLAIN = 2 * 16 * 8  # an MLP of two matrices
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}


def small(model_type: str, **changes: Any) -> Architecture:
    config = {**SMALL, "model_type": model_type, **changes}
    return architecture_of({name: value for name, value in config.items() if value is not ...})


def counted(model_type: str, **changes: Any) -> dict[str, int]:
    return parameters(small(model_type, **changes)).by_component


def caches(architecture: Architecture) -> list[tuple[str, int, float, int | None]]:
    groups = state_groups(architecture, architecture.bound(), "bf16")
    return [(group.kind, group.layers, group.bytes_per_token, group.cap_tokens) for group in groups]


def beside(architecture: Architecture) -> dict[str, int]:
    sizes = architecture.bound()
    return {
        block.name: sum(block.repeat * tensor.elements(sizes) for tensor in block.tensors)
        for block in architecture.beside
    }


def reach(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    return {
        block.name: block.layers for block in architecture.blocks if block.name not in ("embedding", "head")
    }  # fmt: skip


def test_orion_has_layer_norms_of_two_vectors() -> None:
    assert counted("orion") == {
        "mlp": 2 * MLP,
        "attention": 2 * ATTENTION,
        "token_embedding": TABLE,
        "lm_head": TABLE,
        "norm": 5 * 2 * 8,
    }


def test_baichuan_has_one_matrix_for_q_k_and_v_and_as_many_kv_heads_as_heads() -> None:
    architecture = small("baichuan", num_key_value_heads=...)
    assert parameters(architecture).by_component["attention"] == 2 * (24 * 8 + 8 * 8)
    assert caches(architecture) == [("full", 2, 2 * 2 * 8 * 2, None)]
    with pytest.raises(UsageError, match="Baichuan has as many KV heads as heads, 2, not 1"):
        small("baichuan")


def test_internlm_biases_its_attention_unless_the_file_says_not_to() -> None:
    assert counted("internlm")["attention"] == 2 * (ATTENTION + 8 + 4 + 4 + 8)
    assert counted("internlm", bias=False)["attention"] == 2 * ATTENTION


def test_internlm2_biases_its_fused_matrix_and_the_output_and_never_the_mlp() -> None:
    biased = counted("internlm2")
    assert (biased["attention"], biased["mlp"]) == (2 * (ATTENTION + 16 + 8), 2 * MLP)
    assert counted("internlm2", bias=False)["attention"] == 2 * ATTENTION


def test_internlm3_names_the_biases_of_q_k_v_apart_from_all_others() -> None:
    split = counted("internlm3", head_dim=4, qkv_bias=True, bias=False)
    assert (split["attention"], split["mlp"]) == (2 * (ATTENTION + 8 + 4 + 4), 2 * MLP)
    rest = counted("internlm3", head_dim=4, qkv_bias=False, bias=True)
    assert (rest["attention"], rest["mlp"]) == (2 * (ATTENTION + 8), 2 * (MLP + 16 + 16 + 8))


@pytest.mark.parametrize("model_type", ["aquila", "xverse", "Yi", "minicpm", "exaone", "iquestcoder"])
def test_llama_under_another_name_counts_as_llama(model_type: str) -> None:
    as_llama = counted("llama", tie_word_embeddings=False)
    assert counted(model_type, tie_word_embeddings=False, head_dim=4) == as_llama


def test_minicpm_and_exaone_tie_their_embeddings_where_the_file_does_not_say() -> None:
    assert {name: small(name).tied for name in ("minicpm", "exaone", "telechat", "aquila", "xverse")} == {
        "minicpm": True,
        "exaone": True,
        "telechat": True,
        "aquila": False,
        "xverse": False,
    }


def test_exaone_calls_its_layers_num_layers() -> None:
    assert small("exaone", num_hidden_layers=..., num_layers=3).layers == 3


def test_minicpm_with_experts_gives_each_the_intermediate_size() -> None:
    found = parameters(small("minicpm", **EXPERTS))
    assert (found.by_component["routed_experts"], found.by_component["router"]) == (2 * 4 * MLP, 2 * 4 * 8)
    assert found.total - found.active == 2 * 2 * MLP


def test_xverse_with_experts_widens_the_shared_one_by_their_number() -> None:
    found = counted("xverse", num_experts=4, moe_top_k=2, num_shared_experts=3)
    assert (found["routed_experts"], found["shared_expert"]) == (2 * 4 * MLP, 2 * 3 * MLP)
    with pytest.raises(CannotAnswer, match="mixtures of experts are not described for the model type 'aquila'"):
        small("aquila", num_experts=4, moe_top_k=2)


TELECHAT = {
    "model_type": "telechat", "hidden_size": 8, "n_head": 2, "n_layer": 2, "ffn_hidden_size": 16, "vocab_size": 32,
}  # fmt: skip


def test_telechat_joins_keys_and_values_and_biases_only_what_ends_attention_and_mlp() -> None:
    found = parameters(architecture_of(TELECHAT)).by_component
    assert found == {
        "mlp": 2 * (MLP + 8),
        "attention": 2 * (8 * 8 + 16 * 8 + 8 * 8 + 8),
        "token_embedding": TABLE,
        "norm": 5 * 8,
    }
    second = architecture_of(TELECHAT | {"num_key_value_heads": 1, "tie_word_embeddings": False})
    assert parameters(second).by_component["attention"] == 2 * (8 * 8 + 8 * 8 + 8 * 8 + 8)
    assert caches(second) == [("full", 2, 2 * 2 * 4 * 2, None)]


def test_telechat_with_a_norm_of_its_embeddings_is_not_guessed() -> None:
    with pytest.raises(CannotAnswer, match="a norm of the embeddings is not described for TeleChat"):
        architecture_of(TELECHAT | {"embed_layernorm": True})


def test_cohere_has_one_norm_a_layer_and_ties_its_embeddings() -> None:
    assert counted("cohere") == {
        "mlp": 2 * MLP,
        "attention": 2 * ATTENTION,
        "token_embedding": TABLE,
        "norm": 3 * 8,
    }


def test_command_r_plus_has_a_norm_vector_for_each_head_of_queries_and_keys() -> None:
    plus = {
        "model_type": "cohere", "hidden_size": 12288, "num_hidden_layers": 64, "num_attention_heads": 96,
        "num_key_value_heads": 8, "intermediate_size": 33792, "vocab_size": 256000, "use_qk_norm": True,
    }  # fmt: skip
    assert parameters(architecture_of(plus)).by_component["qk_norm"] == 64 * (96 + 8) * 128 == 851_968


def test_cohere2_sees_everything_in_every_fourth_layer_or_as_the_file_has_it() -> None:
    assert reach(small("cohere2", num_hidden_layers=5)) == {"dense-sliding": (0, 1, 2, 4), "dense-full": (3,)}
    assert reach(small("cohere2", num_hidden_layers=5, sliding_window_pattern=2)) == {
        "dense-sliding": (0, 2, 4),
        "dense-full": (1, 3),
    }


def test_cohere_experts_follow_dense_layers_of_a_width_of_their_own() -> None:
    found = counted(
        "cohere2_moe", head_dim=4, first_k_dense_replace=1, prefix_dense_intermediate_size=24, num_shared_experts=2,
        **EXPERTS,
    )  # fmt: skip
    assert (found["mlp"], found["routed_experts"], found["shared_expert"]) == (3 * 24 * 8, 4 * MLP, 2 * MLP)


def test_olmo_1_has_norms_without_parameters() -> None:
    assert counted("olmo") == {
        "mlp": 2 * MLP,
        "attention": 2 * ATTENTION,
        "token_embedding": TABLE,
        "lm_head": TABLE,
    }


def test_olmo_2_normalises_queries_and_keys_over_their_full_width() -> None:
    assert counted("olmo2")["qk_norm"] == 2 * (8 + 4)
    seven_b = {
        "model_type": "olmo2", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "intermediate_size": 11008, "vocab_size": 100352,
    }  # fmt: skip
    assert parameters(architecture_of(seven_b)).by_component["qk_norm"] == 32 * 2 * 4096 == 262_144


def test_olmo_3_keeps_a_window_in_three_of_four_layers() -> None:
    architecture = small("olmo3", num_hidden_layers=5, sliding_window=3)
    assert caches(architecture) == [("sliding", 4, 4 * 2 * 4 * 2, 3), ("full", 1, 2 * 4 * 2, None)]


def test_a_null_window_sees_everything_and_an_absent_one_is_the_default_of_the_class() -> None:
    nulled = small("olmo3", num_hidden_layers=4, sliding_window=None)
    assert caches(nulled) == [("full", 4, 4 * 2 * 4 * 2, None)]
    absent = small("olmo3", num_hidden_layers=4)
    assert [group[3] for group in caches(absent)] == [4096, None]
    assert absent.notes == ("sliding_window is absent: 4096, the default of Olmo3Config",)


def test_an_absent_number_of_kv_heads_is_the_default_of_the_class_and_a_null_one_is_one_per_head() -> None:
    absent = small("bitnet", num_attention_heads=5, hidden_size=40, num_key_value_heads=...)
    assert (absent.sizes["kvh"], absent.notes) == (
        5,
        ("num_key_value_heads is absent: 5, the default of BitNetConfig",),
    )
    nulled = small("bitnet", num_key_value_heads=None)
    assert (nulled.sizes["kvh"], nulled.notes) == (2, ())


def test_olmoe_experts_have_the_intermediate_size_and_its_heads_fill_the_hidden_size() -> None:
    found = counted("olmoe", **EXPERTS)
    assert (found["routed_experts"], found["qk_norm"]) == (2 * 4 * MLP, 2 * (8 + 4))
    with pytest.raises(UsageError, match="needs heads as wide as hidden_size 8 together, not 2 x 8"):
        small("olmoe", head_dim=8, **EXPERTS)


def test_granite_shares_an_mlp_beside_its_experts_only_where_it_has_a_width() -> None:
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    assert "shared_expert" not in counted("granitemoeshared", **experts)
    assert counted("granitemoeshared", shared_intermediate_size=6, **experts)["shared_expert"] == 2 * 3 * 6 * 8
    assert counted("granitemoe", shared_intermediate_size=6, **experts) == counted("granitemoe", **experts)


def test_windowed_granite_has_a_sink_for_each_head_and_begins_with_a_full_layer() -> None:
    architecture = small("granite_swa", num_hidden_layers=5)
    assert reach(architecture) == {"dense-full": (0, 4), "dense-sliding": (1, 2, 3)}
    assert parameters(architecture).by_component["attention"] == 5 * (ATTENTION + 2)


@pytest.mark.parametrize("model_type", ["nemotron", "arcee"])
def test_an_mlp_of_two_matrices_is_not_counted_as_three(model_type: str) -> None:
    assert counted(model_type)["mlp"] == 2 * PLAIN


def test_nemotron_340b_would_be_130_billion_larger_were_its_mlp_gated() -> None:
    config = {
        "model_type": "nemotron", "hidden_size": 18432, "num_hidden_layers": 96, "num_attention_heads": 96,
        "num_key_value_heads": 8, "intermediate_size": 73728, "vocab_size": 256000,
    }  # fmt: skip
    found = parameters(architecture_of(config)).by_component
    assert found["mlp"] == 96 * 2 * 18432 * 73728
    assert found["norm"] == (96 * 2 + 1) * 2 * 18432
    assert round(found["mlp"] / 2e9, 1) == 130.5


def test_jais_2_is_biased_throughout_unless_the_file_says_not_to() -> None:
    found = counted("jais2")
    assert (found["attention"], found["mlp"]) == (2 * (ATTENTION + 8 + 4 + 4 + 8), 2 * (PLAIN + 16 + 8))
    assert counted("jais2", attention_bias=False, mlp_bias=False)["mlp"] == 2 * PLAIN


def test_apertus_learns_two_scalars_a_layer_and_stores_two_constants_beside_them() -> None:
    architecture = small("apertus")
    assert parameters(architecture).by_component["mlp"] == 2 * (PLAIN + 2)
    assert beside(architecture) == {"activation constants": 2 * 2}
    assert parameters(small("apertus", hidden_act="relu2")).by_component["mlp"] == 2 * PLAIN


def test_bitnet_has_a_norm_before_each_output_projection() -> None:
    assert counted("bitnet")["norm"] == 2 * (3 * 8 + 16) + 8


def test_helium_projects_its_output_from_the_hidden_size_and_refuses_heads_of_another_width() -> None:
    assert counted("helium", head_dim=4, attention_bias=True)["attention"] == 2 * (ATTENTION + 8 + 4 + 4)
    with pytest.raises(UsageError, match="this model type needs heads as wide as hidden_size 8 together, not 2 x 3"):
        small("helium", head_dim=3)


def test_smollm3_ignores_its_window_unless_told_to_use_it() -> None:
    listed = ["sliding_attention"] * 2
    unused = small("smollm3", sliding_window=3, layer_types=listed)
    assert caches(unused) == [("full", 2, 2 * 2 * 4 * 2, None)]
    used = small("smollm3", sliding_window=3, use_sliding_window=True, num_hidden_layers=4)
    assert reach(used) == {"dense-full": (0, 1, 2), "dense-sliding": (3,)}


def test_vaultgemma_keeps_gemmas_windows_and_drops_the_norms_after_attention_and_mlp() -> None:
    architecture = small("vaultgemma", head_dim=4, sliding_window=3)
    assert parameters(architecture).by_component["norm"] == 5 * 8
    assert caches(architecture) == [("sliding", 1, 2 * 4 * 2, 3), ("full", 1, 2 * 4 * 2, None)]


def test_diffllama_adds_four_vectors_a_layer_and_needs_kv_heads_in_pairs() -> None:
    whole = ATTENTION + 2 * 4 * 8  # with two KV heads, k and v are 8x8
    assert counted("diffllama", num_key_value_heads=2)["attention"] == 2 * (whole + 4 * 4)
    with pytest.raises(UsageError, match="num_key_value_heads is odd"):
        small("diffllama")


def test_minicpm3_caches_one_latent_and_one_rotary_key_for_all_heads() -> None:
    latent = {"kv_lora_rank": 4, "qk_rope_head_dim": 2, "qk_nope_head_dim": 3}
    architecture = small("minicpm3", q_lora_rank=6, **latent)
    # q: 8->6->2x5; kv: 8->4+2, 4->2x(3+4), values as wide as 8 / 2; o: 2x4->8
    assert parameters(architecture).by_component["attention"] == 2 * (6 * 8 + 10 * 6 + 6 * 8 + 14 * 4 + 8 * 8)
    assert caches(architecture) == [("latent", 2, 2 * (4 + 2) * 2, None)]
    direct = counted("minicpm3", q_lora_rank=None, **latent)
    assert direct["attention"] == 2 * (10 * 8 + 6 * 8 + 14 * 4 + 8 * 8)


def test_afmoe_gates_its_attention_and_counts_the_routers_bias() -> None:
    found = counted(
        "afmoe", head_dim=4, num_dense_layers=1, moe_intermediate_size=6, num_shared_experts=2, num_hidden_layers=2,
        **EXPERTS,
    )  # fmt: skip
    assert found == {
        "attention": 2 * (ATTENTION + 8 * 8),
        "qk_norm": 2 * 8,
        "norm": 2 * 4 * 8 + 8,
        "mlp": MLP,
        "routed_experts": 4 * 3 * 6 * 8,
        "shared_expert": 3 * 12 * 8,
        "router": 4 * 8 + 4,
        "token_embedding": TABLE,
        "lm_head": TABLE,
    }


def test_mellum_mixes_dense_and_sparse_windowed_and_full_layers_as_listed() -> None:
    architecture = small(
        "mellum", head_dim=4, num_local_experts=4, num_experts_per_tok=2, moe_intermediate_size=6, sliding_window=3,
        layer_types=["full_attention", "sliding_attention"], mlp_layer_types=["sparse", "dense"],
        num_nextn_predict_layers=1,
    )  # fmt: skip
    assert reach(architecture) == {"moe-full": (0,), "dense-sliding": (1,)}
    assert architecture.not_described == (
        "1 prediction layer(s), stored in the checkpoint beside the model, are not counted",
    )


def test_exaone_4_reads_a_pattern_of_letters_and_never_windows_the_last_layer() -> None:
    assert reach(small("exaone4", num_hidden_layers=6, sliding_window=3, sliding_window_pattern="LLLG")) == {
        "dense-sliding": (0, 1, 2, 4),
        "dense-full": (3, 5),
    }
    with pytest.raises(CannotAnswer, match="sliding_window_pattern 'LXG' is not described"):
        small("exaone4", sliding_window_pattern="LXG")


def test_exaone_4_without_a_window_sees_everything_whatever_its_pattern() -> None:
    architecture = small("exaone4", sliding_window=None, sliding_window_pattern=None)
    assert caches(architecture) == [("full", 2, 2 * 2 * 4 * 2, None)]


def test_k_exaone_stores_a_router_bias_and_a_dense_prediction_layer_beside_the_model() -> None:
    architecture = small("exaone_moe", moe_intermediate_size=6, num_nextn_predict_layers=1, **EXPERTS)
    without = small("exaone_moe", moe_intermediate_size=6, **EXPERTS)
    assert parameters(architecture) == parameters(without)
    assert beside(without) == {"router bias": 4}
    # the layer: attention, norms of q and k, MLP and two norms; before it 16 -> 8 and two norms, after it one
    assert beside(architecture) == {
        "router bias": 4,
        "prediction projection": 2 * 8 * 8 + 3 * 8,
        "prediction layer": ATTENTION + 8 + MLP + 16,
    }


DBRX = {
    "model_type": "dbrx", "d_model": 8, "n_heads": 2, "n_layers": 2, "vocab_size": 32,
    "attn_config": {"kv_n_heads": 1}, "ffn_config": {"ffn_hidden_size": 6, "moe_num_experts": 4, "moe_top_k": 2},
}  # fmt: skip


def test_dbrx_reads_nested_names_and_has_norms_without_bias() -> None:
    found = parameters(architecture_of(DBRX))
    assert found.by_component == {
        "routed_experts": 2 * 4 * 3 * 6 * 8,
        "attention": 2 * ATTENTION,
        "token_embedding": TABLE,
        "lm_head": TABLE,
        "router": 2 * 4 * 8,
        "norm": 5 * 8,
    }
    assert found.total - found.active == 2 * 2 * 3 * 6 * 8


def test_dbrx_without_nested_parts_has_the_defaults_of_their_classes_and_says_so() -> None:
    bare = {name: value for name, value in DBRX.items() if not name.endswith("_config")}
    assert architecture_of(bare).notes == (
        "attn_config.kv_n_heads is absent: 1, the default of DbrxAttentionConfig",
        "ffn_config.moe_num_experts is absent: 4, the default of DbrxFFNConfig",
        "ffn_config.moe_top_k is absent: 1, the default of DbrxFFNConfig",
        "ffn_config.ffn_hidden_size is absent: 3584, the default of DbrxFFNConfig",
    )
    with pytest.raises(UsageError, match="which DBRX does not support"):
        architecture_of(DBRX | {"tie_word_embeddings": True})


def test_jetmoe_routes_queries_and_outputs_and_shares_keys_and_values() -> None:
    architecture = small(
        "jetmoe", num_attention_heads=..., num_key_value_heads=2, kv_channels=3, num_local_experts=4,
        num_experts_per_tok=2,
    )  # fmt: skip
    found = parameters(architecture)
    assert found.by_component == {
        "routed_experts": 2 * 4 * (2 * 6 * 8 + MLP),
        "attention": 2 * (2 * 6 * 8 + 8),
        "router": 2 * 2 * 4 * 8,
        "mlp": 2 * 8,
        "norm": 5 * 8,
        "token_embedding": TABLE,
    }
    assert found.total - found.active == found.by_component["routed_experts"] // 2
    assert caches(architecture) == [("full", 2, 2 * 2 * 6 * 2, None)]


def searched(*blocks: dict[str, Any], **changes: Any) -> Architecture:
    config = {"num_key_value_heads": None, "intermediate_size": None, "block_configs": list(blocks)}
    return small("nemotron-nas", num_hidden_layers=len(blocks), **config, **changes)


ATTENDS = {"n_heads_in_group": 2}


def test_a_searched_model_counts_each_layer_by_its_block() -> None:
    architecture = searched(
        {"attention": ATTENDS, "ffn": {"ffn_mult": 100.0}},
        {"attention": {"no_op": True}, "ffn": {"replace_with_linear": True}},
        {"attention": {"replace_with_linear": True}, "ffn": {"no_op": True}},
    )
    # 2/3 of 100 x 8 is 533, and the next multiple of 256 is 768
    assert parameters(architecture).by_component == {
        "mlp": 3 * 768 * 8 + 8 * 8,
        "attention": ATTENTION + 8 * 8,
        "norm": 2 * 8 + 8 + 8 + 8,
        "token_embedding": TABLE,
        "lm_head": TABLE,
    }
    assert caches(architecture) == [("full", 1, 2 * 4 * 2, None)]


def test_nemotron_super_caches_only_the_49_layers_that_keep_their_attention() -> None:
    keeps = {"attention": {"n_heads_in_group": 8}, "ffn": {"ffn_mult": 2.625}}
    lacks = {"attention": {"no_op": True}, "ffn": {"ffn_mult": 2.625}}
    blocks = [keeps] * 49 + [lacks] * 31
    architecture = searched(*blocks, hidden_size=8192, num_attention_heads=64)
    assert [group[2] for group in caches(architecture)] == [200_704]
    assert {axis: size for axis, size in architecture.sizes.items() if axis.startswith(("ffn", "kvh"))} == {
        "kvh.8": 8,
        "ffn.14336": 14336,
    }


def test_a_block_that_does_not_say_its_groups_is_told_where() -> None:
    with pytest.raises(CannotAnswer) as caught:
        searched({"attention": ATTENDS, "ffn": {"ffn_mult": 2.0}}, {"attention": {}, "ffn": {"ffn_mult": 2.0}})
    assert caught.value.needs == ["block_configs[1].attention.n_heads_in_group"]


def test_decilm_has_kv_heads_by_the_layer() -> None:
    architecture = small("deci", num_key_value_heads=..., num_key_value_heads_per_layer=[2, 1])
    assert parameters(architecture).by_component["attention"] == 2 * ATTENTION + 2 * 4 * 8
    assert state_bytes(state_groups(architecture, architecture.bound(), "bf16"), 10) == (2 + 1) * 2 * 4 * 2 * 10


GROK_2 = {
    "model_type": "git", "hidden_size": 8192, "num_hidden_layers": 64, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 32768, "moe_intermediate_size": 16384,
    "num_local_experts": 8, "num_experts_per_tok": 2, "residual_moe": True, "vocab_size": 131072,
}  # fmt: skip


def test_grok_2_has_a_dense_mlp_beside_its_experts_and_four_norms_a_layer() -> None:
    found = parameters(architecture_of(GROK_2))
    assert found.by_component["mlp"] == 64 * 3 * 8192 * 32768
    assert found.by_component["routed_experts"] == 64 * 8 * 3 * 8192 * 16384
    assert found.by_component["norm"] == (64 * 4 + 1) * 8192
    assert found.total == 269_515_497_472
    lone = parameters(architecture_of(GROK_2 | {"residual_moe": False}))
    assert "mlp" not in lone.by_component


def test_the_model_type_git_is_not_read_as_grok_without_experts() -> None:
    with pytest.raises(CannotAnswer, match="described for Grok-2 alone") as caught:
        architecture_of({name: value for name, value in GROK_2.items() if name != "num_local_experts"})
    assert caught.value.needs == ["num_local_experts"]


def test_grok_1_gives_each_expert_the_intermediate_size() -> None:
    found = counted("grok-1", **EXPERTS)
    assert (found["routed_experts"], found["norm"]) == (2 * 4 * MLP, 2 * 4 * 8 + 8)
    assert "lm_head" not in found
