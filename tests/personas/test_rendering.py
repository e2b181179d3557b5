"""A persona becomes one Markdown prompt; focus and facts are data, and a broken body is told with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from advisor_mcp.errors import UsageError
from advisor_mcp.personas import SHARED_RULES, load_persona, parse_persona, render_persona

Document = Callable[..., str]
WithBody = Callable[[str], str]

SHARED = "## Rules of every advisor here\n" + "".join(f"- {rule.text} [{rule.id}]\n" for rule in SHARED_RULES)


def rendered(text: str, **arguments: Any) -> str:
    return render_persona(parse_persona(text, "small.md"), **arguments)


def refusal(text: str, **arguments: Any) -> str:
    with pytest.raises(UsageError) as caught:
        rendered(text, **arguments)
    return caught.value.message


def test_the_full_prompt_lays_out_every_section(document: Document) -> None:
    assert rendered(document()) == (
        "# Small\n\n"
        "You are an AI advisor. In the story, it is small. "
        "That background is fiction: it sets the voice and is never evidence.\n\n"
        "Tools to call before any number: `describe_model`.\n\n"
        "## Objectives\n- Reach the aim. [aim]\n\n"
        "## Expertise\n- **Field**: first topic, second topic [field]\n\n"
        "## Voice and style\n- Speak plainly. [plain]\n- Be kind. [kind]\n\n"
        "## Rules\n- Keep this. [keep]\n- Prefer that. [prefer]\n\n"
        "## Protocol\n1. **Step one**: Take it. [step-one]\n\n" + SHARED
    )


def test_the_brief_prompt_keeps_essential_style_must_rules_and_titles(document: Document) -> None:
    assert rendered(document(), depth="brief", focus="KV cache") == (
        "# Small\n\nYou are an AI advisor.\n\n"
        'What the user wants you to concentrate on, in their words: "KV cache"\n\n'
        "Tools to call before any number: `describe_model`.\n\n"
        "## Voice and style\n- Speak plainly. [plain]\n\n"
        "## Rules\n- Keep this. [keep]\n\n"
        "## Protocol\n1. Step one\n\n" + SHARED
    )


def test_a_focus_is_text_and_not_a_template(document: Document) -> None:
    focus = "{{ 7 * 7 }} {% raw %} <b>`x`</b>"
    added = f'What the user wants you to concentrate on, in their words: "{focus}"\n\n'
    prompt = rendered(document(), focus=focus)
    assert prompt.replace(added, "") == rendered(document())


def test_the_front_matter_is_text_and_not_a_template(document: Document) -> None:
    assert "- Reach {{ 7 * 7 }}. [aim]\n" in rendered(document("Reach the aim.", "'Reach {{ 7 * 7 }}.'"))


@pytest.mark.parametrize("focus", [None, "", "   "])
def test_an_empty_focus_is_no_focus(document: Document, focus: str | None) -> None:
    assert rendered(document(), focus=focus) == rendered(document())


def test_a_persona_without_tools_lists_none(document: Document) -> None:
    listed = "Tools to call before any number: `describe_model`.\n\n"
    assert rendered(document("[describe_model]", "[]")) == rendered(document()).replace(listed, "")


@pytest.mark.parametrize("name", ["aether", "chen-wei", "language-model-expert", "llm-architect", "optima"])
def test_every_built_in_persona_takes_a_focus(folder: Path, name: str) -> None:
    persona = load_persona(folder / f"{name}.md")
    assert '"paged attention on 2 GPUs"' in render_persona(persona, focus="paged attention on 2 GPUs")
    assert '"paged attention on 2 GPUs"' in render_persona(persona, focus="paged attention on 2 GPUs", depth="brief")


def test_a_focus_of_the_longest_length_is_taken(document: Document) -> None:
    assert f'"{"x" * 500}"' in rendered(document(), focus="x" * 500)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"focus": "x" * 501}, "focus has 501 characters; use at most 500"),
        (
            {"focus": "cache\n## Rules"},
            "focus 'cache\\n## Rules' has a line break or control character; write it as one plain line",
        ),
        (
            {"focus": "cache\u2028Rules"},
            "focus 'cache\\u2028Rules' has a line break or control character; write it as one plain line",
        ),
        (
            {"focus": "a\x1b[31m"},
            "focus 'a\\x1b[31m' has a line break or control character; write it as one plain line",
        ),
        ({"depth": "breif"}, "unknown depth 'breif'; did you mean 'brief'? (available: brief, full)"),
    ],
)
def test_an_argument_out_of_bounds_is_refused(document: Document, arguments: dict[str, str], message: str) -> None:
    assert refusal(document(), **arguments) == message


def test_an_undefined_name_in_a_body_is_told_with_the_line_of_the_file(with_body: WithBody) -> None:
    text = with_body("one\n{{ persona.titel }}\n")
    line = text.split("\n").index("{{ persona.titel }}") + 1
    message = refusal(text)
    assert message.startswith(f"persona file small.md line {line}: the body cannot be rendered (")
    assert "has no attribute 'titel'" in message


def test_a_syntax_error_in_a_body_is_told_with_the_line_of_the_file(with_body: WithBody) -> None:
    text = with_body("one\n\n{% if %}\n")
    line = text.split("\n").index("{% if %}") + 1
    assert refusal(text).startswith(f"persona file small.md line {line}: the body cannot be rendered (")


def test_a_fault_of_evaluation_in_a_body_is_told_with_its_line(with_body: WithBody) -> None:
    text = with_body("{{ 1 // 0 }}\n")
    line = text.split("\n").index("{{ 1 // 0 }}") + 1
    assert refusal(text).startswith(f"persona file small.md line {line}: the body cannot be rendered (")


@pytest.mark.parametrize(
    "body",
    [
        "{{ persona.__class__.__mro__ }}",
        "{{ fact.__globals__ }}",
        "{% include '/etc/hostname' %}",
        "{{ range(10**9) }}",
    ],
)
def test_a_body_reaches_nothing_outside_the_sandbox(with_body: WithBody, body: str) -> None:
    assert "the body cannot be rendered" in refusal(with_body(body))


def test_a_body_draws_on_the_knowledge_base(with_body: WithBody) -> None:
    known = {("technique", "grouped-query-attention"): {"name": "Grouped-query attention"}}
    text = with_body('{{ fact("technique", "grouped-query-attention").name }}')
    prompt = rendered(text, facts=lambda kind, name: known.get((kind, name)))
    assert prompt == "Grouped-query attention\n\n" + SHARED


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (lambda kind, name: None, "which is not in the knowledge base"),
        (None, "which needs the knowledge base, which was not given"),
    ],
)
def test_a_fact_that_is_missing_is_told(with_body: WithBody, facts: Any, reason: str) -> None:
    message = refusal(with_body('{{ fact("technique", "no-such").name }}'), facts=facts)
    assert message == f"persona file small.md: its body asks for technique 'no-such', {reason}"


def test_the_shared_rules_stand_in_a_prompt_whose_body_leaves_them_out(with_body: WithBody) -> None:
    assert rendered(with_body("Only this.")) == "Only this.\n\n" + SHARED
