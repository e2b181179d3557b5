"""Two traces of the same work: what moved, by how much, and when nothing can be concluded."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from advisor_mcp.results import Row
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.diagnosis import Diagnosis
from advisor_mcp.tracing.figures import percent
from advisor_mcp.tracing.split import CAUSES

SAME_WORK = 0.02
"""How far the number of kernels a step may differ for two traces to hold the same work (chosen here)."""

WORTH_TELLING = 0.01
"""Share of the span from which on a cause of idle time is listed."""

FIRST_STEP = 1.25
"""Times the median of the others from which on a first step is left out of the comparison (chosen here)."""

UNMOVED = 0.005
FEWEST_STEPS = 4
SIGNIFICANT = 0.05


class Moved(Row):
    """One part of the time before and after."""

    part: str
    before_ms: float = Field(description="A step, where both traces have steps; else of the whole span")
    after_ms: float
    change_ms: float
    before_percent: float
    after_percent: float


class Compared(Row):
    """What moved from the first trace to the second; `no_conclusion` says why their times cannot be compared."""

    conclusion: str
    no_conclusion: list[str] | None = None
    of: str | None = Field(default=None, description="The rank and device that are compared")
    per: str = Field(description="What the milliseconds are of")
    time_ratio: float | None = Field(default=None, description="Time after / before, of the medians of the steps")
    p_value: float | None = Field(default=None, description="Mann-Whitney, two-sided, over the steps")
    parts: list[Moved]
    classes: list[Moved] | None = Field(default=None, description="Kernel time by class")


@dataclass(frozen=True)
class _Side:
    case: Case
    steps: list[float]
    recorded: int

    @property
    def share(self) -> float:
        """What one step is of the span; 1 without steps."""
        return 1 / self.recorded if self.steps else 1.0


def compare(before: Diagnosis, after: Diagnosis, about: Case) -> Compared:
    """What moved on the device of `about`, a case of `after`, since the same device of the same rank in `before`."""
    one, other = _side(_counterpart(before, about)), _side(about)
    against = _incomparable(before, after, one, other)
    stepped = bool(one.steps and other.steps)
    if not stepped:
        one, other = _Side(one.case, [], 0), _Side(other.case, [], 0)
    parts = _parts(one, other)
    ratio, p_value = _times(one, other) if stepped else (other.case.span / one.case.span, None)
    return Compared(
        conclusion=_conclusion(against, ratio, p_value, parts, stepped),
        no_conclusion=against or None,
        of=about.label if len(after.cases) > 1 else None,
        per="step" if stepped else "span",
        time_ratio=None if against else round(ratio, 4),
        p_value=None if against or p_value is None else round(p_value, 4),
        parts=parts,
        classes=_classes(one, other) or None,
    )


def _counterpart(before: Diagnosis, about: Case) -> Case:
    """The case of the same rank and device, else of the same device, else the first."""
    key = (about.timeline.rank, about.device)
    same = [case for case in before.cases if (case.timeline.rank, case.device) == key]
    device = [case for case in before.cases if case.device == about.device]
    return next(iter(same or device), before.cases[0])


def _side(case: Case) -> _Side:
    """A case with its steps; a first one that is far longer than the others holds what starts up with it, and is left out."""
    lengths = [(step.end - step.start) / MS for step in case.timeline.steps]
    first, rest = lengths[:1], lengths[1:]
    late = len(rest) >= FEWEST_STEPS and first[0] > FIRST_STEP * float(np.median(rest))
    return _Side(case, rest if late else lengths, len(lengths))


def _incomparable(before: Diagnosis, after: Diagnosis, one: _Side, other: _Side) -> list[str]:
    found = []
    names = one.case.facts.name, other.case.facts.name
    if all(names) and names[0] != names[1]:
        found.append(f"the devices differ ({names[0]}, {names[1]})")
    if (one.case.device is None) != (other.case.device is None):
        found.append("one of them has no GPU events")
    if len(before.cases) != len(after.cases):
        found.append(f"{len(before.cases)} devices stand against {len(after.cases)}")
    counts = [sum(kernel.count for kernel in side.case.kernels) * side.share for side in (one, other)]
    if not (one.steps and other.steps) and max(counts) and abs(counts[0] - counts[1]) / max(counts) > SAME_WORK:
        found.append(
            f"without steps in both, {counts[0]:,.0f} kernels stand against {counts[1]:,.0f}: the windows hold different work"
        )
    for label, side in (("first", before), ("second", after)):
        touched = [gate.kind.name for gate in side.gates if {"all", "idle"} & set(gate.kind.items("Lowers"))]
        if touched:
            found.append(f"the {label} is not to be trusted ({', '.join(touched)})")
    return found


def _parts(one: _Side, other: _Side) -> list[Moved]:
    rows = []
    spans = [side.case.span for side in (one, other)]
    for name in ("compute", "exposed_communication", "exposed_copy", "idle"):
        rows.append(_moved(name, [getattr(side.case.split, name) for side in (one, other)], one, other, spans))
    for cause in CAUSES:
        times = [side.case.gaps.total(cause) if side.case.device is not None else 0 for side in (one, other)]
        if max(times[0] / spans[0], times[1] / spans[1]) > WORTH_TELLING:
            rows.append(_moved(f"idle: {cause}", times, one, other, spans))
    return rows


def _moved(name: str, times: list[int], one: _Side, other: _Side, of: list[int]) -> Moved:
    before, after = times[0] * one.share / MS, times[1] * other.share / MS
    return Moved(
        part=name,
        before_ms=round(before, 3),
        after_ms=round(after, 3),
        change_ms=round(after - before, 3),
        before_percent=percent(100 * times[0] / max(of[0], 1)),
        after_percent=percent(100 * times[1] / max(of[1], 1)),
    )


def _classes(one: _Side, other: _Side) -> list[Moved]:
    sums: list[dict[str, int]] = []
    for side in (one, other):
        held: dict[str, int] = defaultdict(int)
        for kernel in side.case.kernels:
            held[kernel.kind] += kernel.duration
        sums.append(held)
    of = [side.case.kernel_time for side in (one, other)]
    rows = [_moved(kind, [sums[0][kind], sums[1][kind]], one, other, of) for kind in {**sums[0], **sums[1]}]
    return sorted(rows, key=lambda row: -abs(row.change_ms))


def _times(one: _Side, other: _Side) -> tuple[float, float | None]:
    ratio = float(np.median(other.steps) / np.median(one.steps))
    if min(len(one.steps), len(other.steps)) < FEWEST_STEPS:
        return ratio, None
    from scipy.stats import mannwhitneyu

    return ratio, float(mannwhitneyu(one.steps, other.steps).pvalue)


def _conclusion(against: list[str], ratio: float, p_value: float | None, parts: list[Moved], stepped: bool) -> str:
    most = max(parts, key=lambda row: abs(row.change_ms))
    named = most.part.replace("_", " ")
    if not against and all(abs(row.change_ms) <= UNMOVED * max(row.before_ms, row.after_ms) for row in parts):
        return "Nothing moved: every part of the time differs by less than half a percent."
    moved = f"{named} moved most: {most.before_ms:,.1f} to {most.after_ms:,.1f} ms"
    if against:
        shares = max(parts, key=lambda row: abs(row.after_percent - row.before_percent))
        share = shares.part.replace("_", " ")
        return (
            f"No conclusion on the time, because {'; '.join(against)}. Of the shares, {share} moved most: "
            f"{shares.before_percent:.1f} to {shares.after_percent:.1f} %."
        )
    what = "The median step" if stepped else "The span"
    change = f"{what} takes {ratio:.3f} times as long"
    if p_value is None:
        return f"{change}; with fewer than {FEWEST_STEPS} steps on a side that may be chance. {moved[0].upper()}{moved[1:]}."
    if p_value > SIGNIFICANT:
        return (
            f"No difference shown yet: {change[0].lower()}{change[1:]}, which so few and uneven steps give by chance in "
            f"{100 * p_value:.0f} % of cases; record more steps. {moved[0].upper()}{moved[1:]} a step."
        )
    return f"{change} (p = {p_value:.3f}). {moved[0].upper()}{moved[1:]} a step."
