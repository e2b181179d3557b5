"""The decoders before Llama, encoders and encoder-decoders: counts, caches and pairs by hand, and what misleads a reader."""

from __future__ import annotations

from typing import Any

import pytest

from advisor_mcp.anatomy.inventory import Span
from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.flops import forward
from advisor_mcp.formulas.parameters import parameters
from advisor_mcp.formulas.state import StateGroup, state_bytes, state_groups

CONTRADICTION = "the configuration contradicts itself:"


def counted(config: dict[str, Any]) -> dict[str, int]:
    return parameters(architecture_of(config)).by_component


def total(config: dict[str, Any]) -> int:
    return parameters(architecture_of(config)).total


def groups(config: dict[str, Any]) -> list[StateGroup]:
    architecture = architecture_of(config)
    return state_groups(architecture, architecture.bound(), "bf16")


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises((UsageError, CannotAnswer)) as caught:
        architecture_of(config)
    return caught.value.message


GPT2 = {"model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_layer": 3, "n_positions": 5, "vocab_size": 32}


def test_a_gpt2_layer_counts_by_hand() -> None:
    assert counted(GPT2) == {
        "mlp": 3 * (8 * 32 + 32 + 32 * 8 + 8),
        "attention": 3 * (8 * 24 + 24 + 8 * 8 + 8),
        "token_embedding": 32 * 8,
        "norm": 7 * 16,
        "position_embedding": 5 * 8,
    }


def test_gpt2_as_published_has_124_439_808_parameters() -> None:
    config = {
        "model_type": "gpt2",
        "n_embd": 768,
        "n_head": 12,
        "n_layer": 12,
        "n_positions": 1024,
        "vocab_size": 50257,
    }
    assert total(config) == 124_439_808


def test_the_general_name_of_a_field_goes_before_the_family_s_own() -> None:
    assert total(GPT2 | {"hidden_size": 16}) == total(GPT2 | {"n_embd": 16})


def test_gpt2_matrices_are_stored_in_by_out() -> None:
    architecture = architecture_of(GPT2)
    shapes = {tensor.name: tensor.shape(architecture.bound()) for _, tensor in architecture.tensors()}
    assert shapes["transformer.h.{layer}.attn.c_attn.weight"] == (8, 24)
    assert shapes["transformer.h.{layer}.mlp.c_fc.weight"] == (8, 32)


FALCON = {"model_type": "falcon", "hidden_size": 8, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 32}


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        (GPT2, True),
        (GPT2 | {"model_type": "gpt_bigcode"}, True),
        (FALCON, True),
        ({"model_type": "bloom", "n_embed": 8, "n_head": 2, "n_layer": 1, "vocab_size": 32}, True),
        ({"model_type": "opt", "hidden_size": 8, "num_attention_heads": 2, "ffn_dim": 9, "num_hidden_layers": 1, "vocab_size": 32}, True),
        ({"model_type": "gptj", "n_embd": 8, "n_head": 2, "n_layer": 1, "vocab_size": 32}, False),
        ({"model_type": "gpt_neox", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 9, "vocab_size": 32}, False),
    ],
)  # fmt: skip
def test_an_absent_tie_means_what_the_class_says(config: dict[str, Any], tied: bool) -> None:
    assert architecture_of(config).tied is tied
    assert ("lm_head" in counted(config)) is not tied
    assert total(config | {"tie_word_embeddings": False}) - total(config) == (32 * 8 if tied else 0)


def test_starcoder2_says_that_its_tie_is_a_default() -> None:
    config = {
        "model_type": "starcoder2", "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 9,
        "num_hidden_layers": 1, "vocab_size": 32,
    }  # fmt: skip
    assert architecture_of(config).notes == ("tie_word_embeddings is absent: true, the default of Starcoder2Config",)
    assert architecture_of(config | {"tie_word_embeddings": True}).notes == ()


