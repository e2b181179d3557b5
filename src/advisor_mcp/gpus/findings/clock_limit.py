from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.decoding import APPLICATION_CLOCKS, BOARD_LIMIT, RELIABILITY, SYNC_BOOST
from advisor_mcp.gpus.devices import DeviceReading
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, has_event, is_busy, together

_BY_BOARD = ((BOARD_LIMIT, "board_limit", "the board's limit"), (RELIABILITY, "reliability", "the reliability limit"))
_BY_SETTING = (
    (APPLICATION_CLOCKS, "", "application clocks that were set"),
    (SYNC_BOOST, "sync_boost", "sync boost, which waits for the slowest GPU of its group"),
)
_UNSET = "Reset the clocks (nvidia-smi -rac, -rgc; as root) unless they were set on purpose, as for a stable benchmark."


@GPUS.kind("clock-limit", "warning")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds GPUs under load whose clocks are held down by a limit of the board, or by a setting of somebody.

    ## Formula

    Clock event reason 0x200 (board limit) or 0x400 (reliability, new in NVML 13.615), or 0x2 (application clocks) or 0x10
    (sync boost) is set, or the counter of that limit grew between the two samples, while utilisation is at least 50 %.

    ## Threshold

    A warning for the board's own limits, a note for settings; NVML defines the bits without a number (nvml.h).

    ## Could also be

    - A board in a slot or chassis that supplies less power than it asks for (board limit).

    ## Change

    Check the power connectors and the slot's power; if it stays on one board only, compare it with its siblings.

    ## Next measurement

    Clocks and limits over a minute: `advisor-mcp inspect-gpus --watch`

    ## References

    - https://docs.nvidia.com/deploy/nvml-api/
    """
    busy = [r for r in machine.readings if is_busy(r)]
    yield from together((seen for r in busy for seen in _held(r, _BY_BOARD)), "MHz", worst=min)
    settings = (seen for r in busy for seen in _held(r, _BY_SETTING))
    yield from together(settings, "MHz", worst=min, severity="info", change=_UNSET)


def _held(reading: DeviceReading, limits: tuple[tuple[int, str, str], ...]) -> Iterator[Seen]:
    for bit, counter, words in limits:
        if has_event(reading, bit) or (reading.limited_percent or {}).get(counter, 0.0) > 0:
            yield Seen(reading.index, f"clocks held at {{figure}} MHz by {words}", reading.sm_clock_mhz or 0)
