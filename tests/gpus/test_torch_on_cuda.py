"""What is asked of torch on a GPU, held against a stand-in for torch: no GPU and no torch is needed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from advisor_mcp.gpus.benchmarking.backend import Identity
from advisor_mcp.gpus.benchmarking.torch_backend import TorchBackend


class Cuda:
    """CUDA with one clock, in milliseconds, that only work moves; events are recorded in stream order."""

    def __init__(self, name: str, count: int) -> None:
        self.at, self.calls = 0.0, list[str]()
        self.name, self.count = name, count

    def get_device_properties(self, device: Any) -> Any:
        return SimpleNamespace(name=self.name, total_memory=85_520_809_984, L2_cache_size=50 * 2**20)

    def device_count(self) -> int:
        return self.count

    def device(self, device: Any) -> Cuda:
        return self

    def __enter__(self) -> None:
        self.calls.append("enter")

    def __exit__(self, *_: object) -> None:
        self.calls.append("exit")

    def clock_rate(self, device: Any) -> int:
        raise RuntimeError("no NVML")

    def Event(self, enable_timing: bool) -> Any:
        cuda = self

        class Event:
            def record(self) -> None:
                self.at = cuda.at
                cuda.calls.append("record")

            def synchronize(self) -> None:
                cuda.calls.append("synchronize")

            def elapsed_time(self, end: Any) -> float:
                return float(end.at - self.at)

        return Event()


def backend(name: str = "NVIDIA H100 80GB HBM3", hip: str | None = None, count: int = 1) -> tuple[TorchBackend, Cuda]:
    cuda = Cuda(name, count)
    torch = SimpleNamespace(__version__="2.13.0", version=SimpleNamespace(hip=hip), cuda=cuda)
    return TorchBackend(torch, SimpleNamespace(type="cuda")), cuda


@pytest.mark.parametrize(("name", "hip", "expected"), [
    ("NVIDIA H100 80GB HBM3", None, ("h100-sxm", "cuda")), ("AMD Instinct MI300X", "7.1", ("mi300x", "rocm")),
    ("NVIDIA Z900 (96 GB)", None, ("nvidia-z900-96-gb", "cuda")),
])  # fmt: skip
def test_a_gpu_is_named_by_its_kind_and_by_a_slug_where_that_is_not_known(
    name: str, hip: str | None, expected: tuple[str, str]
) -> None:
    found = backend(name, hip, count=8)[0].identity
    driver = found.driver  # this machine's own
    assert found == Identity(expected[0], name, expected[1], 85_520_809_984, "torch 2.13.0", driver, 50 * 2**20, 8)


def test_work_is_timed_by_events_around_all_runs_and_waited_for_once() -> None:
    device, cuda = backend()

    def work() -> None:
        cuda.at += 2.5
        cuda.calls.append("work")

    assert device._timed(work)(3) == 0.0075
    assert cuda.calls == ["enter", "record", "work", "work", "work", "record", "synchronize", "exit"]


def test_a_clock_that_nothing_gives_is_left_out() -> None:
    assert backend()[0].clock_mhz() is None