def test_falcon_7b_keeps_one_kv_head_8_192_bytes_a_token() -> None:
    config = {
        "model_type": "falcon", "hidden_size": 4544, "num_attention_heads": 71, "num_hidden_layers": 32, "vocab_size": 65024,
        "multi_query": True, "new_decoder_architecture": False, "parallel_attn": True, "bias": False, "alibi": False,
    }  # fmt: skip
    # 32 layers x 2 x 1 head x 64 x 2 bytes
    assert groups(config) == [StateGroup("full", 32, 8_192, 1, None, 0, "bf16")]


def test_starcoder_keeps_one_kv_head_20_480_bytes_a_token() -> None:
    config = {
        "model_type": "gpt_bigcode",
        "n_embd": 6144,
        "n_head": 48,
        "n_layer": 40,
        "n_positions": 8192,
        "vocab_size": 49152,
    }
    # 40 layers x 2 x 1 head x 128 x 2 bytes
    assert groups(config) == [StateGroup("full", 40, 20_480, 1, None, 0, "bf16")]


def test_new_falcons_have_the_kv_heads_of_the_file_and_two_norms_unless_told_one() -> None:
    new = FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}
    assert counted(FALCON)["attention"] == 2 * (8 * (8 + 2 * 2) + 8 * 8)
    assert counted(new)["attention"] == 2 * (8 * (8 + 2 * 4) + 8 * 8)
    assert groups(new) == [StateGroup("full", 2, 2 * 2 * 2 * 2 * 2, 1, None, 0, "bf16")]
    assert counted(FALCON)["norm"] == (2 * 1 + 1) * 16
    assert counted(new)["norm"] == (2 * 2 + 1) * 16
    assert counted(new | {"num_ln_in_parallel_attn": 1})["norm"] == (2 * 1 + 1) * 16


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"new_decoder_architecture": True, "parallel_attn": False}, f"{CONTRADICTION} new_decoder_architecture needs parallel_attn"),
        ({"num_ln_in_parallel_attn": 2}, f"{CONTRADICTION} num_ln_in_parallel_attn 2 needs new_decoder_architecture"),
        ({"num_attention_heads": 3}, f"{CONTRADICTION} num_attention_heads does not divide n_embed (8 / 3 is not whole)"),
        ({"new_decoder_architecture": True, "num_kv_heads": 3}, f"{CONTRADICTION} the KV heads do not divide the attention heads (4 / 3 is not whole)"),
    ],
)  # fmt: skip
def test_falcons_that_cannot_be_are_refused(change: dict[str, Any], sentence: str) -> None:
    assert refusal(FALCON | change) == sentence


OPT_350M = {
    "model_type": "opt", "hidden_size": 1024, "num_attention_heads": 16, "ffn_dim": 4096, "num_hidden_layers": 24, "vocab_size": 50272,
    "max_position_embeddings": 2048, "word_embed_proj_dim": 512, "do_layer_norm_before": False,
}  # fmt: skip


def test_opt_350m_embeds_at_512_behind_two_projections_and_has_two_spare_rows_of_positions() -> None:
    found = counted(OPT_350M)
    assert found["other"] == 2 * 512 * 1024
    assert found["position_embedding"] == (2048 + 2) * 1024
    assert found["token_embedding"] == 50272 * 512
    assert "lm_head" not in found
    assert found["norm"] == 24 * 2 * 2 * 1024  # and no final norm
    assert total(OPT_350M) == 331_196_416


GPTJ = {"model_type": "gptj", "n_embd": 4096, "n_head": 16, "n_layer": 28, "n_positions": 2048, "vocab_size": 50400}


def test_gpt_j_has_one_norm_a_layer_and_a_bias_of_50_400_in_its_head() -> None:
    found = counted(GPTJ)
    assert found["norm"] == (28 + 1) * 2 * 4096
    assert found["lm_head"] == 50_400 * 4096 + 50_400
    tied = counted(GPTJ | {"tie_word_embeddings": True})
    assert tied["lm_head"] == 50_400


PHI_MOE = {
    "model_type": "phimoe", "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 6400,
    "num_hidden_layers": 32, "vocab_size": 32064, "num_local_experts": 16, "num_experts_per_tok": 2,
}  # fmt: skip


