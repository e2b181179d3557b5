"""A rule's page: as people read it, and its examples as files that can be linted."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from advisor_mcp.linting.engine import Options
from advisor_mcp.linting.job import Given
from advisor_mcp.linting.rule import Rule

_BLOCK = re.compile(r"^```(\w+)[ \t]+(\S+)([^\n]*)\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_WHOLE = ("world_size", "gpus_per_node")


@dataclass(frozen=True)
class Example:
    """The files of a section's code blocks, taken as one job, and what they are held against."""

    texts: dict[str, str]
    options: Options


def example(rule: Rule, section: str) -> Example | None:
    """The code blocks of a section: the first line of each names its file, then ``key=value`` facts of the job.

    The facts are `world_size`, `gpus_per_node`, `gpu`, `interconnect`, `model` (a name or JSON without blanks), or a
    tool and its version.
    """
    texts: dict[str, str] = {}
    facts: dict[str, str] = {}
    for _, name, said, body in _BLOCK.findall(rule.sections.get(section, "")):
        texts[name] = body
        facts |= dict(part.split("=", 1) for part in said.split())
    if not texts:
        return None
    given: dict[str, Any] = {key: int(facts.pop(key)) for key in _WHOLE if key in facts}
    given |= {key: facts.pop(key) for key in ("gpu", "interconnect") if key in facts}
    if model := facts.pop("model", None):
        given["model"] = json.loads(model) if model.startswith("{") else model
    return Example(texts, Options(Given(**given, targets=facts)))


def page(rule: Rule) -> str:
    """The page as Markdown."""
    body = rule.page.split("\n", 1)[1].strip() if "\n" in rule.page else rule.page
    causes = f"\nCauses covered: {', '.join(rule.causes)}\n" if rule.causes else ""
    tools = "" if rule.tools in ((), ("*",)) else f" · {', '.join(rule.tools)}"
    return f"# {rule.name} ({rule.id})\n\n{rule.severity} · {rule.harm}{tools}\n{causes}\n{body}\n"
