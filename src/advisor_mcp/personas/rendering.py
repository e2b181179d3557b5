"""Turns a persona into the prompt that a model is given."""

from __future__ import annotations

import re
import traceback
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from advisor_mcp.errors import UsageError, shown, unknown
from advisor_mcp.personas.persona import Persona
from advisor_mcp.personas.shared import SHARED_RULES

if TYPE_CHECKING:
    import jinja2

Facts = Callable[[str, str], "dict[str, Any] | None"]

FOCUS_LIMIT = 500
_DEPTHS = ("brief", "full")
_LAYOUT = "layout.md.j2"
# what evaluating a template can raise besides jinja2's own errors
_FAULTS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


def render_persona(persona: Persona, focus: str | None = None, depth: str = "full", facts: Facts | None = None) -> str:
    """The prompt of a persona as Markdown: its body laid out, then the rules that every persona keeps.

    `focus` (one line, at most 500 characters) is inserted as plain text. `depth` is "full", or "brief" for identity,
    tools, rules that must be kept, essential style and the titles of the protocol. `facts(kind, id)` answers a body's
    `fact(kind, id)`. Raises `UsageError` for arguments out of these bounds, and for a body that cannot be rendered,
    with its line.
    """
    import jinja2

    if depth not in _DEPTHS:
        raise unknown("depth", depth, _DEPTHS)
    values = {"persona": persona, "focus": _plain(focus), "depth": depth, "fact": _lookup(persona, facts)}
    try:
        text = _environment().from_string(persona.body).render(values)
    except (jinja2.TemplateError, *_FAULTS) as problem:
        raise UsageError(_fault(persona, problem)) from None
    return re.sub(r"\n{3,}", "\n\n", f"{text.strip()}\n\n{_shared_rules()}")


def _plain(focus: str | None) -> str:
    text = (focus or "").strip()
    if len(text) > FOCUS_LIMIT:
        raise UsageError(f"focus has {len(text)} characters; use at most {FOCUS_LIMIT}")
    if any(unicodedata.category(letter) in {"Cc", "Zl", "Zp"} for letter in text):
        raise UsageError(f"focus {shown(text)} has a line break or control character; write it as one plain line")
    return text


def _lookup(persona: Persona, facts: Facts | None) -> Callable[[str, str], dict[str, Any]]:
    def fact(kind: str, name: str) -> dict[str, Any]:
        found = facts(kind, name) if facts else None
        if found is None:
            reason = "is not in the knowledge base" if facts else "needs the knowledge base, which was not given"
            raise UsageError(f"persona file {persona.origin}: its body asks for {kind} {shown(name)}, which {reason}")
        return found

    return fact


@cache
def _environment() -> jinja2.Environment:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    layout = files("advisor_mcp.personas").joinpath(_LAYOUT).read_text(encoding="utf-8")
    # the file name tells lines of the layout from lines of a body in a traceback
    loader = jinja2.FunctionLoader(lambda name: (layout, _LAYOUT, None) if name == _LAYOUT else None)
    strict = jinja2.StrictUndefined
    return ImmutableSandboxedEnvironment(loader=loader, undefined=strict, trim_blocks=True, lstrip_blocks=True)


def _fault(persona: Persona, problem: Exception) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == "<template>"]
    line = lines[-1] if lines else getattr(problem, "lineno", None)
    place = f" line {persona.body_line + line - 1}" if line else ""
    reason = " ".join(str(problem).split()).rstrip(".") or type(problem).__name__
    return f"persona file {persona.origin}{place}: the body cannot be rendered ({reason}); mend the template"


def _shared_rules() -> str:
    lines = [f"- {rule.text} [{rule.id}]" for rule in SHARED_RULES]
    return "\n".join(["## Rules of every advisor here", *lines]) + "\n"
