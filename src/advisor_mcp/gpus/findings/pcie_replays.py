from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.devices import DeviceReading
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, together

MBIT_PER_S = (2_500, 5_000, 8_000, 16_000, 32_000, 64_000)
"""The line rate of one lane, by PCIe generation."""

BIT_ERROR_RATE = 1e-12
FEWEST = 2
"""One replay can be chance in a sample this short."""


@GPUS.kind("pcie-replays", "warning")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds a PCIe link that sends packets again more often than its error rate allows: a bad contact, riser or cable.
    Each replay costs time, and a link that gets worse ends in a lost GPU.

    ## Formula

    Replays between the two samples x 60 / seconds; the counter itself runs since the driver was loaded.

    ## Threshold

    10^-12 errors per bit x line rate of a lane x lanes x 60 s: what DCGM's health watch allows a minute (NVIDIA/DCGM at
    72fa3fe, DcgmHealthWatch::GetExpectedPcieReplayRate; 31 for generation 5 x16). At least 2 replays, a choice of ours.

    ## Could also be

    - A burst after the link changed its speed.

    ## Change

    Reseat the board; replace riser or cable; move it to another slot.

    ## Next measurement

    A longer sample: `advisor-mcp inspect-gpus --sample-s 10`

    ## References

    - https://github.com/NVIDIA/DCGM
    """
    rates = ((r, _per_minute(r)) for r in machine.readings)
    text = "{figure} PCIe replays a minute, more than the link's error rate allows"
    yield from together((Seen(r.index, text, round(rate)) for r, rate in rates if rate > _allowed(r)), "1/min")


def _per_minute(reading: DeviceReading) -> float:
    count, seconds = reading.pcie_replays or 0, reading.sample_s
    return count * 60 / seconds if seconds and count >= FEWEST else 0.0


def _allowed(reading: DeviceReading) -> float:
    generation = min(reading.pcie_gen or len(MBIT_PER_S), len(MBIT_PER_S))
    return BIT_ERROR_RATE * MBIT_PER_S[generation - 1] * 1e6 * 60 * (reading.pcie_width or 16)
