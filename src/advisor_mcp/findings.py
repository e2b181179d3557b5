"""What a finding is: one function whose docstring is its page, called with evidence, and the shape it is answered in."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import Field

from advisor_mcp.results import Row

Severity: TypeAlias = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
SECTIONS = ("Formula", "Threshold", "Could also be", "Change", "Next measurement", "References")
"""The sections of a page, after a first paragraph that says what is looked for and why it matters."""

Evidence = TypeVar("Evidence")


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a check saw. `measured` is in `unit`; `message` is one sentence with that number.

    `saves_at_most_ms` and `saves_at_most_percent` bound what removing the cause can save (of the span that was looked at);
    None where no time is at stake. `change` and `threshold` are said in place of the page's where the evidence allows closer
    ones.
    `rows` are the places or names behind the number, the heaviest first.
    """

    message: str
    measured: float
    unit: str
    where: str | None = None
    saves_at_most_ms: float | None = None
    saves_at_most_percent: float | None = None
    change: str | None = None
    threshold: str | None = None
    rows: tuple[str, ...] = ()
    severity: Severity | None = None


@dataclass(frozen=True)
class Kind(Generic[Evidence]):
    """A kind of finding as registered: its name reads after "allow", its page is the check's docstring."""

    name: str
    severity: Severity
    check: Callable[[Evidence], Iterator[Observation]] = field(repr=False)

    @cached_property
    def page(self) -> str:
        """The page: a paragraph, then the sections of `SECTIONS` in Markdown."""
        return inspect.getdoc(self.check) or ""

    @cached_property
    def sections(self) -> Mapping[str, str]:
        """The text of each section of the page, on one line; list items keep their line."""
        parts = re.split(r"^## (.+)$", self.page, flags=re.MULTILINE)
        return {title.strip(): _unwrapped(body) for title, body in zip(parts[1::2], parts[2::2], strict=True)}

    def items(self, section: str) -> tuple[str, ...]:
        """The items of a section that is a list."""
        return tuple(line[2:] for line in self.sections.get(section, "").splitlines() if line.startswith("- "))


def _unwrapped(text: str) -> str:
    lines: list[str] = []
    for line in text.strip().splitlines():
        if line.startswith("- ") or not lines or not line.strip():
            lines.append(line.strip() if line.strip() != "" else "")
        else:
            lines[-1] = f"{lines[-1]} {line.strip()}"
    return "\n".join(line for line in lines if line)


@dataclass(frozen=True)
class Finding(Generic[Evidence]):
    """An observation with the kind that made it; `lowered_by` names what makes its number less sure."""

    kind: Kind[Evidence]
    seen: Observation
    lowered_by: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity:
        """The observation's own, else the kind's."""
        return self.seen.severity or self.kind.severity


class Family(Generic[Evidence]):
    """All kinds of findings over one sort of evidence: every module of one package, each registering its own."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._kinds: dict[str, Kind[Evidence]] = {}

    def kind(
        self, name: str, severity: Severity = "warning"
    ) -> Callable[[Callable[[Evidence], Iterator[Observation]]], Callable[[Evidence], Iterator[Observation]]]:
        """Register a check under a name that is used once."""

        def register(
            check: Callable[[Evidence], Iterator[Observation]],
        ) -> Callable[[Evidence], Iterator[Observation]]:
            if name in self._kinds and self._kinds[name].check.__module__ != check.__module__:
                raise ValueError(f"two findings are called {name}")
            self._kinds[name] = Kind(name, severity, check)
            return check

        return register

    def kinds(self) -> Mapping[str, Kind[Evidence]]:
        """Every kind by name, in order; imports all modules of the package."""
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        return dict(sorted(self._kinds.items()))

    def find(self, evidence: Evidence) -> list[Finding[Evidence]]:
        """What every kind sees in the evidence: by severity, then by what can be saved, the most first."""
        found = [Finding(kind, seen) for kind in self.kinds().values() for seen in kind.check(evidence)]
        return sorted(found, key=order)


SAME_PERCENT = 5.0
"""Bounds that are this near say nothing about which of two findings matters more."""


def order(finding: Finding[Any]) -> tuple[int, int, str]:
    """The key to sort findings by: severity, then the most that can be saved in steps of 5 points, then the name."""
    seen = finding.seen
    saved = round((seen.saves_at_most_percent or 0.0) / SAME_PERCENT)
    return SEVERITIES.index(finding.severity), -saved, finding.kind.name


class FindingRow(Row):
    """One finding: what was measured, against what, what fixing it can save at most, and what to do."""

    name: str
    severity: Severity
    message: str = Field(description="One sentence with the measured value")
    measured: float
    unit: str | None = None
    where: str | None = None
    saves_at_most_ms: float | None = None
    saves_at_most_percent: float | None = Field(
        default=None, description="Of the span; never more than the exposed part"
    )
    change: str | None = Field(default=None, description="The code or setting to change")
    threshold: str | None = Field(default=None, description="From what on it is reported, and who says so")
    formula: str | None = None
    could_also_be: list[str] | None = Field(default=None, description="What else could look like this")
    next_measurement: str | None = None
    lowered_by: list[str] | None = Field(default=None, description="Why the number is less sure than others")
    rows: list[str] | None = Field(default=None, description="What is behind the number, the heaviest first")
    references: list[str] | None = None


def finding_rows(findings: Iterable[Finding[Any]], full: bool) -> list[FindingRow]:
    """Findings as an answer gives them; a brief one leaves out formula, rows and references."""
    return [_row(finding, full) for finding in findings]


def _row(finding: Finding[Any], full: bool) -> FindingRow:
    kind, seen = finding.kind, finding.seen
    return FindingRow(
        name=kind.name,
        severity=finding.severity,
        message=seen.message,
        measured=_rounded(seen.measured),
        unit=seen.unit,
        where=seen.where,
        saves_at_most_ms=None if seen.saves_at_most_ms is None else _rounded(seen.saves_at_most_ms),
        saves_at_most_percent=None if seen.saves_at_most_percent is None else _rounded(seen.saves_at_most_percent),
        change=seen.change or kind.sections.get("Change"),
        threshold=seen.threshold or kind.sections.get("Threshold"),
        formula=kind.sections.get("Formula") if full else None,
        could_also_be=list(kind.items("Could also be")) or None if full else None,
        next_measurement=kind.sections.get("Next measurement"),
        lowered_by=list(finding.lowered_by) or None,
        rows=(list(seen.rows) or None) if full else None,
        references=list(kind.items("References")) or None if full else None,
    )


def _rounded(value: float) -> float:
    """Four significant digits, whole numbers kept whole."""
    return float(f"{value:.4g}") if abs(value) < 10_000 else round(value)
