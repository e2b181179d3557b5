"""Encoders and encoder-decoders beyond BERT, BART and T5: what tells each apart, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from advisor_mcp.anatomy.inventory import Cache, Span
from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import AdvisorError
from advisor_mcp.formulas.parameters import parameters
from advisor_mcp.formulas.state import state_bytes, state_groups

BASE: dict[str, Any] = {
    "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 10, "num_hidden_layers": 3, "vocab_size": 11,
    "max_position_embeddings": 7,
}  # fmt: skip
BERT_LAYER = 4 * (8 * 8 + 8) + (10 * 8 + 10) + (8 * 10 + 8) + 2 * (8 + 8)
NLLB_600M: dict[str, Any] = {
    "model_type": "m2m_100", "architectures": ["M2M100ForConditionalGeneration"], "d_model": 1024, "encoder_layers": 12,
    "decoder_layers": 12, "encoder_attention_heads": 16, "decoder_attention_heads": 16, "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096, "vocab_size": 256_206, "max_position_embeddings": 1024,
}  # fmt: skip
SWITCH: dict[str, Any] = {
    "model_type": "switch_transformers", "d_model": 8, "d_kv": 4, "num_heads": 2, "d_ff": 10, "vocab_size": 11, "num_layers": 4,
    "num_decoder_layers": 4, "num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 2, "num_experts": 5,
}  # fmt: skip
GEMMA: dict[str, Any] = {
    "hidden_size": 12, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "intermediate_size": 10,
    "num_hidden_layers": 2, "vocab_size": 11, "sliding_window": 6,
}  # fmt: skip


def of(model_type: str, name: str, **more: Any) -> dict[str, Any]:
    return BASE | {"model_type": model_type, "architectures": [name]} | more


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    architecture = architecture_of(config)
    sizes = architecture.bound()
    return {tensor.name: tensor.shape(sizes) for _, tensor in architecture.stored()}


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises(AdvisorError) as caught:
        architecture_of(config)
    return caught.value.message


def test_xlm_roberta_xl_has_no_norm_behind_its_embedding_and_one_behind_its_last_layer() -> None:
    counted = parameters(architecture_of(of("xlm-roberta-xl", "XLMRobertaXLModel", type_vocab_size=1)))
    assert counted.total == 11 * 8 + (7 + 1) * 8 + 3 * BERT_LAYER + (8 + 8) + (8 * 8 + 8)
    assert "embeddings.LayerNorm.weight" not in shapes(of("xlm-roberta-xl", "XLMRobertaXLModel"))


def test_mpnet_has_one_table_of_distances_for_all_layers_and_no_token_types() -> None:
    counted = parameters(architecture_of(of("mpnet", "MPNetModel")))
    assert counted.by_component["position_embedding"] == 7 * 8 + 32 * 2


def test_every_language_of_x_mod_has_two_matrices_in_every_layer() -> None:
    plain, adapted = (of("xmod", "XmodModel", languages=names) for names in (["en_XX"], ["en_XX", "de_DE", "fr_XX"]))
    adapter = (4 * 8 + 4) + (8 * 4 + 8)
    difference = parameters(architecture_of(adapted)).total - parameters(architecture_of(plain)).total
    assert difference == 3 * 2 * adapter
    assert shapes(adapted)["encoder.layer.{layer}.output.adapter_modules.de_DE.dense1.weight"] == (4, 8)


def test_a_token_of_longformer_sees_half_of_its_layer_s_window_on_each_side() -> None:
    architecture = architecture_of(of("longformer", "LongformerModel", attention_window=[4, 6, 4]))
    assert list(architecture.spans.values()) == [Span(window=2, both=True), Span(window=3, both=True)]
    assert architecture.workload(10)["pairs.both.window2"] == 10 * 5 - 2 * (2 + 1)
    assert "must be even" in refusal(of("longformer", "LongformerModel", attention_window=5))


def test_longformer_holds_a_second_set_of_projections_for_tokens_that_see_everything() -> None:
    counted = parameters(architecture_of(of("longformer", "LongformerModel")))
    assert counted.by_component["attention"] == 3 * (4 + 3) * (8 * 8 + 8)


def test_fnet_has_no_attention_and_keeps_no_state() -> None:
    config = of("fnet", "FNetModel")
    del config["num_attention_heads"]
    architecture = architecture_of(config)
    assert "attention" not in parameters(architecture).by_component
    assert state_groups(architecture, architecture.bound()) == []


def test_a_null_kernel_of_nystromformer_means_no_convolution_and_an_absent_one_the_class_s() -> None:
    name = "encoder.layer.{layer}.attention.self.conv.weight"
    assert shapes(of("nystromformer", "NystromformerModel"))[name] == (2, 1, 65, 1)
    assert name not in shapes(of("nystromformer", "NystromformerModel", conv_kernel_size=None))


def test_half_of_convbert_s_width_attends_and_half_convolves() -> None:
    found = shapes(of("convbert", "ConvBertModel", embedding_size=8))
    root = "encoder.layer.{layer}.attention."
    assert found[f"{root}self.query.weight"] == (4, 8)
    assert found[f"{root}self.conv_kernel_layer.weight"] == (9, 4)
    assert found[f"{root}output.dense.weight"] == (8, 8)


def test_mobilebert_widens_its_table_to_predict_tokens() -> None:
    config = of("mobilebert", "MobileBertForMaskedLM", embedding_size=5, intra_bottleneck_size=6)
    assert parameters(architecture_of(config)).by_component["lm_head"] == (8 * 8 + 8 + 8 + 8) + 11 + (8 - 5) * 11


def test_squeezebert_s_groups_divide_what_a_channel_reads() -> None:
    config = of("squeezebert", "SqueezeBertModel", embedding_size=8, intermediate_size=12, q_groups=2)
    root = "encoder.layers.{layer}."
    found = shapes(config)
    assert found[f"{root}attention.query.weight"] == (8, 4, 1)
    assert found[f"{root}output.conv1d.weight"] == (8, 12 // 4, 1)
    assert "does not divide" in refusal(config | {"intermediate_size": 10})


def test_nllb_600m_counts_by_hand_without_a_table_of_positions() -> None:
    attention, feed = 4 * (1024 * 1024 + 1024), 2 * 4096 * 1024 + 4096 + 1024
    layers = 12 * (attention + feed + 2 * 2048) + 12 * (2 * attention + feed + 3 * 2048)
    counted = parameters(architecture_of(NLLB_600M))
    assert counted.total == 256_206 * 1024 + layers + 2 * 2048 == 615_073_792
    assert "position_embedding" not in counted.by_component


def test_nllb_keeps_what_its_decoder_wrote_and_what_its_encoder_read() -> None:
    architecture = architecture_of(NLLB_600M)
    groups = state_groups(architecture, architecture.bound(), "bf16")
    assert [group.kind for group in groups] == ["full", "cross"]
    assert state_bytes(groups, 1024) == 2 * 12 * 2 * 1024 * 1024 * 2


def test_nllb_moe_uses_two_experts_of_every_fourth_layer() -> None:
    config = NLLB_600M | {
        "model_type": "nllb-moe",
        "architectures": ["NllbMoeForConditionalGeneration"],
        "num_experts": 8,
    }
    counted = parameters(architecture_of(config))
    experts = (3 + 3) * 8 * (2 * 4096 * 1024 + 4096 + 1024)
    assert counted.by_component["routed_experts"] == experts
    assert counted.total - counted.active == experts * 6 // 8


def test_switch_routes_a_token_to_one_expert_of_every_second_layer() -> None:
    counted = parameters(architecture_of(SWITCH))
    experts = (2 + 2) * 5 * 2 * 8 * 10
    assert counted.by_component["routed_experts"] == experts
    assert counted.total - counted.active == experts * 4 // 5


def test_no_sparse_layers_still_leave_switch_one_as_in_its_class() -> None:
    counted = parameters(architecture_of(SWITCH | {"num_sparse_encoder_layers": 0, "num_sparse_decoder_layers": 2}))
    assert counted.by_component["routed_experts"] == (1 + 2) * 5 * 2 * 8 * 10


def test_longt5_s_means_add_a_norm_to_every_layer_of_the_encoder_and_one_table() -> None:
    config = {key: value for key, value in SWITCH.items() if not key.startswith("num_sparse")} | {
        "model_type": "longt5"
    }
    local, means = (
        parameters(architecture_of(config | {"encoder_attention_type": kind})) for kind in ("local", "transient-global")
    )
    assert means.total - local.total == 4 * 8 + 32 * 2
    assert Span(window=127, both=True) in architecture_of(config).spans.values()


def test_the_decoder_of_t5gemma_reads_an_encoder_of_another_width() -> None:
    config = {
        "model_type": "t5gemma", "architectures": ["T5GemmaForConditionalGeneration"], "encoder": GEMMA,
        "decoder": GEMMA | {"hidden_size": 8},
    }  # fmt: skip
    found = shapes(config)
    root = "model.decoder.layers.{layer}."
    assert found[f"{root}cross_attn.k_proj.weight"] == (4, 12)
    assert found[f"{root}self_attn.k_proj.weight"] == (4, 8)
    caches = [cache for block in architecture_of(config).blocks for cache in block.caches]
    entry = ((2, ("kvh", "hd")),)
    assert set(caches) == {Cache("sliding", entry, cap_tokens=6), Cache("full", entry), Cache("cross", entry)}


def test_the_stacks_of_led_have_tables_of_positions_of_their_own() -> None:
    config = NLLB_600M | {
        "model_type": "led", "architectures": ["LEDModel"], "max_encoder_position_embeddings": 16384,
        "max_decoder_position_embeddings": 1024, "attention_window": 1024,
    }  # fmt: skip
    assert parameters(architecture_of(config)).by_component["position_embedding"] == (16384 + 1024) * 1024
    assert Span(window=512, both=True) in architecture_of(config).spans.values()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (of("ibert", "IBertModel", quant_mode=True), "quant_mode"),
        (of("esm", "EsmForMaskedLM", is_folding_model=True), "ESMFold"),
        (of("deberta", "DebertaModel", talking_head=True), "talking_head"),
        (of("big_bird", "BigBirdModel", attention_type="other"), "'other'"),
        (of("camembert", "CamembertForCausalLM", is_decoder=True, add_cross_attention=True), "add_cross_attention"),
        (NLLB_600M | {"model_type": "mvp", "use_prompt": True}, "use_prompt"),
        (SWITCH | {"model_type": "longt5", "encoder_attention_type": "other"}, "'other'"),
        ({"model_type": "t5gemma", "decoder": GEMMA}, "no encoder"),
    ],
)  # fmt: skip
def test_what_is_not_described_is_refused_by_name(config: dict[str, Any], says: str) -> None:
    assert says in refusal(config)
