from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.devices import DeviceReading
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, together

CRC_PER_S = 100.0
"""From so many CRC errors a second on DCGM calls a link failed (NVIDIA/DCGM at 72fa3fe, DcgmGPUHardwareLimits.h)."""

_MILD = ("crc",)


@GPUS.kind("nvlink-errors", "warning")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds NVLink links whose error counters grew between the two samples. Replays and recoveries cost bandwidth, and the
    slowest link sets the speed of a collective.

    ## Formula

    Growth of a link's replay, recovery, CRC and receive-error counters between the two samples, per second.

    ## Threshold

    One error: DCGM's health watch warns from 1 on, and calls replays, recoveries and 100 CRC errors a second a failure
    (NVIDIA/DCGM at 72fa3fe, DcgmHealthWatch.cpp and DcgmGPUHardwareLimits.h).

    ## Could also be

    - Links that are being trained, just after a reset.

    ## Change

    Drain the node and run NVIDIA's field diagnostic; reseat or replace the board or the bridge.

    ## Next measurement

    A longer sample: `advisor-mcp inspect-gpus --sample-s 10`, and `nvidia-smi nvlink -e`

    ## References

    - https://github.com/NVIDIA/DCGM
    """
    for grave in (True, False):
        seen = [one for r in machine.readings if (one := _growing(r, grave))]
        yield from together(seen, "1/s", severity="error" if grave else None)


def _growing(reading: DeviceReading, grave: bool) -> Seen | None:
    grown = [
        (link.link, name, count / reading.sample_s)
        for link in reading.links or ()
        for name, count in (link.new_errors or {}).items()
        if count > 0 and reading.sample_s
    ]
    if not grown or grave != any(name not in _MILD or rate >= CRC_PER_S for _, name, rate in grown):
        return None
    rows = ", ".join(f"link {link} {name} {rate:.4g}/s" for link, name, rate in sorted(grown, key=lambda row: -row[2]))
    text = f"{{figure}} NVLink errors a second ({', '.join(sorted({name for _, name, _ in grown}))})"
    return Seen(reading.index, text, round(sum(rate for _, _, rate in grown), 1), f"GPU {reading.index}: {rows}")
