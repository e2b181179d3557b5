"""The roofline of single operations, against figures derived by hand."""

from __future__ import annotations

import pytest

from advisor_mcp.formulas import tiles
from advisor_mcp.formulas.roofline import Roof, Work, attention, causal_pairs, matmul, rows_to_ridge, under

H100 = Roof(989.4e12, 3350e9)


def test_a_square_product_costs_2mnk_and_three_matrices() -> None:
    assert matmul(8192, 8192, 8192) == Work(1_099_511_627_776, 3 * 8192 * 8192 * 2)


def test_a_large_product_is_compute_bound_at_the_peak() -> None:
    found = under(H100, matmul(8192, 8192, 8192))
    assert (found.limit, found.seconds) == ("compute", pytest.approx(1_099_511_627_776 / 989.4e12))


def test_a_product_with_one_row_is_bound_by_reading_the_weight() -> None:
    found = under(H100, matmul(1, 8192, 8192))
    # 2 bytes x (8192 x 8192 + 2 x 8192) at 3.35 TB/s
    assert (found.limit, found.seconds) == ("memory", pytest.approx(134_250_496 / 3350e9))


def test_a_launch_that_takes_longer_than_both_bounds_a_small_product() -> None:
    assert under(H100, matmul(16, 16, 16), launch_s=3e-6).limit == "launch"


@pytest.mark.parametrize(("dtype", "bytes_"), [
    ("fp32", 4 * 3 * 64), ("tf32", 4 * 3 * 64), ("bf16", 2 * 3 * 64), ("fp8", 64 + 64 + 2 * 64), ("int8", 64 + 64 + 4 * 64),
    ("fp4", 32 + 32 + 2 * 64),
])  # fmt: skip
def test_operands_and_result_have_the_width_of_their_format(dtype: str, bytes_: float) -> None:
    assert matmul(8, 8, 8, dtype=dtype) == Work(1024, bytes_)


def test_a_weight_stored_in_four_bits_moves_a_quarter_of_it() -> None:
    assert matmul(8, 8, 8, weight_bits=4).bytes == 2 * 64 + 32 + 2 * 64


def test_a_batch_of_products_costs_as_many_times_one() -> None:
    one, many = matmul(3, 5, 7), matmul(3, 5, 7, batch=11)
    assert (many.flops, many.bytes) == (11 * one.flops, 11 * one.bytes)


@pytest.mark.parametrize(("n", "k", "ridge", "dtype"), [
    (8192, 8192, 100.0, "bf16"), (4096, 14336, 295.3, "bf16"), (28672, 8192, 590.7, "fp8"), (128, 4096, 20.0, "fp32"),
])  # fmt: skip
def test_the_rows_that_reach_the_ridge_are_the_fewest_that_do(n: int, k: int, ridge: float, dtype: str) -> None:
    rows = rows_to_ridge(n, k, ridge, dtype)
    assert rows is not None
    assert matmul(rows, n, k, dtype=dtype).intensity >= ridge > matmul(rows - 1, n, k, dtype=dtype).intensity


def test_the_rows_of_a_square_weight_are_those_of_the_closed_form() -> None:
    # m (2 x 8192^2 - 100 x 2 x 2 x 8192) >= 100 x 2 x 8192^2, so m >= 102.5
    assert rows_to_ridge(8192, 8192, 100.0) == 103


def test_no_batch_saves_a_product_whose_weight_is_too_small() -> None:
    # with n = k = 100 the intensity never exceeds 2nk / 2(n + k) = 50
    assert rows_to_ridge(100, 100, 50.0) is None


def test_a_causal_mask_halves_a_square_and_spares_a_single_query() -> None:
    assert [causal_pairs(4, 4), causal_pairs(1, 4), causal_pairs(2, 4)] == [4 + 3 + 2 + 1, 4, 4 + 3]


def test_fused_attention_moves_queries_outputs_and_shared_keys_and_values() -> None:
    # 32 heads x 8192 x 8193 / 2 pairs x 2 x (128 + 128); 2 bytes x 256 x 8192 x (32 + 8)
    assert attention(1, 32, 8, 128, 8192, 8192) == Work(549_822_922_752, 167_772_160)


def test_materialised_attention_adds_four_passes_over_every_score() -> None:
    fused, whole = attention(2, 4, 4, 64, 128, 128), attention(2, 4, 4, 64, 128, 128, materialised=True)
    assert whole.bytes - fused.bytes == 4 * 2 * (2 * 4 * 128 * 128)


@pytest.mark.parametrize("causal", [True, False])
def test_materialised_attention_multiplies_every_pair_whatever_is_masked(causal: bool) -> None:
    found = attention(2, 4, 4, 64, 128, 128, causal=causal, materialised=True)
    # 2 x 4 heads x 128 x 128 pairs x 2 x (64 + 64), as fused attention does without a mask
    assert found.flops == 33_554_432 == attention(2, 4, 4, 64, 128, 128, causal=False).flops


def test_a_decoded_token_reads_the_whole_cache_for_one_query() -> None:
    found = attention(1, 32, 8, 128, 1, 8192, kv_dtype="fp8")
    assert found == Work(2 * 32 * 8192 * 256, 2 * 32 * 256 + 8 * 8192 * 256)


def test_values_narrower_than_keys_are_counted_as_they_are() -> None:
    assert attention(1, 1, 1, 192, 1, 10, value_head_dim=128) == Work(2 * 10 * 320, 2 * 320 + 2 * 10 * 320)


def test_a_row_more_starts_a_second_wave() -> None:
    # 7 x 14 = 98 tiles on 108 SMs; one more row and column makes 8 x 15 = 120
    full, over = (tiles.tiling(size, size, 1, 108, (256, 128)) for size in (1792, 1793))
    assert full == tiles.Tiling(256, 128, 98, 1, 1.0, 98 / 108)
    assert over == tiles.Tiling(256, 128, 120, 2, 1793 * 1793 / (120 * 256 * 128), 120 / 216)


def test_the_best_tiling_wastes_least_and_of_equals_is_the_largest() -> None:
    found = tiles.tilings(256, 256, 1, 4)
    # 64 x 64 makes 16 tiles in 4 whole waves, 128 x 128 makes 4 in one: both waste nothing
    assert tiles.best(found) == tiles.Tiling(128, 128, 4, 1, 1.0, 1.0)


@pytest.mark.parametrize(("dtype", "size", "multiple"), [("bf16", 4097, 8), ("fp8", 4104, 16), ("tf32", 4098, 4), ("fp4", 4112, 32)])  # fmt: skip
def test_dimensions_that_are_no_multiple_of_16_bytes_are_named(dtype: str, size: int, multiple: int) -> None:
    assert tiles.unaligned(dtype, {"n": size, "k": 4096}) == {"n": multiple}