def test_phi_3_5_moe_gains_359_744_biases_in_attention_and_head() -> None:
    biased = PHI_MOE | {"attention_bias": True, "lm_head_bias": True}
    # per layer q 4096, k and v 1024 each, o 4096; head 32,064
    assert total(biased) - total(PHI_MOE) == 32 * (4096 + 2 * 1024 + 4096) + 32_064 == 359_744


def test_stablelm_normalises_queries_and_keys_with_a_vector_for_each_head() -> None:
    config = {
        "model_type": "stablelm", "hidden_size": 12, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 7,
        "num_hidden_layers": 5, "vocab_size": 32, "qk_layernorm": True,
    }  # fmt: skip
    assert counted(config)["qk_norm"] == 5 * (4 + 2) * 3


def test_phi_2_has_one_norm_a_layer_and_two_matrices_in_its_mlp() -> None:
    config = {
        "model_type": "phi",
        "hidden_size": 2560,
        "num_attention_heads": 32,
        "intermediate_size": 10240,
        "num_hidden_layers": 32,
        "vocab_size": 51200,
    }
    found = counted(config)
    assert found["norm"] == 33 * 2 * 2560
    assert found["mlp"] == 32 * (2 * 2560 * 10240 + 10240 + 2560)


def test_a_window_of_phi_3_is_over_every_layer_and_null_means_none() -> None:
    config = {
        "model_type": "phi3", "hidden_size": 3072, "num_attention_heads": 32, "intermediate_size": 8192, "num_hidden_layers": 32,
        "vocab_size": 32064, "sliding_window": 2047,
    }  # fmt: skip
    # 32 layers x 2 x 32 heads x 96 x 2 bytes
    assert groups(config) == [StateGroup("sliding", 32, 393_216, 1, 2047, 0, "bf16")]
    assert groups(config | {"sliding_window": None}) == [StateGroup("full", 32, 393_216, 1, None, 0, "bf16")]


NEO = {
    "model_type": "gpt_neo", "hidden_size": 8, "num_heads": 2, "num_layers": 4, "vocab_size": 32, "max_position_embeddings": 9,
    "attention_types": [[["global", "local"], 2]], "window_size": 3,
}  # fmt: skip


def test_gpt_neo_masks_its_local_layers_but_keeps_their_whole_cache() -> None:
    assert groups(NEO) == [StateGroup("full", 4, 4 * 2 * 8 * 2, 1, None, 0, "bf16")]
    architecture = architecture_of(NEO)
    assert {block.name: block.layers for block in architecture.blocks if block.name in ("global", "local")} == {
        "global": (0, 2),
        "local": (1, 3),
    }
    sizes = architecture.workload(10)
    assert (sizes["pairs"], sizes["pairs.window3"]) == (55, 10 * 3 - 3)


@pytest.mark.parametrize(
    ("types", "sentence"),
    [
        ([[["global", "local"], 3]], "attention_types in the configuration names more kinds than its 4 layers"),
        ([[["global"], 3]], "attention_types in the configuration names 3 kinds for 4 layers"),
        ([[["near"], 4]], "attention_types in the configuration must list pairs like [[\"global\", \"local\"], 12], not [['near'], 4]"),
        ([[[], 10**30]], "attention_types in the configuration names more kinds than its 4 layers"),
    ],
)  # fmt: skip
def test_attention_types_that_do_not_fit_are_refused(types: list[Any], sentence: str) -> None:
    assert refusal(NEO | {"attention_types": types}) == sentence


def test_bloom_files_call_the_width_n_embed() -> None:
    config = {"model_type": "bloom", "n_embed": 1024, "num_attention_heads": 16, "n_layer": 24, "vocab_size": 250_880}
    # embedding, its norm, and per layer qkv, out, up, down and two norms; tied; the published total of BLOOM 560M
    assert total(config) == 250_880 * 1024 + 2048 + 24 * (12 * 1024**2 + 13 * 1024) + 2048 == 559_214_592
    assert total(config | {"hidden_size": 64}) == 559_214_592


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_bigcode"])
def test_cross_attention_bolted_on_to_a_decoder_is_refused(model_type: str) -> None:
    sentence = "add_cross_attention is set, and this model type is described without cross-attention"
    assert refusal(GPT2 | {"model_type": model_type, "add_cross_attention": True}) == sentence


