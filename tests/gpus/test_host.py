"""What a machine without a readable GPU is said to be."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest

from advisor_mcp.gpus import host
from advisor_mcp.gpus.host import TOOLS, Host, describe_host


@pytest.fixture
def linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Linux machine whose files are in a folder of the test."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(host, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(host, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(host, "PCI_DEVICES", tmp_path / "devices")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC 9654\nmodel name\t: AMD EPYC 9654\n")
    (tmp_path / "meminfo").write_text("MemTotal:       1048576 kB\nMemFree: 5 kB\n")
    (tmp_path / "devices").mkdir()
    return tmp_path


def pci(root: Path, name: str, vendor: str, kind: str) -> None:
    device = root / "devices" / name
    device.mkdir()
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")


def test_a_cpu_machine_is_named_by_its_processor_and_memory(linux: Path) -> None:
    assert describe_host() == Host(kind="cpu", chip="AMD EPYC 9654", memory_bytes=2**30)


def test_gpus_on_the_bus_are_named_once_by_their_maker(linux: Path) -> None:
    pci(linux, "0000:01:00.0", "0x8086", "0x030000")  # a display controller
    pci(linux, "0000:02:00.0", "0x1002", "0x120000")  # a processing accelerator
    pci(linux, "0000:03:00.0", "0x1002", "0x120000")
    pci(linux, "0000:04:00.0", "0x10de", "0x068000")  # a bridge is no GPU
    pci(linux, "0000:05:00.0", "0x1a03", "0x030000")  # a server's management console is none we know
    found = describe_host()
    assert found.pci_gpus == ("AMD", "Intel")
    assert found.tool == TOOLS["AMD"]


def test_a_machine_whose_files_cannot_be_read_is_still_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(platform, "processor", lambda: "AMD64 Family 25")
    for name in ("CPUINFO", "MEMINFO", "PCI_DEVICES"):
        monkeypatch.setattr(host, name, tmp_path / "gone")
    assert describe_host() == Host(kind="cpu", chip="AMD64 Family 25")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (
            {"machdep.cpu.brand_string": "Apple M4 Max\n", "hw.memsize": "137438953472\n"},
            Host(kind="apple", chip="Apple M4 Max", memory_bytes=2**37),
        ),
        ({}, Host(kind="apple", chip="Apple silicon")),
    ],
    ids=["known", "sysctl says nothing"],
)
def test_apple_silicon_is_asked_through_sysctl(
    answers: dict[str, str], expected: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **settings: Any) -> Any:
        assert command[:2] == ["/usr/sbin/sysctl", "-n"]
        return subprocess.CompletedProcess(command, 0, answers.get(command[2], ""), "")

    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(subprocess, "run", run)
    assert describe_host() == expected


def test_a_mac_without_sysctl_is_still_apple_silicon(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*command: Any, **settings: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(subprocess, "run", run)
    assert describe_host() == Host(kind="apple", chip="Apple silicon")
