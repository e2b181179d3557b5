from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.devices import DeviceReading
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, together
from advisor_mcp.results import gib


@GPUS.kind("memory-held-idle", "warning")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds memory that processes hold on a GPU on which nothing runs: a notebook somebody left open, a server without
    requests, a crashed run's workers.

    ## Formula

    Sum of the memory of compute processes while utilisation is 0 %; a desktop's graphics processes do not count.

    ## Threshold

    Any memory at 0 %: the sample period is at most 1 s (nvml.h, nvmlUtilization_t), so look twice.

    ## Could also be

    - A serving engine that reserves its cache and waits for requests.
    - A job between two phases, or one that waits for data.

    ## Change

    End the processes if nobody needs them.

    ## Next measurement

    The same a minute later: `advisor-mcp inspect-gpus --watch`

    ## References

    - https://docs.nvidia.com/deploy/nvml-api/
    """
    text = "processes hold {figure} GiB while utilisation is 0 %"
    yield from together((Seen(r.index, text, gib(size)) for r in machine.readings if (size := _held(r))), "GiB")


def _held(reading: DeviceReading) -> int:
    if reading.utilization_percent != 0:
        return 0
    return sum(process.memory_bytes or 0 for process in reading.processes or () if process.kind != "graphics")
