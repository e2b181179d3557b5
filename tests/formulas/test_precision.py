"""Weight formats: bytes by hand, and what a configuration's quantization_config declares."""

from __future__ import annotations

from typing import Any

import pytest

from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.precision import declared_format, requested_format, weight_bytes

CONFIG = {
    "model_type": "llama", "hidden_size": 256, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 384,
    "num_hidden_layers": 1, "vocab_size": 100, "torch_dtype": "bfloat16",
}  # fmt: skip
MATRICES = 256 * 256 * 2 + 128 * 256 * 2 + 3 * 384 * 256
KEPT = 2 * 100 * 256 + 3 * 256


def stored(**config: Any) -> float:
    architecture = architecture_of(CONFIG | config)
    return weight_bytes(architecture, architecture.bound(), declared_format(architecture))


def test_an_unquantised_checkpoint_is_its_elements_times_the_width_of_its_dtype() -> None:
    assert stored() == 2 * (MATRICES + KEPT)
    assert stored(torch_dtype="float32") == 4 * (MATRICES + KEPT)


def test_block_fp8_adds_a_scale_per_block_of_128_and_keeps_embeddings_norms_and_head() -> None:
    # q, o: 2x2 blocks; k, v: 1x2; gate, up: 3x2; down: 2x3
    assert (
        stored(quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})
        == MATRICES + 4 * (4 + 4 + 2 + 2 + 6 + 6 + 6) + 2 * KEPT
    )


def test_modules_that_a_configuration_excludes_stay_as_they_are() -> None:
    excluded = stored(
        quantization_config={"quant_method": "fp8", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
    )
    attention = 256 * 256 * 2 + 128 * 256 * 2
    assert excluded == (MATRICES - attention) + 3 * 8 + 2 * (KEPT + attention)
    assert stored(quantization_config={"quant_method": "fp8", "ignore": ["re:.*mlp.*"]}) == attention + 4 * 8 + 2 * (
        KEPT + MATRICES - attention
    )


def test_gptq_and_awq_hold_four_bits_a_scale_and_a_zero_point_per_group() -> None:
    # groups of 128 along the input: 2 per output row, 3 for down
    groups = (256 + 256 + 128 + 128 + 384 + 384) * 2 + 256 * 3
    for method in ("gptq", "awq"):
        assert (
            stored(quantization_config={"quant_method": method, "bits": 4, "group_size": 128})
            == MATRICES / 2 + groups * 2.5 + 2 * KEPT
        )


@pytest.mark.parametrize(("quantization", "expected"), [
    ("none", 2 * MATRICES), ("nvfp4", MATRICES * 9 / 16 + 7 * 8), ("int8", MATRICES + 4 * (256 + 256 + 128 + 128 + 384 + 384 + 256)),
    ("mxfp4", MATRICES * 17 / 32),
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
    rest = 256 * 256 * 2 + 128 * 256 * 2 + 2 * 256 + KEPT
    assert (
        weight_bytes(architecture, architecture.bound(), requested_format(architecture, None, "mxfp4"))
        == experts * 17 / 32 + 2 * rest
    )


def test_a_method_that_is_not_described_is_named() -> None:
    with pytest.raises(CannotAnswer, match="the quantisation method 'quip' of the configuration is not described"):
        stored(quantization_config={"quant_method": "quip"})


def test_fp8_weights_and_another_quantisation_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="dtype fp8 and quantization awq contradict each other"):
        requested_format(architecture_of(CONFIG), "fp8", "awq")
