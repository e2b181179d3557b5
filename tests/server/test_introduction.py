"""The server's instructions."""

from __future__ import annotations

from pathlib import Path

from advisor_mcp.catalogue import Catalogue, PersonaEntry, ToolEntry
from advisor_mcp.serving.introduction import LARGEST_BYTES, instructions

PURPOSE = (
    "Answers about training and serving models, calculated, measured and cited. Call a tool before giving a number "
    "and pass on its range, assumptions and sources; where a tool cannot answer, say what it needs instead of guessing."
)


def served(tools: int, personas: int, description: str = "Add numbers. Exactly.") -> Catalogue:
    """A catalogue of so many tools and personas."""
    listed = [
        ToolEntry(f"tool_{n:02}", f"Title {n:02}", description, "sizing", {}, {}, {}, "", (), (), Path())
        for n in range(tools)
    ]
    known = [PersonaEntry(f"persona-{n}", f"Dr. {n}", "Use when testing.", Path()) for n in range(personas)]
    return Catalogue({tool.name: tool for tool in listed}, {persona.name: persona for persona in known})


def test_a_few_tools_have_the_first_sentence_of_their_description() -> None:
    assert instructions(served(2, 2)) == (
        f"{PURPOSE}\n\nTools:\n- tool_00: Add numbers\n- tool_01: Add numbers\n\n"
        "Personas, as prompts: persona-0 (Dr. 0), persona-1 (Dr. 1)."
    )


def test_long_descriptions_give_way_to_titles() -> None:
    assert instructions(served(20, 1, "Describe " + "very " * 20 + "long things.")) == "\n\n".join(
        [
            PURPOSE,
            "Tools:\n" + "\n".join(f"- tool_{n:02}: Title {n:02}" for n in range(20)),
            "Personas, as prompts: persona-0 (Dr. 0).",
        ]
    )


def test_many_tools_are_named_and_the_rest_counted() -> None:
    catalogue = served(200, 0)
    text = instructions(catalogue)
    named = [name for name in catalogue.tools if name in text]
    assert text == f"{PURPOSE}\n\nTools: {', '.join(named)} and {200 - len(named)} more."
    assert LARGEST_BYTES - len(", tool_199") < len(text) <= LARGEST_BYTES


def test_no_catalogue_outgrows_the_limit_and_a_larger_one_is_not_used_up_early() -> None:
    sizes = [
        len(instructions(served(tools, personas)).encode()) for tools in range(0, 400, 7) for personas in (0, 5, 90)
    ]
    assert max(sizes) <= LARGEST_BYTES
    assert len(instructions(served(399, 0)).encode()) > LARGEST_BYTES - 20


def test_a_catalogue_without_content_says_only_what_the_server_is_for() -> None:
    assert instructions(served(0, 0)) == PURPOSE
