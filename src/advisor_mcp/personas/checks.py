"""Holds an answer against a persona's rules, without a model: patterns and table columns, nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from advisor_mcp.personas.persona import Check, Persona, Rule, Severity
from advisor_mcp.personas.shared import SHARED_RULES

_FLAGS = re.IGNORECASE | re.MULTILINE
_FENCE = re.compile(r"^(?P<mark>```+|~~~+)[^\n]*\n.*?(?:^(?P=mark)[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_TABLE_HEAD = re.compile(r"^(?P<head>[^\n|]*\|[^\n]*)\n(?=[ \t|:]*-)[ \t|:-]+$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a text breaks; `line` is the first offending line (from 1), None where something is absent."""

    rule: str
    severity: Severity
    message: str
    line: int | None = None


def check_rules(persona: Persona, text: str) -> list[Violation]:
    """What `text` (an answer, Markdown) breaks of the persona's rules and of the shared ones.

    Only rules that carry a check are looked at: an empty list does not say that the others are kept.
    """
    lines = text.replace("\r\n", "\n")
    rules = (*persona.rules, *SHARED_RULES)
    return [found for rule in rules if rule.check for found in _held_against(rule, rule.check, lines)]


def _held_against(rule: Rule, check: Check, text: str) -> Iterator[Violation]:
    if check.when is not None and not re.search(check.when, text, _FLAGS):
        return
    for pattern in check.forbid:
        if found := re.search(pattern, text, _FLAGS):
            line = text.count("\n", 0, found.start()) + 1
            yield Violation(rule.id, rule.severity, f"line {line} has what the rule forbids: {_quoted(found[0])}", line)
    if any(not re.search(pattern, text, _FLAGS) for pattern in check.require):
        yield Violation(rule.id, rule.severity, f"what the rule demands is not there: {rule.text}")
    if check.table_columns:
        yield from _tables(rule, check.table_columns, text)


def _tables(rule: Rule, columns: tuple[str, ...], text: str) -> Iterator[Violation]:
    # blanked, not cut, so that line numbers stay true
    prose = _FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text)
    heads = [(found.start("head"), _cells(found["head"])) for found in _TABLE_HEAD.finditer(prose)]
    wanted = " | ".join(columns)
    if not any(cells == columns for _, cells in heads):
        yield Violation(rule.id, rule.severity, f"there is no table with the columns {wanted}")
    for place, cells in heads:
        if cells[0] == columns[0] and cells != columns:
            line = prose.count("\n", 0, place) + 1
            yield Violation(rule.id, rule.severity, f"the table at line {line} has other columns than {wanted}", line)


def _cells(row: str) -> tuple[str, ...]:
    return tuple(cell.strip().strip("*").strip() for cell in row.strip().strip("|").split("|"))


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 80 else line[:79] + "…")
