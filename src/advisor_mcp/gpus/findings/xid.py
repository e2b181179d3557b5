from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus import xids
from advisor_mcp.gpus.devices import DeviceReading, XidReading
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, together
from advisor_mcp.results import number


@GPUS.kind("xid", "warning")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds Xids, the driver's error reports, that the kernel log holds for a GPU. NVML has no getter for them: they are read
    from the log where this process may read it, and nothing is said where it may not.

    ## Formula

    Lines "NVRM: Xid (PCI:...): code" of /dev/kmsg by the GPU's PCI bus, since the machine was started.

    ## Threshold

    One; how grave it is follows from the immediate action that NVIDIA's catalogue names for the code.

    ## Could also be

    - An Xid from before the GPU was reset: see its age.
    - A fault of a program (13, 31, 43, 45), not of the GPU.

    ## Change

    See NVIDIA's catalogue for the code.

    ## Next measurement

    `dmesg -T | grep -i xid`: the lines around it name the program.

    ## References

    - https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html
    """
    codes = sorted({event.code for reading in machine.readings for event in reading.xids or ()})
    for code in codes:
        known = xids.named(code)
        text = f"Xid {code} ({known.meaning}), {{figure}} in the kernel log"
        found = (_seen(r, event, text) for r in machine.readings for event in r.xids or () if event.code == code)
        yield from together(found, "times", severity=known.severity, change=f"{known.bucket}: {known.action}")


def _seen(reading: DeviceReading, event: XidReading, text: str) -> Seen:
    age = "" if event.age_s is None else f", the last {number(round(event.age_s / 60))} minutes ago"
    return Seen(reading.index, text, event.count, f"GPU {reading.index}: {event.count}{age}")
