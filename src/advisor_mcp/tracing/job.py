"""Several ranks of one job: matched collectives, who waits for whom, and how far the ranks are apart."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from advisor_mcp.tracing.case import Case
from advisor_mcp.tracing.timeline import UNKNOWN, Collective, Work


@dataclass(frozen=True)
class Matched:
    """One collective on several ranks: nanoseconds it took on each. The shortest is its own time, the rest waiting."""

    name: str
    durations: dict[int, int]
    collective: Collective | None = None

    @property
    def latency(self) -> int:
        """The shortest time: the rank that came last waited for nobody (TraceLens' definition)."""
        return min(self.durations.values())

    @property
    def last(self) -> int:
        """The rank that the others waited for."""
        return min(self.durations, key=lambda rank: self.durations[rank])

    @property
    def skew(self) -> int:
        """Nanoseconds that the first rank to arrive waited."""
        return max(self.durations.values()) - self.latency


class Job:
    """The cases of one job, by rank."""

    def __init__(self, cases: list[Case]) -> None:
        self.cases = cases
        if len({(case.timeline.rank, case.device) for case in cases}) < len(cases):
            for case in cases:
                case.told_apart_by_file = True
        self.ranks = {self._rank(place, case): case for place, case in enumerate(cases) if case.device is not None}

    def _rank(self, place: int, case: Case) -> int:
        several = len(case.timeline.device_indices) > 1
        return place if several or case.timeline.rank is None else case.timeline.rank

    @cached_property
    def matched(self) -> list[Matched]:
        """Collectives that at least two ranks recorded: by group and sequence where recorded, else by order of their kind.

        Matching by order needs the same number on every rank; a kind with other counts is left out.
        """
        found: dict[tuple[str, str, int], dict[int, tuple[int, Collective | None]]] = defaultdict(dict)
        counts: dict[str, dict[int, int]] = defaultdict(dict)
        for rank, case in self.ranks.items():
            for key, duration, collective in _collectives(case):
                found[key][rank] = (duration, collective)
                if key[1] == "":
                    counts[key[0]][rank] = key[2] + 1
        uneven = {name for name, each in counts.items() if len(each) < len(self.ranks) or len(set(each.values())) > 1}
        return [
            Matched(key[0], {rank: duration for rank, (duration, _) in each.items()}, next(iter(each.values()))[1])
            for key, each in sorted(found.items())
            if len(each) > 1 and not (key[1] == "" and key[0] in uneven)
        ]


def _collectives(case: Case) -> list[tuple[tuple[str, str, int], int, Collective | None]]:
    """Every communication kernel of a case under the key that it has on other ranks too."""
    recorded = {one.event: one for one in case.timeline.collectives}
    orders: dict[str, int] = defaultdict(int)
    found: list[tuple[tuple[str, str, int], int, Collective | None]] = []
    for place in np.flatnonzero(case.events.work == Work.COMMUNICATION):
        event, duration = int(case.rows[place]), int(case.events.duration[place])
        one = recorded.get(event)
        if one and one.sequence != UNKNOWN:
            found.append(((one.name, f"group {one.group}", one.sequence), duration, one))
            continue
        name = case.timeline.names[int(case.events.name[place])].split("(")[0]
        found.append(((name, "", orders[name]), duration, one))
        orders[name] += 1
    return found
