"""Serving memory: exact counts per rank, the workspace by hand, and what fits."""

from __future__ import annotations

import pytest

from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import UsageError
from advisor_mcp.formulas.precision import WeightFormat
from advisor_mcp.formulas.serving import ServingMemory, capacity, serving_memory

CONFIG = {
    "model_type": "llama", "hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 16,
    "num_hidden_layers": 2, "vocab_size": 32, "max_position_embeddings": 1000,
}  # fmt: skip
BF16 = WeightFormat("bf16")


def model() -> Architecture:
    return architecture_of(CONFIG)


def estimate(length: int = 10, users: int = 3, ranks: int = 1, step: int = 1000) -> ServingMemory:
    return serving_memory(model(), BF16, "bf16", length, users, ranks, step)


def test_weights_and_caches_are_exact_and_split_over_ranks() -> None:
    one, two, four = estimate(), estimate(ranks=2), estimate(ranks=4)
    matrices, norms = 2 * (8 * 8 * 2 + 4 * 8 * 2 + 3 * 16 * 8) + 2 * 32 * 8, 5 * 8
    assert one.weights == 2 * (matrices + norms)
    assert two.weights == 2 * (matrices // 2 + norms)
    assert one.kv == 3 * 10 * 2 * (2 * 2 * 2) * 2  # users x tokens x layers x (k and v, 2 heads of 2) x 2 bytes
    assert two.kv == one.kv // 2
    # two KV heads on four ranks: one head stays whole on each
    assert four.kv == one.kv // 2


def test_the_workspace_is_the_live_activations_of_the_mlp_and_the_logits_of_last_tokens() -> None:
    found = estimate(length=10, users=3)
    # at the gate: residual 8, gate, up and its product 16 each; held: embeddings, layer input, normalised input
    assert found.activations == 30 * 2 * (8 + 3 * 16 + 3 * 8)
    assert found.logits == 3 * 32 * (2 + 4)


def test_a_step_processes_no_more_tokens_than_it_may() -> None:
    assert estimate(step=5).activations == 5 * 2 * (8 + 3 * 16 + 3 * 8)


def test_capacity_fills_the_budget_exactly_and_not_beyond() -> None:
    found = estimate(length=10, users=1)
    each = found.kv + found.logits
    exact = capacity(found, model(), found.weights + found.activations + 4 * each, 10, 1)
    assert exact.max_concurrency == 4
    assert capacity(found, model(), found.weights + found.activations + 4 * each - 1, 10, 1).max_concurrency == 3


def test_the_longest_sequence_fits_and_one_token_more_does_not() -> None:
    found = estimate(length=10, users=1)
    per_token = found.kv // 10
    budget = found.weights + found.activations + found.logits + 77 * per_token
    assert capacity(found, model(), budget, 10, 1).max_sequence_length == 77
    assert capacity(found, model(), budget - 1, 10, 1).max_sequence_length == 76
    assert capacity(found, model(), budget * 1000, 10, 1).max_sequence_length == 1000


def test_nothing_fits_in_a_budget_below_the_weights() -> None:
    found = estimate()
    none = capacity(found, model(), found.weights - 1, 10, 3)
    assert (none.max_concurrency, none.kv_tokens, none.max_sequence_length) == (0, 0, 0)


def test_ranks_that_do_not_divide_the_heads_are_refused_with_those_that_do() -> None:
    with pytest.raises(
        UsageError,
        match=r"tensor_parallel 3 does not divide this model's heads and widths \(4 attention heads.*usable are 1, 2, 4",
    ):
        estimate(ranks=3)