BERT = {
    "model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 3,
    "intermediate_size": 10, "vocab_size": 32, "max_position_embeddings": 7, "type_vocab_size": 2,
}  # fmt: skip


def test_bert_counts_token_types_with_positions_and_its_head_s_transform_with_the_head() -> None:
    assert counted(BERT) == {
        "attention": 3 * 4 * (64 + 8),
        "mlp": 3 * (2 * 80 + 10 + 8),
        "token_embedding": 32 * 8,
        "lm_head": 64 + 8 + 16 + 32,
        "norm": (1 + 3 * 2) * 16,
        "position_embedding": (7 + 2) * 8,
    }


def test_the_class_in_the_file_decides_which_head_is_counted() -> None:
    heads = {"BertModel": 72, "BertForMaskedLM": 64 + 8 + 16 + 32, "BertForTokenClassification": 2 * 8 + 2}
    without = total(BERT) - heads["BertForMaskedLM"]
    assert {name: total(BERT | {"architectures": [name]}) - without for name in heads} == heads
    labelled = BERT | {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b", "2": "c"}}
    assert total(labelled) - without == 72 + 3 * 8 + 3


def test_a_file_without_a_class_is_counted_with_the_masked_language_model_s_head_and_says_so() -> None:
    config = {name: value for name, value in BERT.items() if name != "architectures"}
    assert architecture_of(config).notes == (
        "architectures is absent: the head of a model class ForMaskedLM is counted",
    )
    assert total(config) == total(BERT)


def test_a_head_that_is_not_described_is_named() -> None:
    assert (
        refusal(BERT | {"architectures": ["BertForDancing"]})
        == "the head of 'BertForDancing' is not described for this model type"
    )


def test_an_encoder_keeps_nothing_and_sees_both_ways() -> None:
    assert groups(BERT) == []
    architecture = architecture_of(BERT)
    assert architecture.workload(10)["pairs.both"] == 100
    assert forward(architecture, architecture.workload(10)).attention == 3 * 4 * 100 * 8


def test_bert_as_a_decoder_sees_earlier_tokens_and_has_a_cache() -> None:
    decoder = BERT | {"architectures": ["BertLMHeadModel"], "is_decoder": True}
    assert groups(decoder) == [StateGroup("full", 3, 3 * 2 * 8 * 2, 1, None, 0, "bf16")]
    assert architecture_of(decoder).workload(10)["pairs"] == 55
    assert total(decoder) == total(BERT)


@pytest.mark.parametrize("window", [0, 1, 3, 9, 20])
@pytest.mark.parametrize("length", [1, 4, 10])
def test_pairs_that_look_both_ways_are_those_at_most_a_window_apart(length: int, window: int) -> None:
    near = sum(abs(i - j) <= window for i in range(length) for j in range(length))
    assert Span(window=window, both=True).pairs(length) == Span(window=window, both=True).pairs(length, False) == near
    assert Span(both=True).pairs(length) == length**2


def test_modernbert_has_no_first_norm_and_local_layers_see_half_the_window_on_each_side() -> None:
    config = {
        "model_type": "modernbert", "architectures": ["ModernBertModel"], "hidden_size": 8, "num_attention_heads": 2,
        "intermediate_size": 5, "num_hidden_layers": 4, "vocab_size": 32, "local_attention": 6,
    }  # fmt: skip
    architecture = architecture_of(config)
    assert {block.name: block.layers for block in architecture.blocks if block.name not in ("embedding", "head")} == {
        "first-full": (0,),
        "sliding": (1, 2),
        "full": (3,),
    }
    assert set(architecture.spans.values()) == {Span(both=True), Span(window=3, both=True)}
    assert counted(config)["norm"] == (2 + 4 * 2 - 1) * 8  # embedding and last, two a layer but the first's


ALBERT = {
    "model_type": "albert", "architectures": ["AlbertModel"], "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 10,
    "num_hidden_layers": 6, "vocab_size": 32, "embedding_size": 4, "max_position_embeddings": 7,
}  # fmt: skip


def test_albert_s_depths_share_one_layer_s_weights_and_each_computes() -> None:
    deeper = ALBERT | {"num_hidden_layers": 12}
    assert total(deeper) == total(ALBERT)
    once, twice = architecture_of(ALBERT), architecture_of(deeper)
    assert (once.layers, twice.layers) == (6, 12)
    first, second = forward(once, once.workload(10)).layers, forward(twice, twice.workload(10)).layers
    assert second == 2 * first
    grouped = counted(ALBERT | {"num_hidden_groups": 3})
    assert grouped["attention"] == 3 * counted(ALBERT)["attention"] == 3 * 4 * 72
    assert refusal(ALBERT | {"num_hidden_groups": 7}) == f"{CONTRADICTION} num_hidden_groups 7 exceeds its 6 layers"


def test_deberta_shares_one_table_of_relative_positions_and_its_own_projections_only_where_told() -> None:
    config = {
        "model_type": "deberta-v2", "architectures": ["DebertaV2Model"], "hidden_size": 8, "num_attention_heads": 2,
        "intermediate_size": 10, "num_hidden_layers": 3, "vocab_size": 32, "relative_attention": True, "position_buckets": 5,
        "pos_att_type": "p2c|c2p", "position_biased_input": False,
    }  # fmt: skip
    assert counted(config)["position_embedding"] == 2 * 5 * 8
    assert counted(config)["attention"] == 3 * 6 * 72
    assert counted(config | {"share_att_key": True})["attention"] == 3 * 4 * 72
    assert counted(config | {"position_buckets": -1})["position_embedding"] == 2 * 512 * 8
    assert (
        refusal(config | {"pos_att_type": "p2p"})
        == "pos_att_type names 'p2p', which is not described for DeBERTa 2 and 3"
    )


def test_nomic_s_own_names_of_the_sizes_are_read_and_experts_are_refused() -> None:
    own = {
        "model_type": "nomic_bert",
        "architectures": ["NomicBertModel"],
        "n_embd": 8,
        "n_head": 2,
        "n_inner": 6,
        "n_layer": 3,
        "vocab_size": 32,
    }
    named = {
        "model_type": "nomic_bert", "architectures": ["NomicBertModel"], "hidden_size": 8, "num_attention_heads": 2,
        "intermediate_size": 6, "num_hidden_layers": 3, "vocab_size": 32,
    }  # fmt: skip
    assert counted(own) == counted(named)
    sentence = "num_experts is set, and this model type is described without experts"
    assert refusal(own | {"num_experts": 8, "moe_every_n_layers": 2}) == sentence


T5_SMALL = {
    "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 512, "d_kv": 64, "num_heads": 8, "d_ff": 2048,
    "num_layers": 6, "num_decoder_layers": 6, "vocab_size": 32128, "feed_forward_proj": "relu",
}  # fmt: skip


def test_t5_counts_by_hand() -> None:
    assert counted(T5_SMALL) == {
        "mlp": 12 * 2 * 512 * 2048,
        "attention": (6 + 2 * 6) * 4 * 512 * 512,
        "token_embedding": 32128 * 512,
        "norm": (6 * 2 + 6 * 3 + 2) * 512,
        "position_embedding": 2 * 32 * 8,
    }


def test_t5_caches_what_the_decoder_wrote_and_what_the_encoder_read() -> None:
    # 6 layers x 2 x 8 heads x 64 x 2 bytes, per token of the decoder and per token of the encoder
    assert groups(T5_SMALL) == [
        StateGroup("full", 6, 12_288, 1, None, 0, "bf16"),
        StateGroup("cross", 6, 12_288, 1, None, 0, "bf16"),
    ]
    assert state_bytes(groups(T5_SMALL), 100) == 2 * 12_288 * 100
    assert (
        "the encoder is taken to read as many tokens as the decoder's sequence has" in architecture_of(T5_SMALL).notes
    )


def test_t5_11b_s_heads_are_wider_than_its_model() -> None:
    config = T5_SMALL | {
        "d_model": 1024,
        "d_kv": 128,
        "num_heads": 128,
        "d_ff": 65536,
        "num_layers": 24,
        "num_decoder_layers": 24,
    }
    assert counted(config)["attention"] == (24 + 2 * 24) * 4 * 1024 * (128 * 128) == 4_831_838_208
    assert total(config) == 11_307_321_344


def test_flan_t5_xxl_has_a_head_of_its_own_though_the_class_ties_it() -> None:
    config = T5_SMALL | {
        "d_model": 4096, "num_heads": 64, "d_ff": 10240, "num_layers": 24, "num_decoder_layers": 24, "feed_forward_proj": "gated-gelu",
    }  # fmt: skip
    assert total(config | {"tie_word_embeddings": False}) == 11_135_332_352
    assert total(config) == 11_135_332_352 - 32128 * 4096


def test_only_umt5_has_a_table_of_distances_in_every_layer() -> None:
    assert counted(T5_SMALL | {"model_type": "mt5"})["position_embedding"] == 2 * 32 * 8
    assert counted(T5_SMALL | {"model_type": "umt5"})["position_embedding"] == 12 * 32 * 8


def test_the_encoder_of_t5_alone_keeps_nothing() -> None:
    encoder = T5_SMALL | {"architectures": ["T5EncoderModel"]}
    assert groups(encoder) == []
    assert counted(encoder)["attention"] == 6 * 4 * 512 * 512


def test_a_feed_forward_of_t5_that_is_neither_plain_nor_gated_is_refused() -> None:
    sentence = (
        "feed_forward_proj in the configuration must be an activation or gated-ACTIVATION, not 'thrice-gated-gelu'"
    )
    assert refusal(T5_SMALL | {"feed_forward_proj": "thrice-gated-gelu"}) == sentence


BART = {
    "model_type": "bart", "architectures": ["BartForConditionalGeneration"], "d_model": 12, "encoder_layers": 3, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 3, "encoder_ffn_dim": 7, "decoder_ffn_dim": 5, "vocab_size": 32,
    "max_position_embeddings": 9,
}  # fmt: skip


def test_bart_counts_by_hand_and_its_stacks_may_differ() -> None:
    assert counted(BART) == {
        "attention": (3 + 2 * 2) * 4 * (144 + 12),
        "mlp": 3 * (2 * 84 + 7 + 12) + 2 * (2 * 60 + 5 + 12),
        "norm": (3 * 2 + 2 * 3 + 2) * 24,
        "position_embedding": 2 * (9 + 2) * 12,
        "token_embedding": 32 * 12,
    }
    assert [(g.kind, g.layers, g.bytes_per_token) for g in groups(BART)] == [
        ("full", 2, 2 * 2 * 12 * 2),
        ("cross", 2, 2 * 2 * 12 * 2),
    ]


def test_bart_s_logits_bias_is_stored_and_is_no_parameter() -> None:
    architecture = architecture_of(BART)
    assert [(block.name, tensor.name, tensor.shape(architecture.bound())) for block in architecture.beside for tensor in block.tensors] == [
        ("logits-bias", "final_logits_bias", (1, 32))
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "norms", "rows"),
    [("bart", 3 * 2 + 2 * 3 + 2, 11), ("mbart", 3 * 2 + 2 * 3 + 4, 11), ("pegasus", 3 * 2 + 2 * 3 + 2, 9), ("marian", 3 * 2 + 2 * 3, 9)],
)  # fmt: skip
def test_bart_s_kin_differ_in_norms_and_rows_of_positions(model_type: str, norms: int, rows: int) -> None:
    config = {name: value for name, value in BART.items() if name != "architectures"} | {"model_type": model_type}
    assert counted(config)["norm"] == norms * 24
    assert counted(config)["position_embedding"] == 2 * rows * 12


def test_marian_may_have_a_vocabulary_for_each_language() -> None:
    config = BART | {
        "model_type": "marian",
        "architectures": ["MarianMTModel"],
        "share_encoder_decoder_embeddings": False,
        "decoder_vocab_size": 29,
    }
    found = counted(config)
    assert found["token_embedding"] == (32 + 29) * 12
    assert "lm_head" not in found
