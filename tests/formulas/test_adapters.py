"""LoRA adapters: rank x (in + out) for every targeted matrix."""

from __future__ import annotations

import pytest

import advisor_mcp
from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import UsageError
from advisor_mcp.formulas.adapters import Adapters, lora

CONFIG = {
    "model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16,
    "num_hidden_layers": 3, "vocab_size": 32,
}  # fmt: skip
MIXTURE = CONFIG | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}


def test_named_targets_are_counted_in_every_layer() -> None:
    assert lora(architecture_of(CONFIG), 2, ["q_proj", "v_proj"]) == Adapters(
        3 * 2 * (16 + 12), 6, ("q_proj", "v_proj"), ()
    )


def test_all_linear_means_every_matrix_but_the_head() -> None:
    # q 16, k 12, v 12, o 16, gate 24, up 24, down 24
    assert lora(architecture_of(CONFIG), 2, ["all-linear"]) == Adapters(3 * 2 * 128, 21, ("all-linear",), ())


def test_every_expert_gets_its_own_adapter_and_stacked_experts_none() -> None:
    assert lora(architecture_of(MIXTURE), 1, ["w1"]) == Adapters(3 * 4 * 24, 12, ("w1",), ())
    stacked = architecture_of(
        CONFIG | {"model_type": "gpt_oss", "head_dim": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
    )
    assert lora(stacked, 1, ["gate_up_proj"]) == Adapters(0, 0, ("gate_up_proj",), ("gate_up_proj",))


def test_a_target_that_no_matrix_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no matrix of this model is called 'qproj'; did you mean 'q_proj'"):
        lora(architecture_of(CONFIG), 2, ["qproj"])


def test_a_published_adapter_size_comes_out() -> None:
    # rank 16 on all linear layers of Llama 3.1 8B: 32 x 16 x (q 8192 + k 5120 + v 5120 + o 8192 + 3 x 18432)
    found = advisor_mcp.call("describe_model", model="llama-3.1-8b", lora_rank=16).data()["lora"]
    assert found["parameters"] == 32 * 16 * (8192 + 5120 + 5120 + 8192 + 3 * 18432)


def test_two_models_stand_side_by_side() -> None:
    found = advisor_mcp.call(
        "describe_model", model=CONFIG, versus=CONFIG | {"num_hidden_layers": 6}, sequence_length=10
    ).data()
    rows = {row["figure"]: row for row in found["comparison"]}
    assert rows["state.total_bytes"] == {"figure": "state.total_bytes", "model": 480, "versus": 960, "ratio": 2.0}
    assert set(rows) >= {"parameters.total", "checkpoint_bytes", "flops_per_token.forward"}
