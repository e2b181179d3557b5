"""Families: exact counts, by hand on small configurations and against published totals of the models known by name."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest

from advisor_mcp import knowledge
from advisor_mcp.anatomy import families
from advisor_mcp.anatomy.families import model_types
from advisor_mcp.anatomy.reading import DTYPES, architecture_of
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.parameters import parameters
from advisor_mcp.formulas.state import state_bytes, state_groups

SMALL = {
    "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16,
    "num_hidden_layers": 2, "vocab_size": 32,
}  # fmt: skip
# by hand, per layer: q 8x8, k and v 4x8 each, o 8x8; gate, up, down 16x8 each; two norms of 8
ATTENTION, MLP, NORMS, TABLE = 192, 384, 16, 256


CONTRADICTION = "the configuration contradicts itself:"


def small(model_type: str, **changes: Any) -> dict[str, Any]:
    return {k: v for k, v in {**SMALL, "model_type": model_type, **changes}.items() if v is not ...}


def test_a_llama_layer_counts_by_hand() -> None:
    counted = parameters(architecture_of(small("llama")))
    assert counted.by_component == {
        "mlp": 2 * MLP,
        "attention": 2 * ATTENTION,
        "token_embedding": TABLE,
        "lm_head": TABLE,
        "norm": 2 * NORMS + 8,
    }
    assert counted.total == counted.active == 2 * (ATTENTION + MLP + NORMS) + 2 * TABLE + 8


def test_llama_biases_are_counted_where_the_configuration_sets_them() -> None:
    plain = parameters(architecture_of(small("llama"))).total
    # q 8, k 4, v 4, o 8 and gate 16, up 16, down 8 in each of two layers
    assert parameters(architecture_of(small("llama", attention_bias=True))).total == plain + 2 * 24
    assert parameters(architecture_of(small("llama", mlp_bias=True))).total == plain + 2 * 40


def test_a_tied_head_is_counted_once() -> None:
    tied = parameters(architecture_of(small("llama", tie_word_embeddings=True)))
    assert "lm_head" not in tied.by_component
    assert tied.total == 2 * (ATTENTION + MLP + NORMS) + TABLE + 8


def test_a_head_size_of_its_own_replaces_hidden_size_over_heads() -> None:
    counted = parameters(architecture_of(small("llama", head_dim=16)))
    assert counted.by_component["attention"] == 2 * (8 * 32 + 2 * 8 * 16 + 32 * 8)


def test_qwen2_biases_q_k_v_and_qwen3_normalises_q_and_k_per_head() -> None:
    assert parameters(architecture_of(small("qwen2"))).by_component["attention"] == 2 * (ATTENTION + 8 + 4 + 4)
    third = parameters(architecture_of(small("qwen3", head_dim=4)))
    assert (third.by_component["attention"], third.by_component["qk_norm"]) == (2 * ATTENTION, 2 * (4 + 4))


def test_qwen2_ignores_its_window_unless_told_to_use_it() -> None:
    unused = state_groups(architecture_of(small("qwen2", sliding_window=4)), {"kvh": 1, "hd": 4}, "bf16")
    assert [(g.kind, g.layers) for g in unused] == [("full", 2)]
    used = architecture_of(small("qwen2", sliding_window=4, use_sliding_window=True, max_window_layers=1))
    assert [(g.kind, g.layers, g.cap_tokens) for g in state_groups(used, used.bound(), "bf16")] == [
        ("full", 1, None),
        ("sliding", 1, 4),
    ]


def test_mistral_without_a_window_field_has_the_class_default_and_says_so() -> None:
    default = architecture_of(small("mistral"))
    assert [span.window for span in default.spans.values()] == [4096]
    assert default.notes == ("sliding_window is absent: 4096, the default of MistralConfig",)
    assert [span.window for span in architecture_of(small("mistral", sliding_window=None)).spans.values()] == [None]


def test_mixtral_uses_intermediate_size_as_the_width_of_one_expert() -> None:
    counted = parameters(architecture_of(small("mixtral", num_local_experts=4, num_experts_per_tok=1)))
    assert counted.by_component["routed_experts"] == 2 * 4 * MLP
    assert counted.by_component["router"] == 2 * 4 * 8
    assert counted.total - counted.active == 2 * 3 * MLP


def test_qwen2_moe_has_a_shared_expert_with_a_gate_counted_with_the_router() -> None:
    config = small(
        "qwen2_moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=6, shared_expert_intermediate_size=10
    )
    counted = parameters(architecture_of(config)).by_component
    assert (counted["routed_experts"], counted["shared_expert"], counted["router"]) == (
        2 * 4 * 3 * 48,
        2 * 3 * 80,
        2 * (4 + 1) * 8,
    )


def test_qwen_moe_layers_are_dense_where_the_step_or_the_list_says_so() -> None:
    config = small(
        "qwen3_moe",
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=6,
        num_hidden_layers=4,
        decoder_sparse_step=2,
    )
    assert {b.name: b.layers for b in architecture_of(config).blocks if b.name not in ("embedding", "head")} == {
        "dense": (0, 2),
        "moe": (1, 3),
    }
    listed = architecture_of(config | {"mlp_only_layers": [1]})
    assert {b.name: b.layers for b in listed.blocks if b.name not in ("embedding", "head")} == {
        "dense": (0, 1, 2),
        "moe": (3,),
    }


def test_gemma_alternates_windows_and_has_four_norms_a_layer() -> None:
    second = architecture_of(small("gemma2", head_dim=4, sliding_window=3, num_hidden_layers=4))
    assert {b.name: b.layers for b in second.blocks if b.name in ("sliding", "full")} == {
        "sliding": (0, 2),
        "full": (1, 3),
    }
    assert parameters(second).by_component["norm"] == 4 * 4 * 8 + 8
    third = architecture_of(small("gemma3_text", head_dim=4, sliding_window=3, num_hidden_layers=7))
    assert {b.name: b.layers for b in third.blocks if b.name in ("sliding", "full")} == {
        "sliding": (0, 1, 2, 3, 4, 6),
        "full": (5,),
    }
    assert third.tied
    assert parameters(third).by_component["qk_norm"] == 7 * 8


LATENT = {
    "model_type": "deepseek_v3", "hidden_size": 8, "num_attention_heads": 2, "q_lora_rank": 6, "kv_lora_rank": 4, "qk_rope_head_dim": 2,
    "qk_nope_head_dim": 3, "v_head_dim": 5, "num_hidden_layers": 3, "first_k_dense_replace": 1, "intermediate_size": 16, "vocab_size": 32,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 6, "n_shared_experts": 2,
}  # fmt: skip


def test_latent_attention_counts_and_caches_by_hand() -> None:
    architecture = architecture_of(LATENT)
    counted = parameters(architecture).by_component
    # q: 8->6->2x(3+2); kv: 8->4+2, 4->2x(3+5); o: 2x5->8
    assert counted["attention"] == 3 * (6 * 8 + 10 * 6 + 6 * 8 + 16 * 4 + 8 * 10)
    assert counted["norm"] == 3 * (8 + 8 + 6 + 4) + 8
    assert counted["shared_expert"] == 2 * 3 * 8 * 12
    assert state_bytes(state_groups(architecture, architecture.bound(), "bf16"), 10) == 3 * (4 + 2) * 2 * 10


def test_latent_attention_without_query_compression_has_one_query_matrix() -> None:
    counted = parameters(architecture_of(LATENT | {"q_lora_rank": None})).by_component
    assert counted["attention"] == 3 * (10 * 8 + 6 * 8 + 16 * 4 + 8 * 10)


def test_prediction_layers_and_router_biases_stand_beside_the_model_and_are_not_counted_as_its_own() -> None:
    architecture = architecture_of(LATENT | {"num_nextn_predict_layers": 1})
    assert parameters(architecture).total == parameters(architecture_of(LATENT | {"num_nextn_predict_layers": 0})).total
    sizes = architecture.bound()
    beside = sum(block.repeat * tensor.elements(sizes) for block in architecture.beside for tensor in block.tensors)
    # one mixture layer: attention 300, norms 26, shared experts 288, router 32 and its bias 4, experts 4 x 144
    layer = 300 + 26 + 288 + 32 + 4 + 576
    # joined by a 2h x h matrix and three norms; embedding and head once more; the biases of the model's own two routers
    assert beside == layer + 2 * 8 * 8 + 3 * 8 + 2 * 32 * 8 + 2 * 4


def test_gpt_oss_counts_sinks_router_bias_and_expert_biases() -> None:
    config = small("gpt_oss", head_dim=4, num_local_experts=4, num_experts_per_tok=2, sliding_window=3)
    counted = parameters(architecture_of(config)).by_component
    assert counted["attention"] == 2 * (ATTENTION + 8 + 4 + 4 + 8 + 2)
    assert counted["router"] == 2 * (4 * 8 + 4)
    assert counted["routed_experts"] == 2 * 4 * (8 * 32 + 32 + 16 * 8 + 8)


MPT = {
    "model_type": "mpt",
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 2,
    "expansion_ratio": 2,
    "max_seq_len": 5,
    "vocab_size": 32,
}


def test_mpt_has_learned_positions_unless_alibi_replaces_them() -> None:
    learned = parameters(architecture_of(MPT)).by_component
    assert learned["position_embedding"] == 5 * 8
    # q-k-v 24x8 + 24, out 8x8 + 8; up 16x8 + 16, down 8x16 + 8; norms with biases
    assert (learned["attention"], learned["mlp"], learned["norm"]) == (2 * 288, 2 * 280, 5 * 16)
    alibi = parameters(architecture_of(MPT | {"attn_config": {"alibi": True}, "no_bias": True})).by_component
    assert "position_embedding" not in alibi
    assert (alibi["attention"], alibi["mlp"], alibi["norm"]) == (2 * 256, 2 * 256, 5 * 8)


def published() -> list[tuple[str, int]]:
    found = []
    for id in knowledge.ids("model"):
        fact = knowledge.find("model", id)
        assert fact is not None
        found.extend((id, p["value"]) for p in fact.get("published", []) if p["what"] == "parameters")
    return found


@pytest.mark.parametrize(("model", "total"), published())
def test_a_model_known_by_name_has_its_published_number_of_parameters(model: str, total: int) -> None:
    fact = knowledge.find("model", model)
    assert fact is not None
    assert parameters(architecture_of(fact["config"])).total == total


@pytest.mark.parametrize("model", knowledge.ids("model"))
def test_every_model_known_by_name_is_described(model: str) -> None:
    fact = knowledge.find("model", model)
    assert fact is not None
    assert architecture_of(fact["config"]).layers > 0


@pytest.mark.parametrize("model_type", sorted(model_types()))
def test_a_configuration_that_lacks_a_field_is_told_which(model_type: str) -> None:
    with pytest.raises(CannotAnswer) as caught:
        architecture_of({"model_type": model_type})
    assert caught.value.needs[0] in caught.value.message


def test_the_types_that_files_declare_are_those_they_describe_and_no_two_files_describe_the_same() -> None:
    declared = []
    for module in pkgutil.iter_modules(families.__path__):
        family = importlib.import_module(f"{families.__name__}.{module.name}")
        assert callable(family.describe)
        declared.extend((model_type, module.name) for model_type in family.MODEL_TYPES)
    assert sorted(declared) == sorted(model_types().items())


def test_a_family_that_is_not_covered_is_named_and_never_guessed() -> None:
    with pytest.raises(
        CannotAnswer, match="the model type 'frobnicator' is not described here yet, and its size is not guessed"
    ):
        architecture_of(small("frobnicator"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_attention_heads": 3}, f"{CONTRADICTION} the heads do not divide hidden_size and no head_dim is given (8 / 3 is not whole)"),
        ({"num_attention_heads": 2, "num_key_value_heads": 3}, f"{CONTRADICTION} the KV heads do not divide the attention heads (2 / 3 is not whole)"),
        ({"hidden_size": -8}, "hidden_size in the configuration must be a whole number from 1 to 2147483647, not -8"),
        ({"hidden_size": 0}, "hidden_size in the configuration must be a whole number from 1 to 2147483647, not 0"),
        ({"hidden_size": 8.5}, "hidden_size in the configuration must be a whole number from 1 to 2147483647, not 8.5"),
        ({"hidden_size": "8"}, "hidden_size in the configuration must be a whole number from 1 to 2147483647, not '8'"),
        ({"hidden_size": True}, "hidden_size in the configuration must be a whole number from 1 to 2147483647, not true"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers in the configuration is 1000000000; at most 10000 layers are described"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings in the configuration must be true or false, not 'yes'"),
        ({"torch_dtype": "float7"}, f"dtype in the configuration is 'float7'; known are {', '.join(sorted(DTYPES))}"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_in_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        architecture_of(small("llama", **change))
    assert caught.value.message == sentence


def test_a_field_that_changes_single_layers_is_read_or_refused_and_never_passed_over() -> None:
    changed = small("llama", per_layer_config={"1": {"intermediate_size": 99}})
    with pytest.raises(CannotAnswer, match=r"per_layer_config\.1\.intermediate_size changes single layers"):
        architecture_of(changed)
    harmless = small("llama", per_layer_config={"1": {"rope_theta": 5.0}})
    assert parameters(architecture_of(harmless)).total == parameters(architecture_of(small("llama"))).total
