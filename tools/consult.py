"""consult: a persona's briefing, for clients that do not offer MCP prompts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from advisor_mcp import content, knowledge
from advisor_mcp.declaration import Example, Tool
from advisor_mcp.errors import unknown
from advisor_mcp.personas.loading import Persona, load_persona
from advisor_mcp.personas.rendering import render_persona
from advisor_mcp.results import Answer


class Briefing(Answer):
    persona: str
    title: str
    tools: list[str] = Field(description="The tools this persona answers with")
    briefing: str = Field(description="Markdown to follow from here on")


def consult(
    persona: Annotated[
        str, Field(min_length=1, description="aether, optima, chen-wei, llm-architect or language-model-expert")
    ],
    focus: Annotated[str | None, Field(max_length=500, description="What to concentrate on")] = None,
    depth: Annotated[Literal["brief", "full"], Field(description="brief keeps the method and the hard rules")] = "full",
) -> Briefing:
    """An expert persona's briefing to answer as. Aether: model engineering; Optima: performance; Dr. Chen Wei:
    ML engineering; Dr. Neural (llm-architect): architecture; Language Model Expert: research.
    """
    found = _find(persona)
    return Briefing(
        summary=f"Answer as {found.title}, following this briefing.",
        persona=found.name,
        title=found.title,
        tools=list(found.tools),
        briefing=render_persona(found, focus=focus, depth=depth, facts=knowledge.find),
    )


def _find(asked: str) -> Persona:
    """The persona of that name or title, case and punctuation aside: "Optima", "Dr. Neural", "chen wei"."""
    files = content.persona_files()
    if asked in files:
        return load_persona(files[asked])
    wanted = _plain(asked)
    for path in files.values():
        found = load_persona(path)
        if wanted and wanted in (_plain(found.name), _plain(found.title), _plain(found.title.split(",")[0])):
            return found
    raise unknown("persona", asked, files)


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


TOOL = Tool(
    function=consult,
    title="Consult a persona",
    toolset="persona",
    positional=("persona",),
    brief_bytes=14_000,
    full_bytes=14_000,
    examples=(
        Example(
            "Let Optima look at my slow training run.",
            {"persona": "optima", "focus": "18 % MFU on 64 H100s"},
            {"persona": "optima"},
        ),
        Example("Ask Aether, briefly.", {"persona": "aether", "depth": "brief"}, {"persona": "aether"}),
    ),
)
