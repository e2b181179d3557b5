"""FLOPs: by hand on small models, and the identities between conventions."""

from __future__ import annotations

import pytest

from advisor_mcp.anatomy.inventory import Span
from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import UsageError
from advisor_mcp.formulas.flops import absorbed, conventions, forward, hardware_share

SMALL = {
    "model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16,
    "num_hidden_layers": 2, "vocab_size": 32,
}  # fmt: skip
MATRICES = 2 * (192 + 384) + 256  # elements multiplied with: two layers and the head


def test_a_forward_pass_is_two_flops_per_weight_and_token_plus_attention() -> None:
    architecture = architecture_of(SMALL)
    run = forward(architecture, architecture.workload(6))
    # 21 causal pairs, 2 heads of 4: scores and sums are 2 FLOPs each
    attention = 2 * 21 * 2 * 4 * (2 + 2)
    assert (run.total, run.attention) == (2 * MATRICES * 6 + attention, attention)
    assert run.layers == run.total - 2 * 256 * 6


def test_a_tied_head_costs_the_same_flops() -> None:
    tied = architecture_of(SMALL | {"tie_word_embeddings": True})
    untied = architecture_of(SMALL)
    assert forward(tied, tied.workload(6)) == forward(untied, untied.workload(6))


def test_only_the_routed_experts_of_a_token_cost_flops() -> None:
    config = SMALL | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    architecture = architecture_of(config)
    run = forward(architecture, architecture.workload(1))
    assert run.total - run.attention == 2 * (2 * (192 + 4 * 8 + 2 * 384) + 256)


@pytest.mark.parametrize(("span", "length", "causal", "pairs"), [
    (Span(), 5, True, 15), (Span(), 5, False, 25),
    (Span(window=2), 5, True, 1 + 2 + 2 + 2 + 2), (Span(window=2), 5, False, 10), (Span(window=9), 5, True, 15),
    (Span(chunk=2), 5, True, 3 + 3 + 1), (Span(chunk=2), 5, False, 4 + 4 + 1),
])  # fmt: skip
def test_pairs_of_a_span_by_enumeration(span: Span, length: int, causal: bool, pairs: int) -> None:
    assert span.pairs(length, causal) == pairs


def test_the_conventions_agree_with_their_closed_formulas() -> None:
    found = {c.id: c.flops_per_token for c in conventions(architecture_of(SMALL), 6)}
    total = 2 * (192 + 384 + 16) + 2 * 256 + 8
    assert found["six_n_total"] == found["six_n_active"] == 6 * total
    assert found["palm"] == 6 * total + 12 * 2 * 2 * 4 * 6  # 12 L H Q T
    assert found["matmul_full"] == 6 * MATRICES + 12 * 2 * 2 * 4 * 6
    assert found["matmul_causal"] == 6 * MATRICES + 12 * 2 * 2 * 4 * 21 / 6


def test_full_recomputation_makes_palm_hfu_four_thirds_of_mfu_and_leaves_the_head_out_of_the_exact_counts() -> None:
    architecture = architecture_of(SMALL)
    by_id = {c.id: c for c in conventions(architecture, 6)}
    assert hardware_share(architecture, by_id["palm"], "full") == pytest.approx(4 / 3)
    exact = by_id["matmul_causal"]
    assert hardware_share(architecture, exact, "full") == pytest.approx(
        1 + (exact.flops_per_token / 3 - 2 * 256) / exact.flops_per_token
    )
    assert hardware_share(architecture, exact, 1) - 1 == pytest.approx(
        (hardware_share(architecture, exact, "full") - 1) / 2
    )
    assert hardware_share(architecture, exact, "selective") == pytest.approx(
        1 + (4 * 2 * 2 * 4 * 21 / 6) / exact.flops_per_token
    )
    assert hardware_share(architecture, exact, "none") == 1


def test_more_recomputed_blocks_than_layers_cannot_be() -> None:
    architecture = architecture_of(SMALL)
    with pytest.raises(
        UsageError, match="recompute 3 names more blocks than the model's 2 layers; give at most that many"
    ):
        hardware_share(architecture, conventions(architecture, 6)[0], 3)


LATENT = {
    "model_type": "deepseek_v3", "hidden_size": 8, "num_attention_heads": 2, "q_lora_rank": 6, "kv_lora_rank": 4, "qk_rope_head_dim": 2,
    "qk_nope_head_dim": 3, "v_head_dim": 5, "num_hidden_layers": 3, "first_k_dense_replace": 3, "intermediate_size": 16, "vocab_size": 32,
    "num_nextn_predict_layers": 0,
}  # fmt: skip


def test_latent_attention_absorbed_runs_its_scores_and_sums_over_the_latent() -> None:
    architecture = architecture_of(LATENT)
    sizes = architecture.workload(6)
    # 21 pairs and 2 heads in 3 layers: keys of 4 + 2 and values of 4 in place of keys of 3 + 2 and values of 5
    assert absorbed(architecture, sizes) == forward(architecture, sizes).total + 3 * 2 * 21 * 2 * (
        (4 + 2 + 4) - (3 + 2 + 5)
    )
    wide = architecture_of(LATENT | {"kv_lora_rank": 7})
    run = wide.workload(6)
    assert absorbed(wide, run) == forward(wide, run).total + 3 * 2 * 21 * 2 * ((7 + 2 + 7) - 10)


def test_attention_without_a_latent_has_no_absorbed_form() -> None:
    architecture = architecture_of(SMALL)
    assert absorbed(architecture, architecture.workload(6)) is None
