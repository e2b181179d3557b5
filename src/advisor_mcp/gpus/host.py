"""What a machine without a readable GPU is: its processor, its memory, and the GPUs that other tools would show."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["apple", "cpu"]
PCI_DEVICES = Path("/sys/bus/pci/devices")
CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
_GPU_CLASSES = ("0x03", "0x12")  # display controllers, processing accelerators

TOOLS = {
    "apple": "NVML does not exist on macOS: read the GPU with `sudo powermetrics`, with Instruments' "
    "Metal System Trace, or from PyTorch with `torch.mps`",
    "NVIDIA": "an NVIDIA GPU is on the PCI bus, but its driver does not answer: install or load the NVIDIA driver, or start "
    "the container with access to it (`--gpus all`)",
    "AMD": "an AMD GPU is on the PCI bus, but AMD SMI does not answer: install ROCm's amd-smi and `pip install "
    "'advisor-mcp[amd]'`, and give the container /dev/kfd and /dev/dri",
    "Intel": "an Intel GPU is on the PCI bus: `xpu-smi` or `intel_gpu_top` show it",
}
"""The right tool for what is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine: `chip` is the processor's name, `memory_bytes` all its memory (on Apple's chips the GPU's too).

    `pci_gpus` names the makers of GPUs that stand on the PCI bus, whether or not a driver answers for them.
    """

    kind: Kind
    chip: str
    memory_bytes: int | None = None
    pci_gpus: tuple[str, ...] = ()

    @property
    def tool(self) -> str | None:
        """What would show this machine's GPU, if it has one."""
        named = next(iter(self.pci_gpus), None)
        return TOOLS["apple"] if self.kind == "apple" else TOOLS[named] if named else None


def describe_host() -> Host:
    """The machine that this runs on; what cannot be read is left out."""
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return _apple()
    return Host(kind="cpu", chip=_processor(), memory_bytes=_memory(), pci_gpus=tuple(_pci_gpus()))


def _apple(read: Callable[[str], str] | None = None) -> Host:
    ask = read or _sysctl
    memory = ask("hw.memsize")
    return Host(
        kind="apple",
        chip=ask("machdep.cpu.brand_string") or "Apple silicon",
        memory_bytes=int(memory) if memory.isdigit() else None,
    )


def _sysctl(name: str) -> str:
    try:
        found = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()


def _processor() -> str:
    named = (line.partition(":")[2].strip() for line in _lines(CPUINFO) if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine() or "unknown processor"


def _memory() -> int | None:
    sizes = (line.split()[1] for line in _lines(MEMINFO) if line.startswith("MemTotal:"))
    size = next(sizes, "")
    return int(size) * 1024 if size.isdigit() else None


def _pci_gpus() -> Iterator[str]:
    """The makers of the GPUs on the PCI bus, each once, in the order of `_VENDORS`."""
    try:
        devices = sorted(PCI_DEVICES.iterdir())
    except OSError:
        return
    found = {vendor for device in devices if (vendor := _gpu_vendor(device))}
    yield from (name for name in _VENDORS.values() if name in found)


def _gpu_vendor(device: Path) -> str | None:
    is_gpu = "".join(_lines(device / "class")).startswith(_GPU_CLASSES)
    return _VENDORS.get("".join(_lines(device / "vendor")).strip()) if is_gpu else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
