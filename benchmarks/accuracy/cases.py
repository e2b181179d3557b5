"""What a suite is made of, and the figures that are printed of one."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Case:
    """One measured value: the tool's arguments (all that it sees), the value, and the rule that excludes it, if any.

    `read` is the dotted path of the answer's figure; `scale` turns it into the unit of `measured`.
    """

    id: str
    group: str
    tool: str
    arguments: Mapping[str, Any]
    read: str
    measured: Any
    basis: str = ""
    scale: float = 1.0
    excluded_by: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case and what the tool said: the figure and its range, or the error that counts as 100 %."""

    case: Case
    predicted: Any = None
    interval: tuple[float, float] | None = None
    error: str | None = None

    @property
    def exact(self) -> bool:
        """Whether the figure is the measured one."""
        return self.error is None and self.predicted == self.case.measured

    @property
    def relative(self) -> float:
        """Signed relative error; 100 % for a refusal or for a value that is not a number and differs."""
        if self.error is not None:
            return -1.0
        if not isinstance(self.case.measured, int | float):
            return 0.0 if self.exact else 1.0
        return (
            (self.predicted - self.case.measured) / self.case.measured if self.case.measured else float(not self.exact)
        )

    @property
    def covered(self) -> bool | None:
        """Whether the measured value lies in the stated range; None without one."""
        return None if self.interval is None else self.interval[0] <= self.case.measured <= self.interval[1]


@dataclass(frozen=True)
class Figures:
    """Figures of a group of outcomes, in percent."""

    n: int
    exact: int
    median: float
    p90: float
    bias: float
    covered: float | None
    refused: int = field(default=0)


def figures(outcomes: Sequence[Outcome]) -> Figures:
    """Median and 90th percentile of the absolute relative error, bias, and share of measurements inside their range."""
    errors = sorted(abs(o.relative) for o in outcomes)
    inside = [o.covered for o in outcomes if o.covered is not None]
    return Figures(
        n=len(outcomes),
        exact=sum(o.exact for o in outcomes),
        median=100 * statistics.median(errors),
        p90=100 * errors[min(len(errors) - 1, int(0.9 * len(errors)))],
        bias=100 * statistics.median(o.relative for o in outcomes),
        covered=100 * sum(inside) / len(inside) if inside else None,
        refused=sum(o.error is not None for o in outcomes),
    )


def report(suite: str, outcomes: Sequence[Outcome], excluded: Counter[str]) -> Iterator[str]:
    """The printed lines: one a group, what was excluded, the ten worst, and the summary last."""
    if not outcomes:
        yield f"{suite}: n=0 excluded={sum(excluded.values())}"
        return
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.case.group].append(outcome)
    medians = []
    for name, members in sorted(groups.items()):
        found = figures(members)
        medians.append(found.median)
        yield (
            f"  {name:<28} n={found.n:<5} exact={found.exact:<5} median={found.median:.3f}% p90={found.p90:.3f}% "
            f"bias={found.bias:+.3f}% covered={_percent(found.covered)} refused={found.refused}"
        )
    for rule, number in sorted(excluded.items()):
        yield f"  excluded {number}: {rule}"
    for outcome in sorted(outcomes, key=lambda o: -abs(o.relative))[:10]:
        if not outcome.exact:
            said = outcome.error or outcome.predicted
            yield f"  worst {outcome.case.id}: {100 * outcome.relative:+.2f}% said {said} measured {outcome.case.measured}"
    total = figures(outcomes)
    yield (
        f"{suite}: n={total.n} exact={total.exact} median={total.median:.3f}% p90={total.p90:.3f}% covered={_percent(total.covered)} "
        f"excluded={sum(excluded.values())} family_median={statistics.median(medians):.3f}%"
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}%"
