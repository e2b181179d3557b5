"""What the tests of personas share: the built-in files, and a small persona to break in one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "personas"
SMALL = """---
name: small
title: Small
description: A persona for tests. Use when testing.
tools: [describe_model]
background: In the story, it is small.
objectives:
  - {id: aim, text: Reach the aim.}
domains:
  - {id: field, title: Field, topics: [first topic, second topic]}
protocol:
  - {id: step-one, title: Step one, text: Take it.}
style:
  - {id: plain, text: Speak plainly., essential: true}
  - {id: kind, text: Be kind.}
rules:
  - {id: keep, severity: must, text: Keep this., check: {forbid: ['\\bnever\\b']}}
  - {id: prefer, severity: should, text: Prefer that.}
---
{% import "layout.md.j2" as layout with context %}
# {{ persona.title }}

{{ layout.background() }}

{{ layout.focusing() }}

{{ layout.tools() }}

{{ layout.objectives() }}

{{ layout.domains() }}

{{ layout.style() }}

{{ layout.rules() }}

{{ layout.protocol() }}
"""

Document = Callable[..., str]


@pytest.fixture
def document() -> Document:
    """The small persona's file, with one piece of its text replaced."""

    def changed(old: str = "", new: str = "") -> str:
        assert SMALL.count(old) == 1 or not old
        return SMALL.replace(old, new) if old else SMALL

    return changed


@pytest.fixture
def with_body(document: Document) -> Callable[[str], str]:
    """The small persona's file with another body."""

    def changed(body: str) -> str:
        return document().rpartition("---\n")[0] + "---\n" + body

    return changed


@pytest.fixture
def folder() -> Path:
    """Where the built-in persona files are."""
    return FOLDER
