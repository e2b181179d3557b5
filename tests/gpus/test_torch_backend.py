"""The device as torch drives it, on the CPU. Everything that does not call torch is tested with a stand-in."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install torch==2.13.0)")

from advisor_mcp.errors import UsageError
from advisor_mcp.gpus.benchmarking import collectives
from advisor_mcp.gpus.benchmarking.backend import Unsupported
from advisor_mcp.gpus.benchmarking.torch_backend import open_torch


def test_the_cpu_is_named_for_what_it_is() -> None:
    found = open_torch("cpu").identity
    assert (found.id, found.kind, found.count, found.software.split()[0]) == ("cpu", "cpu", 1, "torch")
    assert found.memory_bytes > 2**28


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_product_and_a_copy_take_time(dtype: str) -> None:
    device = open_torch("cpu")
    assert device.matmul(dtype, 64, 64, 64)(3) > 0
    assert device.copy("device", 2**20)(3) > 0


def test_the_precision_of_fp32_products_is_left_as_it_was() -> None:
    import torch

    before = torch.get_float32_matmul_precision()
    open_torch("cpu").matmul("tf32", 64, 64, 64)(1)
    assert torch.get_float32_matmul_precision() == before


def test_a_device_that_is_not_there_is_refused_in_a_sentence() -> None:
    with pytest.raises(UsageError, match="torch has no device 'nonsense' here: "):
        open_torch("nonsense")


def test_all_reduce_is_timed_over_processes_and_a_failure_is_told() -> None:
    assert len(collectives.all_reduce(2, 2**12, 0.01, "gloo", "cpu")) >= collectives.LEAST_SAMPLES
    with pytest.raises(Unsupported):
        collectives.all_reduce(2, 2**12, 0.01, "no such backend", "cpu")
