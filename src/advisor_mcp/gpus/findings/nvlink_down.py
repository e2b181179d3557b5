from __future__ import annotations

from collections.abc import Iterator, Sequence

from advisor_mcp.gpus.devices import DeviceReading
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, together


@GPUS.kind("nvlink-down", "error")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds a GPU some of whose NVLink (or xGMI) links are down while others, its own or its siblings', are up. Collectives
    then run at the speed of what is left, or over PCIe.

    ## Formula

    Links that are up, against the most that a GPU of the same name here has up.

    ## Threshold

    One link fewer: all GPUs of one board are wired alike.

    ## Could also be

    - A board whose links are bridged in pairs, where one bridge is missing.
    - Links that were turned off on purpose, or a fabric manager that has not started.

    ## Change

    Check the fabric manager's service and log and the NVLink Xids (74, 144 to 150); reset the GPU; reseat board or bridge.

    ## Next measurement

    `nvidia-smi nvlink -s`, and the bus bandwidth of an all-reduce.

    ## References

    - https://docs.nvidia.com/deploy/xid-errors/
    """
    up = {r.index: sum(link.active is True for link in r.links) for r in machine.readings if r.links}
    for name in dict.fromkeys(r.name for r in machine.readings):
        same = [r for r in machine.readings if r.name == name and r.index in up]
        most = max((up[r.index] for r in same), default=0)
        text = f"{{figure}} of {most} NVLink links that its siblings have are up"
        if all(r.vendor == "amd" for r in same):
            text = text.replace("NVLink", "xGMI")
        yield from together((Seen(r.index, text, up[r.index]) for r in same if up[r.index] < most), "links", worst=min)
        yield from together(_some_down(same, most), "links", worst=min, severity="warning")


def _some_down(readings: Sequence[DeviceReading], most: int) -> Iterator[Seen]:
    """A GPU without siblings to be compared with, some of whose own links are down."""
    for reading in readings if len(readings) == 1 else ():
        links = reading.links or ()
        if 0 < most < len(links):
            yield Seen(reading.index, f"{{figure}} of {len(links)} links are up", most)
