"""Toy tools with every kind of argument, and a persona."""

from __future__ import annotations

HEAD = """\
from __future__ import annotations
from typing import Annotated, Any, Literal
from pydantic import Field
from advisor_mcp.declaration import Example, Progress, Tool
from advisor_mcp.errors import CannotAnswer
from advisor_mcp.results import Answer, Row
"""
TOOLS = {
    "scale": '''
class Scaled(Answer):
    product: float
def scale(
    factor: Annotated[int, Field(ge=1, description="What to multiply by")],
    values: Annotated[list[float], Field(description="Numbers to scale")],
    sign: Annotated[Literal["plus", "minus"], Field(description="Sign of the product")] = "plus",
    exact: Annotated[bool, Field(description="Round nothing")] = True,
) -> Scaled:
    """Multiply some numbers by a factor. The product is exact."""
    product = factor * sum(values) * (1 if sign == "plus" else -1)
    return Scaled(summary=f"The product is {product if exact else round(product)}.", product=product)
TOOL = Tool(
    function=scale, title="Scale numbers", toolset="sizing", positional=("factor", "values"),
    examples=(Example("What is three times 1.5 and 2?", {"factor": 3, "values": [1.5, 2]}, {"product": 10.5}),),
)
''',
    "show": '''
class Shown(Answer):
    given: dict[str, Any]
def show(
    model: Annotated[str | dict[str, Any], Field(description="A name or a configuration")],
    count: Annotated[int | None, Field(description="How many")] = None,
    ratio: Annotated[float, Field(description="A share")] = 0.5,
    recompute: Annotated[Literal["none", "full"] | int, Field(description="A word or a number")] = "none",
    rows: Annotated[list[dict[str, Any]] | None, Field(description="Some objects")] = None,
    log: Annotated[str, Field(description="Lines")] = "",
    help: Annotated[str, Field(description="Named as one of the command line's own options")] = "",
) -> Shown:
    """Show the arguments as they arrived."""
    given = dict(model=model, count=count, ratio=ratio, recompute=recompute, rows=rows, log=log, help=help)
    return Shown(summary="As given.", given=given)
TOOL = Tool(
    function=show, title="Show arguments", toolset="config", positional=("model",), cli_name="show-it",
    examples=(Example("What arrives?", {"model": {"layers": 2}, "count": 3}),),
)
''',
    "judge": '''
class Finding(Row):
    rule: str
    harm: str
class Verdict(Answer):
    fits: bool | None = None
    findings: list[Finding] = Field(default_factory=list)
def judge(what: Annotated[str, Field(description="fits, tight, bad, unknown or broken")]) -> Verdict:
    """Say whether a thing is in order."""
    if what == "unknown":
        raise CannotAnswer("the configuration has no vocab_size", ["vocab_size", "hidden_size"])
    if what == "broken":
        raise RuntimeError("a secret")
    findings = [Finding(rule="R1", harm="slow | costly"), Finding(rule="R2", harm="wrong")] if what == "bad" else []
    fits = {"fits": True, "tight": False}.get(what)
    return Verdict(summary=f"It is {what}.", fits=fits, findings=findings)
TOOL = Tool(
    function=judge, title="Judge a thing", toolset="sizing", positional=("what",),
    examples=(Example("Does it fit?", {"what": "fits"}, {"fits": True}),),
)
''',
    "stepper": '''
def stepper(steps: Annotated[int, Field(description="How many")], progress: Progress) -> Answer:
    """Report each of some steps."""
    for step in range(steps):
        progress.report(step + 1, steps, "working")
    return Answer(summary=f"{steps} steps")
TOOL = Tool(function=stepper, title="Take steps", toolset="sizing", examples=(Example("Two?", {"steps": 2}),))
''',
}
DOUBLER = '''
class Doubled(Answer):
    double: int
def doubler(number: Annotated[int, Field(description="A number")]) -> Doubled:
    """Double a number."""
    return Doubled(summary=f"The double is {2 * number}.", double=2 * number)
TOOL = Tool(
    function=doubler, title="Double a number", toolset="sizing", positional=("number",),
    examples=(Example("Twice four?", {"number": 4}, {"double": 8}),),
)
'''
PERSONA = """\
---
name: sage
title: Sage, an AI advisor
description: Thinks before it speaks. Use when haste would cost more.
tools: [scale]
background: Fictional; Sage is an AI advisor.
objectives:
  - {id: sage-objective, text: Answer with numbers.}
domains:
  - {id: sage-domain, title: Arithmetic, topics: [products]}
protocol:
  - {id: sage-step, title: Measure, text: Measure first.}
style:
  - {id: sage-style, text: Be brief.}
rules:
  - {id: sage-rule, severity: must, text: Never guess a number.}
---
I am {{ persona.title }}.{% if focus %} Focus: {{ focus }}.{% endif %}{% if depth == "brief" %} In brief.{% endif %}
"""
