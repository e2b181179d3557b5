"""Small tools and one persona, and results as they are sent."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import advisor_mcp

HEAD = """\
from __future__ import annotations
import os, subprocess, sys, threading
from typing import Annotated
from pydantic import Field
from advisor_mcp.arguments import Detail
from advisor_mcp.declaration import Example, Progress, Tool
from advisor_mcp.errors import CannotAnswer
from advisor_mcp.results import Answer
Number = Annotated[int, Field(description="A number")]
Text = Annotated[str, Field(description="A text")]
"""
TOOLS = {
    "adder": '''
class Sum(Answer):
    total: int
def adder(first: Number, second: Number = 1, detail: Detail = "brief") -> Sum:
    """Add two numbers. The sum is exact."""
    return Sum(summary=f"{first} + {second} = {first + second}", total=first + second)
''',
    "caller": '''
def caller(path: Text) -> Answer:
    """Say which path this call may read."""
    from advisor_mcp.access import readable
    return Answer(summary=str(readable(path)))
''',
    "crasher": '''
def crasher() -> Answer:
    """Fail in a way that nobody foresaw."""
    raise RuntimeError("secret in /etc/hidden")
''',
    "leaver": '''
def leaver() -> Answer:
    """Try to end the process."""
    sys.exit(3)
''',
    "lister": '''
class Numbers(Answer):
    numbers: list[int]
def lister(count: Number, detail: Detail = "brief") -> Numbers:
    """List the numbers up to a count."""
    return Numbers(summary=f"{count} numbers", numbers=list(range(count)))
''',
    "printer": '''
def printer() -> Answer:
    """Write to standard output in three ways."""
    print("noise from print")
    os.write(1, b"noise from the descriptor\\n")
    subprocess.run([sys.executable, "-c", "print('noise from a child')"], check=True)
    return Answer(summary="printed")
''',
    "stepper": '''
def stepper(steps: Number, progress: Progress) -> Answer:
    """Report each of some steps."""
    for step in range(steps):
        progress.report(step + 1, steps, "working")
    return Answer(summary=f"{steps} steps")
''',
    "unsure": '''
def unsure() -> Answer:
    """Lack a fact."""
    raise CannotAnswer("the configuration has no vocab_size", ["vocab_size", "hidden_size"])
''',
    "waiter": '''
RESUME, WITHDRAWN = threading.Event(), threading.Event()
def waiter(progress: Progress) -> Answer:
    """Work until told to go on, and note when the caller left."""
    try:
        progress.report(1, None, "started")
        RESUME.wait(120)
        progress.check()
    except Exception:
        WITHDRAWN.set()
        raise
    return Answer(summary="nobody left")
''',
}
PERSONA = """\
---
name: sample
title: Dr. Sample, the tester
description: A tester. Use when a test needs a persona.
tools: [adder]
background: Grew up in a fixture.
objectives:
  - {id: test-well, text: Test what can fail.}
domains:
  - {id: testing, title: Testing, topics: [fixtures]}
protocol:
  - {id: first-step, title: Look, text: Look at the failure.}
style:
  - {id: plain-words, text: Use plain words.}
rules:
  - {id: run-it, severity: must, text: Run the test.}
---
You are {{ persona.title }}.
{{ focus }}
{{ depth }}
"""


EXAMPLES = {"adder": 'Example("What is 1 + 2?", {"first": 1, "second": 2}, {"total": 3}),'}


def write_content(root: Path) -> None:
    """A folder of tools and personas, without its snapshot."""
    (root / "tools").mkdir(parents=True)
    (root / "personas").mkdir()
    for name, body in TOOLS.items():
        examples = f"({EXAMPLES.get(name, '')})"
        end = f'TOOL = Tool(function={name}, title="{name.title()}", toolset="sizing", examples={examples})'
        (root / "tools" / f"{name}.py").write_text(f"{HEAD}{body}{end}\n", encoding="utf-8")
    (root / "personas" / "sample.md").write_text(PERSONA, encoding="utf-8")


def wire(result: BaseModel) -> dict[str, Any]:
    """A result as it is sent, without what the protocol era adds to every one."""
    data = result.model_dump(by_alias=True, exclude_none=True, mode="json")
    return {key: value for key, value in data.items() if key not in ("_meta", "resultType", "ttlMs", "cacheScope")}


def spoken(sentence: str) -> dict[str, Any]:
    """A refusal as it is sent."""
    return {"content": [{"type": "text", "text": sentence}], "isError": True}


SERVE = """
import sys
from pathlib import Path
from advisor_mcp import content
content.built_in = lambda: Path(sys.argv[1])
from advisor_mcp.server import serve_http, serve_stdio
{action}
"""


def serving(root: Path, action: str) -> list[str]:
    """The command of a process that serves a content folder; `action` is a line of Python."""
    return [sys.executable, "-c", SERVE.format(action=action), str(root)]


def environment(**more: str) -> dict[str, str]:
    """The environment of such a process: this one's, with the package on its path and output kept back as usual."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**kept, "PYTHONPATH": str(Path(advisor_mcp.__file__).parents[1]), **more}
