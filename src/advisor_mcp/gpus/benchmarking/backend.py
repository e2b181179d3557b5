"""What a benchmark needs of a device; torch is one implementation, a test's stand-in another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from advisor_mcp.gpus.benchmarking.timing import Samples, Timed

Path = Literal["device", "host_to_device.pinned", "host_to_device.pageable", "device_to_host.pinned"]


@dataclass(frozen=True, slots=True)
class Identity:
    """The kind of device and what runs on it: nothing in it tells one machine from another of its kind.

    `id` is the knowledge base's where the name is known there. `kind` is cuda, rocm, mps or cpu; `count` how many alike
    there are.
    """

    id: str
    name: str
    kind: str
    memory_bytes: int
    software: str
    driver: str | None = None
    l2_bytes: int | None = None
    count: int = 1


class Unsupported(Exception):
    """The device or its library does not do this; the message is why, on one line."""


class Backend(Protocol):
    """One device. Methods that make work raise `Unsupported`; what they return owns its buffers until it is dropped."""

    @property
    def identity(self) -> Identity:
        """What it is."""

    def matmul(self, dtype: str, m: int, n: int, k: int) -> Timed:
        """A product of random matrices of that dtype: zeros would draw less power, and clocks would be higher."""

    def copy(self, path: Path, size: int) -> Timed:
        """A copy of `size` bytes within the device's memory, or between it and the host's."""

    def launch(self) -> Timed:
        """A kernel on one element, launched eagerly, which takes no time to speak of."""

    def all_reduce(self, size: int, seconds: float) -> Samples:
        """All-reduce of `size` bytes over all devices of its kind, timed for about that long."""

    def clock_mhz(self) -> int | None:
        """The clock of its processors now, or None where nothing says."""


DTYPES: Sequence[str] = ("fp32", "tf32", "bf16", "fp16", "fp8")
