"""What is wrong with GPUs: the evidence that findings look at, and how GPUs with the same finding share one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from advisor_mcp.findings import Family, Finding, Observation, Severity
from advisor_mcp.gpus.decoding import gpus
from advisor_mcp.gpus.devices import DeviceReading, DriverReading
from advisor_mcp.results import number

BUSY_PERCENT = 50
"""From this utilisation on a GPU counts as under load: a choice of ours, well above what a desktop or a monitor causes."""


@dataclass(frozen=True)
class Machine:
    """The GPUs of one machine at one moment; what happened between two samples is in the readings."""

    readings: tuple[DeviceReading, ...]
    driver: DriverReading = field(default_factory=DriverReading)


GPUS: Family[Machine] = Family("advisor_mcp.gpus.findings")


@dataclass(frozen=True, kw_only=True)
class GpuObservation(Observation):
    """An observation, and the GPUs that it is about."""

    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a check saw on one GPU; those with the same `text` share a sentence, in which {figure} is the span of theirs."""

    index: int
    text: str
    figure: float = 0.0
    row: str = ""


def together(
    seen: Iterable[Seen],
    unit: str,
    *,
    worst: Callable[[Iterable[float]], float] = max,
    severity: Severity | None = None,
    change: str | None = None,
    threshold: str | None = None,
) -> Iterator[GpuObservation]:
    """One observation for all GPUs of which the same is said; `worst` picks the figure that is measured."""
    grouped = dict[str, list[Seen]]()
    for one in seen:
        grouped.setdefault(one.text, []).append(one)
    for text, found in grouped.items():
        indices, figures = tuple(one.index for one in found), [one.figure for one in found]
        yield GpuObservation(
            message=f"{gpus(indices)}: {text.replace('{figure}', _span(figures))}",
            measured=worst(figures),
            unit=unit,
            where=gpus(indices),
            severity=severity,
            change=change,
            threshold=threshold,
            rows=tuple(one.row for one in found if one.row),
            indices=indices,
        )


def _span(figures: Sequence[float]) -> str:
    low, high = min(figures), max(figures)
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def is_busy(reading: DeviceReading) -> bool:
    """Whether the GPU is under load; False where its utilisation is not known."""
    return (reading.utilization_percent or 0) >= BUSY_PERCENT


def has_event(reading: DeviceReading, bit: int) -> bool:
    """Whether a clock event reason is set."""
    return bool((reading.clock_events or 0) & bit)


def degrees(reading: DeviceReading) -> int:
    """The GPU's temperature, 0 where it is not known."""
    return reading.temperature_c or 0


def at_degrees(reading: DeviceReading) -> str:
    """`` at {figure} °C`` where the temperature is known."""
    return " at {figure} °C" if reading.temperature_c is not None else ""


def gravest_first(findings: Iterable[Finding[Machine]]) -> list[int]:
    """The GPUs with something wrong, in the order of their gravest finding; notes do not count."""
    wrong = (found.seen for found in findings if found.severity != "info")
    return list(dict.fromkeys(index for seen in wrong if isinstance(seen, GpuObservation) for index in seen.indices))
