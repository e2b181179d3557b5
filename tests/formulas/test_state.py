"""State: groups of caches, their dtypes and caps."""

from __future__ import annotations

from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.formulas.state import StateGroup, longest_sequence, state_bytes, state_groups

GEMMA = {
    "model_type": "gemma3_text", "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
    "intermediate_size": 16,
    "num_hidden_layers": 6, "vocab_size": 32, "sliding_window": 5, "torch_dtype": "bfloat16",
}  # fmt: skip


def test_windowed_layers_keep_the_last_window_and_full_layers_everything() -> None:
    architecture = architecture_of(GEMMA)
    groups = state_groups(architecture, architecture.bound())
    assert groups == [StateGroup("sliding", 5, 80, 1, 5, 0, "bf16"), StateGroup("full", 1, 16, 1, None, 0, "bf16")]
    assert [state_bytes(groups, length) for length in (3, 5, 100)] == [3 * 96, 5 * 96, 5 * 80 + 100 * 16]


def test_auto_keeps_the_models_dtype_and_a_named_dtype_applies_to_all() -> None:
    architecture = architecture_of(GEMMA | {"torch_dtype": "float32"})
    assert {group.dtype for group in state_groups(architecture, architecture.bound())} == {"fp32"}
    assert [group.bytes_per_token for group in state_groups(architecture, architecture.bound(), "fp8")] == [40, 8]


def test_entries_that_stand_for_several_tokens_are_whole() -> None:
    group = StateGroup("compressed", 1, 3, 4, None, 7, "bf16")
    assert [group.bytes_at(length) for length in (3, 4, 9)] == [7, 7 + 12, 7 + 24]


def test_the_longest_sequence_of_a_capped_state_is_the_limit() -> None:
    capped = [StateGroup("sliding", 1, 10, 1, 5, 0, "bf16")]
    assert longest_sequence(capped, 50, 4096) == 4096
    assert longest_sequence(capped, 49, 4096) == 4
    assert longest_sequence(capped, 0, 4096) == 0
