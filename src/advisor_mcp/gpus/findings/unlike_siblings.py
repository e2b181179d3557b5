from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from advisor_mcp.gpus.devices import DeviceReading
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, is_busy, together

FEWEST = 4
"""A median of fewer says little."""

SCORE = 3.5
SLOWER_BY_PERCENT = 5.0


@GPUS.kind("unlike-siblings", "warning")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds a GPU that runs slower than the others of a busy node. Where the GPUs work in step, as in training, all wait for
    the slowest one.

    ## Formula

    SM clock against the median of the busy GPUs of the same name: 0.6745 x distance / median absolute distance.

    ## Threshold

    A modified z-score above 3.5 (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993; recalled, not opened), and
    at least 5 % below the median, among at least 4 GPUs: the last two are choices of ours.

    ## Could also be

    - A GPU that does other work than its siblings: another pipeline stage, or another job.
    - One moment: clocks move with the load.

    ## Change

    Compare temperature, power limit, throttle reasons and PCIe link of this GPU with its siblings'.

    ## Next measurement

    Step times by rank: a straggler is slow in every step. `advisor-mcp inspect-gpus --watch` shows whether the clock stays low.

    ## References

    - B. Iglewicz and D. Hoaglin, How to Detect and Handle Outliers, ASQC 1993
    """
    for name in dict.fromkeys(r.name for r in machine.readings if r.name):
        busy = [r for r in machine.readings if r.name == name and is_busy(r) and r.sm_clock_mhz and not r.mig_enabled]
        if len(busy) >= FEWEST:
            yield from together(_slower(busy), "%")


def _slower(readings: Sequence[DeviceReading]) -> Iterator[Seen]:
    clocks = [r.sm_clock_mhz or 0 for r in readings]
    middle = median(clocks)
    spread = median(abs(clock - middle) for clock in clocks)
    for reading, clock in zip(readings, clocks, strict=True):
        below = middle - clock
        far = spread == 0 or 0.6745 * below / spread > SCORE
        if far and below >= middle * SLOWER_BY_PERCENT / 100:
            text = f"the SM clock is {{figure}} % below the median of the {len(readings)} busy GPUs of its kind"
            yield Seen(reading.index, text, round(below / middle * 100, 1), _row(reading, middle))


def _row(reading: DeviceReading, middle: float) -> str:
    watts = "unknown" if reading.power_mw is None else f"{reading.power_mw / 1000:.0f}"
    heat = "unknown" if reading.temperature_c is None else f"{reading.temperature_c}"
    return f"GPU {reading.index}: {reading.sm_clock_mhz} MHz of {middle:g}, {watts} W, {heat} °C"
