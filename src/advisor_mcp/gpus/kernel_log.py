"""Xids that the driver wrote to the kernel log: NVML has no getter for them, and its event set shows only those to come.

The log is read where this process may (root, or `kernel.dmesg_restrict` 0) and only codes, counts and times are kept:
the lines also name programs.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor_mcp.gpus.devices import XidReading

LOG = Path("/dev/kmsg")
UNREADABLE = "NVML has no getter for Xids, and this process may not read the kernel log"
NO_BUS = "the PCI bus of this GPU is not known, so no Xid can be told to be its own"
LONGEST = 16 * 2**20
_RECORD = re.compile(
    rb"^\d+,\d+,(?P<microseconds>\d+),[^;\n]*;NVRM: Xid \((?:PCI:)?(?P<bus>[0-9a-fA-F:.]+)\): (?P<code>\d+)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Xids:
    """The Xids of the log by PCI bus, or why it could not be read."""

    by_bus: Mapping[str, tuple[XidReading, ...]] | None = None
    reason: str = UNREADABLE

    def put(self, values: dict[str, Any], missing: dict[str, str]) -> None:
        """Put a GPU's own Xids into the values of its reading, or why there are none."""
        bus = values.get("pci_bus_id")
        if self.by_bus is None or bus is None:
            missing["xids"] = self.reason if self.by_bus is None else NO_BUS
        else:
            values["xids"] = self.by_bus.get(bus_of(bus), ())


def bus_of(pci_bus_id: str) -> str:
    """Domain, bus and device of a PCI address as short as the log writes them: ``00000000:1B:00.0`` is ``0:1b:0``."""
    parts = pci_bus_id.split(".")[0].split(":")
    return ":".join(f"{int(part, 16):x}" for part in parts)


def read_xids(log: Path | None = None, now_s: Callable[[], float] | None = None) -> Xids:
    """The Xids that the kernel log holds, by PCI bus.

    `now_s` is the time since boot, which the log's stamps are in.
    """
    try:
        text = _text(log or LOG)
    except OSError:
        return Xids()
    now = (now_s or time.monotonic)()
    found = dict[tuple[str, int], list[float]]()
    for bus, code, at_s in _records(text):
        found.setdefault((bus, code), []).append(now - at_s)
    by_bus = dict[str, tuple[XidReading, ...]]()
    for (bus, code), ages in sorted(found.items()):
        xid = XidReading(code=code, count=len(ages), age_s=round(max(min(ages), 0.0), 1))
        by_bus[bus] = (*by_bus.get(bus, ()), xid)
    return Xids(by_bus)


def _records(text: bytes) -> Iterator[tuple[str, int, float]]:
    for record in _RECORD.finditer(text):
        try:
            bus = bus_of(record["bus"].decode())
        except ValueError:
            continue
        yield bus, int(record["code"]), int(record["microseconds"]) / 1e6


def _text(log: Path) -> bytes:
    """All that the log holds now; the device gives one record a read and blocks, or here fails, at the end."""
    parts, size = list[bytes](), 0
    device = os.open(log, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        while size < LONGEST:
            try:
                part = os.read(device, 8192)
            except BlockingIOError:
                break
            except BrokenPipeError:  # a record was overwritten while it was read; the next one follows
                continue
            if not part:
                break
            parts.append(part)
            size += len(part)
    finally:
        os.close(device)
    return b"".join(parts)
