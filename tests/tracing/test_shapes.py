"""What operators cost, from the shapes that the profiler recorded, worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from advisor_mcp.tracing.shapes import Cost, cost

BF16, FLOAT = "c10::BFloat16", "float"


def priced(name: str, dims: Any, *types: str) -> Cost | None:
    return cost(name, f"{json.dumps(dims)}|{json.dumps(list(types))}")


def test_a_matrix_product_moves_each_operand_once() -> None:
    assert priced("aten::mm", [[128, 64], [64, 32]], BF16, BF16) == Cost(
        2 * 128 * 64 * 32, (128 * 64 + 64 * 32 + 128 * 32) * 2, "bf16", (128, 32, 64, 1)
    )


def test_addmm_has_its_bias_first_and_linear_its_weight_transposed() -> None:
    product = Cost(2 * 128 * 64 * 32, (128 * 64 + 64 * 32 + 128 * 32) * 2, "bf16", (128, 32, 64, 1))
    assert priced("aten::addmm", [[32], [128, 64], [64, 32], [], []], BF16, BF16, BF16, "Scalar", "Scalar") == product
    assert priced("aten::linear", [[2, 64, 64], [32, 64]], BF16, BF16) == product


def test_a_batch_of_products_counts_each() -> None:
    found = priced("aten::bmm", [[16, 8, 4], [16, 4, 2]], BF16, BF16)
    assert found == Cost(16 * 2 * 8 * 4 * 2, 16 * (8 * 4 + 4 * 2 + 8 * 2) * 2, "bf16", (8, 2, 4, 16))


def test_attention_is_two_products_and_moves_query_key_value_and_output() -> None:
    dims = [[1, 8, 128, 64]] * 3
    assert priced("aten::_scaled_dot_product_flash_attention", dims, BF16, BF16, BF16) == Cost(
        2 * 8 * 128 * 128 * (64 + 64), 4 * 8 * 128 * 64 * 2, "bf16"
    )
    sequence_first = [[1, 128, 8, 64]] * 3
    assert priced("aten::_flash_attention_forward", sequence_first, BF16, BF16, BF16) == Cost(
        2 * 8 * 128 * 128 * (64 + 64), 4 * 8 * 128 * 64 * 2, "bf16"
    )


def test_elementwise_work_reads_its_inputs_and_writes_the_largest() -> None:
    assert priced("aten::add", [[8192, 8192], [8192, 8192], []], FLOAT, FLOAT, "Scalar") == Cost(
        8192**2, 3 * 8192**2 * 4, "fp32"
    )
    assert priced("aten::mul", [[64, 128], [128]], BF16, BF16) == Cost(64 * 128, (2 * 64 * 128 + 128) * 2, "bf16")


@pytest.mark.parametrize(
    ("name", "dims", "types"),
    [
        ("aten::mm", [[128, 64], [32, 64]], (BF16, BF16)), ("aten::mm", [[128, 64]], (BF16,)), ("aten::mm", [], ()),
        ("aten::mm", [[128, 64], [64, 32]], ()), ("aten::mystery", [[128, 64], [64, 32]], (BF16, BF16)), ("aten::mm", "x", ()),
        ("aten::mm", [[128, "a"], [64, 32]], (BF16, BF16)), ("aten::linear", [[128, 64], [64]], (BF16, BF16)),
    ],
)  # fmt: skip
def test_what_cannot_be_read_has_no_cost(name: str, dims: Any, types: tuple[str, ...]) -> None:
    assert priced(name, dims, *types) is None


def test_damaged_shapes_have_no_cost() -> None:
    assert cost("aten::mm", "[[1, 2") is None
    assert cost("aten::mm", "") is None


@pytest.mark.parametrize(
    ("m", "n", "k", "kind", "aligned"),
    [(4096, 4096, 4096, BF16, True), (4097, 4096, 4096, BF16, True), (4096, 4097, 4096, BF16, False), (4096, 4096, 4097, BF16, False), (8, 8, 8, BF16, True), (8, 8, 8, "Float8_e4m3fn", False),
     (16, 16, 16, "Float8_e4m3fn", True), (3, 5, 7, FLOAT, True)],
)  # fmt: skip
def test_rows_of_16_bytes_are_aligned_and_how_many_rows_there_are_does_not_matter(
    m: int, n: int, k: int, kind: str, aligned: bool
) -> None:
    found = priced("aten::mm", [[m, k], [k, n]], kind, kind)
    assert found is not None
    assert found.aligned is aligned
