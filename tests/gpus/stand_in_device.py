"""A device whose speed and clock a test sets: time passes only where it is worked on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from advisor_mcp.gpus.benchmarking.backend import Identity, Path, Unsupported
from advisor_mcp.gpus.benchmarking.timing import Samples, Timed, summary

H100 = Identity("h100-sxm", "NVIDIA H100 80GB HBM3", "cuda", 80 * 2**30, "torch 2.13.0", "580.65", 50 * 2**20)


@dataclass
class StandIn:
    """TFLOP/s per dtype and (m, n, k), GB/s per path of a copy; what is not named is not supported."""

    identity: Identity = H100
    tflops: Mapping[str, float] = field(default_factory=dict)
    slower: Mapping[tuple[int, int, int], float] = field(default_factory=dict)
    copies: Mapping[str, float] = field(default_factory=dict)
    launch_s: float = 4e-6
    cold: int = 0  # runs that take twice as long, before it is warm
    at: float = 0.0
    made: list[str] = field(default_factory=list)

    def now(self) -> float:
        return self.at

    def matmul(self, dtype: str, m: int, n: int, k: int) -> Timed:
        if dtype not in self.tflops:
            raise Unsupported(f"no {dtype} here")
        self.made.append(f"{dtype} {m}x{n}x{k}")
        return self.working(2 * m * n * k / 1e12 / self.tflops[dtype] * self.slower.get((m, n, k), 1.0))

    def copy(self, path: Path, size: int) -> Timed:
        if path not in self.copies:
            raise Unsupported("no such path")
        crossings = 2 if path == "device" else 1
        return self.working(crossings * size / 1e9 / self.copies[path])

    def launch(self) -> Timed:
        return self.working(self.launch_s)

    def all_reduce(self, size: int, seconds: float) -> Samples:
        # 2 (n - 1) / n of the bytes over links of 400 GB/s
        ranks = self.identity.count
        return summary([2 * (ranks - 1) / ranks * size / 400e9] * 10)

    def clock_mhz(self) -> int | None:
        return 1755

    def working(self, each: float) -> Timed:
        def run(times: int) -> float:
            taken = 0.0
            for _ in range(times):
                taken += 2 * each if self.cold > 0 else each
                self.cold -= 1
            self.at += taken
            return taken

        return run
