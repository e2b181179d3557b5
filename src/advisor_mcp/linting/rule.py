"""What a rule is: one function with its page as docstring, registered under a stable id."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Literal, TypeAlias

from advisor_mcp.linting.source import Span
from advisor_mcp.linting.unit import Setting, Unit

if TYPE_CHECKING:
    from advisor_mcp.linting.edits import Fix
    from advisor_mcp.linting.job import Job

Severity: TypeAlias = Literal["error", "warning", "info"]
Harm: TypeAlias = Literal[
    "crash", "hang", "oom", "nan", "slow", "ignored", "wrong_result", "wrong_lr", "wrong_batch", "lost_work", "deprecated",
    "security", "unintended",
]  # fmt: skip
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
SECTIONS = ("What it does", "Why is this bad?", "Example", "Use instead", "Versions", "References")
ANY = ("*",)


@dataclass(frozen=True)
class Problem:
    """What a rule found at a place. `also` are further places that take part; `severity` overrides the rule's own."""

    at: Setting | Span | Unit
    message: str
    fix: Fix | None = None
    also: tuple[Setting | Span, ...] = ()
    severity: Severity | None = None

    @property
    def span(self) -> Span:
        """Where the finding stands: a setting's key."""
        return span_of(self.at)


def span_of(place: Setting | Span | Unit) -> Span:
    """The place of a setting (its key), a unit or a span."""
    if isinstance(place, Setting):
        return place.key
    return place.span if isinstance(place, Unit) else place


@dataclass(frozen=True)
class Skipped:
    """A check that could not be made, and the fact it needs: ``the model``, ``the world size``, ``the GPU``."""

    needs: str


Found: TypeAlias = Iterator[Problem | Skipped]
Check: TypeAlias = "Callable[[Unit, Job], Found]"


@dataclass(frozen=True)
class Rule:
    """A rule as registered; `causes` are the causes of failures that it covers, by the names of their records."""

    id: str
    name: str
    severity: Severity
    tools: tuple[str, ...]
    harm: Harm
    causes: tuple[str, ...]
    check: Check = field(repr=False)

    @cached_property
    def page(self) -> str:
        """The rule's page: Markdown with the sections of `SECTIONS`."""
        return inspect.getdoc(self.check) or ""

    @cached_property
    def sections(self) -> Mapping[str, str]:
        """The text of each section of the page."""
        parts = re.split(r"^## (.+)$", self.page, flags=re.MULTILINE)
        return {title.strip(): body.strip() for title, body in zip(parts[1::2], parts[2::2], strict=True)}

    @cached_property
    def references(self) -> tuple[str, ...]:
        """Threads, sources and documents, as the page lists them."""
        return tuple(
            line[2:].strip() for line in self.sections.get("References", "").splitlines() if line.startswith("- ")
        )


RULES: dict[str, Rule] = {}


def rule(
    id: str,
    name: str,
    *,
    tools: tuple[str, ...],
    harm: Harm,
    severity: Severity = "error",
    causes: tuple[str, ...] = (),
) -> Callable[[Check], Check]:
    """Register a function as a rule. `name` reads after "allow"; `tools` are the units it is called with (`ANY`: all)."""

    def register(check: Check) -> Check:
        if id in RULES and RULES[id].check.__qualname__ != check.__qualname__:
            raise ValueError(f"two rules are called {id}")
        RULES[id] = Rule(id, name, severity, tools, harm, causes, check)
        return check

    return register


INDEX = "index.json"


@cache
def rules() -> Mapping[str, Rule]:
    """Every rule by id, in order; imports all files of `linting/rules/`."""
    for name in _modules():
        importlib.import_module(name)
    return dict(sorted(RULES.items()))


def rules_for(tools: Iterable[str]) -> Mapping[str, Rule]:
    """The rules that units of these tools are held against, by id; imports only the files that hold one of them.

    Which file is for which tools stands in the generated `rules/index.json`; a file that it does not list is imported.
    """
    wanted = {*tools, *ANY}
    known = index()
    needed = [name for name in _modules() if (found := known.get(name)) is None or not found or wanted & set(found)]
    for name in needed:
        importlib.import_module(name)
    return {id: rule for id, rule in sorted(RULES.items()) if rule.check.__module__ in needed}


@cache
def _modules() -> tuple[str, ...]:
    from advisor_mcp.linting import rules as package

    return tuple(f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__))


def index() -> Mapping[str, list[str]]:
    """The tools that each file of rules is for, as the generated index says; empty where there is none yet."""
    path = files("advisor_mcp.linting.rules").joinpath(INDEX)
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def made_index() -> dict[str, list[str]]:
    """What the index should hold: of every file the tools of its rules; none for a file that is always needed."""
    found: dict[str, set[str]] = {}
    for one in rules().values():
        found.setdefault(one.check.__module__, set()).update(one.tools or ANY)
    always = {name for name, tools in found.items() if "*" in tools}
    files_ = {name: [] if name in always else sorted(found[name]) for name in sorted(found)}
    return files_ | {name: ["nobody"] for name in _modules() if name not in found}  # what only other files import
