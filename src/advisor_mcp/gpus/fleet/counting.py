"""The findings whose evidence is a counter that grew."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.gpus.fleet.evidence import Fleet, plural, shown_units, worst
from advisor_mcp.gpus.fleet.identity import Unit
from advisor_mcp.results import number


def counted(
    fleet: Fleet, key: str, one: str, many: str | None = None, at_least: float = 1, but: Collection[Unit] = ()
) -> Iterator[Observation]:
    """One observation of the GPUs on which a counter grew by `at_least`, those in `but` left out."""
    grown = [
        (round(amount), unit)
        for unit, amount in fleet.growth.get(key, {}).items()
        if round(amount) >= at_least and unit not in but
    ]
    if not grown:
        return
    grown.sort(key=lambda each: (-each[0], str(each[1])))
    total = sum(amount for amount, _ in grown)
    name = one if total == 1 else many or f"{one}s"
    yield Observation(
        message=f"{number(total)} {name} on {plural(len(grown), 'GPU')}, {number(grown[0][0])} of them on {grown[0][1]}",
        measured=total,
        unit=many or f"{one}s",
        where=shown_units([unit for _, unit in grown]),
        rows=worst((amount, f"{unit}: {number(amount)}") for amount, unit in grown),
    )
