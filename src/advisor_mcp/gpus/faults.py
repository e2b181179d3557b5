"""What is wrong with GPUs, from their readings alone: one sentence each, with the number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from advisor_mcp.gpus.decoding import HW_SLOWDOWN, HW_THERMAL, POWER_BRAKE, SW_THERMAL, gpus, recovery_action
from advisor_mcp.gpus.devices import DeviceReading
from advisor_mcp.results import GIB, gib, number

BUSY_PERCENT = 50
"""From this utilisation on a PCIe link is expected to have left its idle generation."""

UNEXPLAINED_BYTES = GIB
"""Memory in use, without a visible process, above which it is worth a sentence."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and the GPUs that have it."""

    indices: tuple[int, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class _Found:
    """A finding on one GPU; findings with the same `text` are told together, their figures as a span."""

    text: str
    figure: float = 0


def find_faults(readings: Sequence[DeviceReading]) -> list[Fault]:
    """Every fault of the GPUs, gravest kind first; GPUs with the same fault share one sentence."""
    told = dict[str, list[tuple[int, float]]]()
    for check in _CHECKS:
        for reading in readings:
            for found in check(reading):
                told.setdefault(found.text, []).append((reading.index, found.figure))
    return [_fault(text, found) for text, found in told.items()]


def _fault(text: str, found: list[tuple[int, float]]) -> Fault:
    indices = tuple(index for index, _ in found)
    low, high = min(figure for _, figure in found), max(figure for _, figure in found)
    span = number(low) if low == high else f"{number(low)} to {number(high)}"
    return Fault(indices, f"{gpus(indices)}: " + text.replace("{figure}", span))


def _failure(reading: DeviceReading) -> Iterator[_Found]:
    if reading.failure:
        yield _Found(f"no reading, {reading.failure}; see the kernel log for its Xid")


def _recovery(reading: DeviceReading) -> Iterator[_Found]:
    if reading.recovery_action and (action := recovery_action(reading.recovery_action)):
        yield _Found(f"the driver asks to {action} (recovery action {reading.recovery_action})")


def _slowdowns(reading: DeviceReading) -> Iterator[_Found]:
    mask = reading.clock_events or 0
    degrees = reading.temperature_c or 0
    at = " at {figure} °C" if reading.temperature_c is not None else ""
    if mask & HW_THERMAL:
        yield _Found(f"hardware thermal slowdown{at} at least halves the clocks; check cooling and airflow", degrees)
    if mask & POWER_BRAKE:
        watts = (reading.power_mw or 0) / 1000
        yield _Found("the power brake at {figure} W at least halves the clocks; check the power supply", round(watts))
    # the driver sets this bit along with the two causes above
    if mask & HW_SLOWDOWN and not mask & (HW_THERMAL | POWER_BRAKE):
        yield _Found(f"hardware slowdown without a named cause{at}; if it stays, check power and cooling", degrees)
    if mask & SW_THERMAL and not mask & HW_THERMAL:
        yield _Found(f"the driver lowers the clocks for heat{at}; check cooling and airflow", degrees)


def _ecc(reading: DeviceReading) -> Iterator[_Found]:
    if reading.ecc_volatile_uncorrected:
        text = "{figure} uncorrected ECC errors since the driver was loaded; results may be wrong, drain and reset it"
        yield _Found(text, reading.ecc_volatile_uncorrected)
    elif reading.ecc_aggregate_uncorrected:
        text = "{figure} uncorrected ECC errors over its life, none since the driver was loaded; watch the count"
        yield _Found(text, reading.ecc_aggregate_uncorrected)


def _rows(reading: DeviceReading) -> Iterator[_Found]:
    rows = reading.remapped_rows_uncorrected or 0
    before = "after {figure} remapped for uncorrected errors"
    if reading.row_remap_failed:
        yield _Found(f"a memory row could not be remapped, {before}; replace the board", rows)
    if reading.row_remap_pending:
        yield _Found(f"a memory row waits to be remapped, {before}; reset the GPU when it is free", rows)


def _link(reading: DeviceReading) -> Iterator[_Found]:
    width, widest = reading.pcie_width, reading.pcie_width_max
    if width and widest and width < widest:
        remedy = "reseat it or check slot and riser (some boards wire fewer)"
        yield _Found(f"PCIe runs on {width} of {widest} lanes; {remedy}")
    gen, newest, busy = reading.pcie_gen, reading.pcie_gen_max, reading.utilization_percent or 0
    if gen and newest and gen < newest and busy >= BUSY_PERCENT:
        speed = f"PCIe runs at generation {gen} of {newest}"
        yield _Found(f"{speed} while utilisation is {{figure}} %; check slot, riser and BIOS", busy)


def _held(reading: DeviceReading) -> Iterator[_Found]:
    if reading.utilization_percent != 0 or reading.processes is None:
        return
    # a desktop's graphics processes always hold some, and nobody wants them ended
    held = sum(process.memory_bytes or 0 for process in reading.processes if process.kind != "graphics")
    used = reading.memory_used_bytes or 0
    if held:
        yield _Found("processes hold {figure} GiB while utilisation is 0 %; end them if nobody needs them", gib(held))
    elif not reading.processes and used >= UNEXPLAINED_BYTES and reading.memory_reserved_bytes is not None:
        text = "{figure} GiB in use, utilisation 0 % and no process in sight; look outside this container"
        yield _Found(text, gib(used))


def _partitions(reading: DeviceReading) -> Iterator[_Found]:
    if reading.mig_enabled and reading.mig_instances == ():
        yield _Found("MIG mode is on with 0 instances, so CUDA finds no device here; create instances or turn it off")


_CHECKS: tuple[Callable[[DeviceReading], Iterator[_Found]], ...] = (
    _failure,
    _recovery,
    _slowdowns,
    _ecc,
    _rows,
    _link,
    _held,
    _partitions,
)
