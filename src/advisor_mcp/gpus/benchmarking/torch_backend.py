"""A device as PyTorch drives it: CUDA and ROCm timed by events, Apple's and the CPU by the clock after synchronising."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path as File
from typing import Any

from advisor_mcp.errors import CannotAnswer, UsageError, shown
from advisor_mcp.formulas.devices import id_of
from advisor_mcp.gpus import open_devices
from advisor_mcp.gpus.benchmarking.backend import Identity, Path, Unsupported
from advisor_mcp.gpus.benchmarking.timing import Samples, Timed, summary

INSTALL = "pip install 'advisor-mcp[torch]', or the build for your GPU that pytorch.org names"
DTYPE_NAMES = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp8": "float8_e4m3fn"}


def open_torch(device: str | None = None) -> TorchBackend:
    """The named torch device ("cuda:1", "mps", "cpu"), or the first GPU there is, else the CPU.

    Raises `CannotAnswer` where torch is not installed and `UsageError` for a device that it does not have.
    """
    try:
        import torch
    except ImportError:
        raise CannotAnswer(
            f"PyTorch is not installed, and it runs the measurement: {INSTALL}", needs=["torch"]
        ) from None
    name = device or _first(torch)
    try:
        found = torch.device(name)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"torch has no device {shown(name)} here: {_line(error)}") from None
    return TorchBackend(torch, found)


def _first(torch: Any) -> str:
    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _line(error: Exception) -> str:
    """The first line of an error, without paths: those of torch carry a stack."""
    return re.sub(r"\S*/\S+", "...", str(error).strip().split("\n")[0])[:160] or type(error).__name__


class TorchBackend:
    """One torch device; see `Backend`."""

    def __init__(self, torch: Any, device: Any) -> None:
        self.torch, self.device = torch, device
        self.identity = _identity(torch, device)

    def matmul(self, dtype: str, m: int, n: int, k: int) -> Timed:
        """Products of normal random matrices; fp8 with one scale each and a bf16 result, tf32 as fp32 with tensor cores."""
        torch = self.torch
        if dtype == "tf32" and torch.version.hip:
            raise Unsupported("tf32 is measured on NVIDIA's GPUs only")
        try:
            kind = getattr(torch, DTYPE_NAMES[dtype])
            a = torch.randn(m, k, device=self.device).to(kind)
            b = torch.randn(n, k, device=self.device).to(kind).t()
            product = self._product(dtype, a, b)
            with _precision(torch, "high" if dtype == "tf32" else "highest"):
                product()
                self._wait()
        except (RuntimeError, NotImplementedError, AttributeError, TypeError, ValueError) as error:
            raise Unsupported(_line(error)) from None
        timed = self._timed(product)

        def run(times: int) -> float:
            with _precision(torch, "high" if dtype == "tf32" else "highest"):
                return timed(times)

        return run

    def _product(self, dtype: str, a: Any, b: Any) -> Callable[[], Any]:
        if dtype == "fp8":
            one = self.torch.ones((), device=self.device)
            return lambda: self.torch._scaled_mm(a, b, scale_a=one, scale_b=one, out_dtype=self.torch.bfloat16)
        result = self.torch.empty(a.shape[0], b.shape[1], device=self.device, dtype=a.dtype)
        return lambda: self.torch.mm(a, b, out=result)

    def copy(self, path: Path, size: int) -> Timed:
        """Copies between buffers of bytes; those of the host are page-locked where the path says pinned."""
        torch = self.torch
        try:
            host = {"device": "cpu", "pin_memory": path.endswith("pinned")}
            here: dict[str, Any] = {"device": self.device}
            source = torch.ones(size, dtype=torch.uint8, **(host if path.startswith("host") else here))
            target = torch.empty(size, dtype=torch.uint8, **(host if path.startswith("device_to") else here))
        except RuntimeError as error:
            raise Unsupported(_line(error)) from None
        return self._timed(lambda: target.copy_(source, non_blocking=path.endswith("pinned")))

    def launch(self) -> Timed:
        """An addition to one element."""
        x = self.torch.zeros(1, device=self.device)
        return self._timed(lambda: x.add_(1))

    def all_reduce(self, size: int, seconds: float) -> Samples:
        """Over all GPUs, one process each, through the library's own collectives."""
        from advisor_mcp.gpus.benchmarking.collectives import all_reduce

        return summary(all_reduce(self.identity.count, size, seconds, "nccl", self.device.type))

    def clock_mhz(self) -> int | None:
        """The processors' clock as the driver gives it."""
        if self.device.type == "cuda":
            # the driver's library may be missing, or refuse; torch raises what that raises
            with suppress(Exception):
                return int(self.torch.cuda.clock_rate(self.device))
        return None

    def _wait(self) -> None:
        if self.device.type != "cpu":
            getattr(self.torch, self.device.type).synchronize()

    def _timed(self, work: Callable[[], Any]) -> Timed:
        return self._by_events(work) if self.device.type == "cuda" else self._by_clock(work)

    def _by_events(self, work: Callable[[], Any]) -> Timed:
        cuda = self.torch.cuda

        def run(times: int) -> float:
            start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
            with cuda.device(self.device):
                start.record()
                for _ in range(times):
                    work()
                end.record()
                end.synchronize()
            return float(start.elapsed_time(end)) / 1e3

        return run

    def _by_clock(self, work: Callable[[], Any]) -> Timed:
        def run(times: int) -> float:
            self._wait()
            started = time.perf_counter()
            for _ in range(times):
                work()
            self._wait()
            return time.perf_counter() - started

        return run


class _precision:
    """Whether fp32 products may run as tf32, put back afterwards."""

    def __init__(self, torch: Any, wanted: str) -> None:
        self._torch, self._wanted = torch, wanted

    def __enter__(self) -> None:
        self._before = self._torch.get_float32_matmul_precision()
        self._torch.set_float32_matmul_precision(self._wanted)

    def __exit__(self, *_: object) -> None:
        self._torch.set_float32_matmul_precision(self._before)


def _identity(torch: Any, device: Any) -> Identity:
    software = f"torch {torch.__version__}"
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        kind = "rocm" if torch.version.hip else "cuda"
        return Identity(
            id_of(found.name) or _slug(found.name), found.name, kind, found.total_memory, software, _driver(),
            getattr(found, "L2_cache_size", None), torch.cuda.device_count(),
        )  # fmt: skip
    name = _processor()
    if device.type == "mps":
        memory = int(torch.mps.recommended_max_memory())
        return Identity(id_of(name) or _slug(name), name, "mps", memory, software)
    return Identity("cpu", f"{name}, {torch.get_num_threads()} threads", "cpu", _host_memory(), software)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "gpu"


def _driver() -> str | None:
    with open_devices() as source:
        return source.driver().driver_version


def _processor() -> str:
    """The processor's name: of the chip on macOS, of the CPU elsewhere."""
    if platform.system() == "Darwin":
        with suppress(OSError, subprocess.SubprocessError):
            asked = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(asked, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    with suppress(OSError):
        listed = re.search(r"^model name\s*:\s*(.+)$", File("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        if listed:
            return listed[1].strip()
    return platform.processor() or platform.machine() or "CPU"


def _host_memory() -> int:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 8 * 2**30  # bounds the buffers where the system does not say
