"""A persona file is read strictly: what is wrong is told in one sentence with the file and the key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from advisor_mcp.errors import UsageError
from advisor_mcp.personas import Check, Domain, Item, Rule, Step, load_persona, parse_persona

Document = Callable[..., str]


def refusal(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_persona(text, "small.md")
    return caught.value.message


def test_a_file_becomes_a_persona_field_by_field(document: Document) -> None:
    persona = parse_persona(document(), "small.md")
    assert (persona.name, persona.title, persona.origin) == ("small", "Small", "small.md")
    assert persona.description == "A persona for tests. Use when testing."
    assert persona.tools == ("describe_model",)
    assert persona.background == "In the story, it is small."
    assert persona.objectives == (Item("aim", "Reach the aim."),)
    assert persona.domains == (Domain("field", "Field", ("first topic", "second topic")),)
    assert persona.protocol == (Step("step-one", "Step one", "Take it."),)
    assert persona.style == (Item("plain", "Speak plainly.", True), Item("kind", "Be kind."))
    assert persona.rules == (
        Rule("keep", "must", "Keep this.", Check(forbid=(r"\bnever\b",))),
        Rule("prefer", "should", "Prefer that."),
    )
    assert list(persona.ids()) == ["aim", "field", "step-one", "plain", "kind", "keep", "prefer"]


def test_the_body_starts_on_the_line_after_the_front_matter(document: Document) -> None:
    text = document()
    persona = parse_persona(text, "small.md")
    assert text.split("\n")[persona.body_line - 1] == persona.body.split("\n")[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "title: Small",
            "titel: Small",
            "unknown key 'titel'; did you mean 'title'? (allowed: name, title, description, tools, background, "
            "objectives, domains, protocol, style, rules)",
        ),
        ("title: Small\n", "", "key 'title' is missing; add text"),
        ("title: Small\n", "title: 7\n", "title is 7 where text is needed"),
        ("title: Small\n", "title: ' '\n", "title is empty; write its text"),
        (
            "tools: [describe_model]",
            "tools: describe_model",
            "tools is 'describe_model' where a list of texts is needed",
        ),
        ("[describe_model]", "[mcp__x]\nname: other", "key 'name' stands twice from line 2 on; keep one"),
        (
            "[describe_model]",
            "[Describe-Model]",
            "tools holds 'Describe-Model'; give bare tool names such as describe_model",
        ),
        ("id: kind,", "id: keep,", "id 'keep' stands twice; every id of a persona is its own"),
        (
            "id: kind,",
            "id: cite-source-ids,",
            "id 'cite-source-ids' is that of a rule which every persona shares; choose another",
        ),
        (
            "id: aim,",
            "id: The Aim,",
            "objectives[0].id is 'The Aim'; use at most 64 lower-case letters, digits and single hyphens",
        ),
        (
            "{id: aim, text: Reach the aim.}",
            "{id: aim, says: Reach the aim.}",
            "unknown key 'says' in objectives[0] (allowed: id, text, essential)",
        ),
        (
            "{id: aim, text: Reach the aim.}",
            "aim",
            "objectives[0] is 'aim' where a mapping of id, text, essential is needed",
        ),
        ("{id: aim, text: Reach the aim.}", "{id: aim}", "key 'text' is missing in objectives[0]; add text"),
        ("essential: true", "essential: often", "style[0].essential is 'often' where true or false is needed"),
        ("severity: must", "severity: may", "rules[0].severity is 'may'; use must or should"),
        (
            "{forbid: ['\\bnever\\b']}",
            "{forbid: ['(']}",
            "rules[0].check.forbid holds '(', which is no regular expression (missing ), unterminated subpattern); mend it",
        ),
        (
            "{forbid: ['\\bnever\\b']}",
            "{when: never}",
            "rules[0].check tests nothing; give forbid, require or table_columns",
        ),
        ("[first topic, second topic]", "[first topic, 2]", "domains[0].topics holds 2 where text is needed"),
        (
            "Use when testing.",
            "For tests.",
            "description does not say when to use the persona; add a sentence 'Use when ...'",
        ),
        (
            "A persona for tests.",
            "A" * 81 + ".",
            "description has 100 characters and 82 in its first sentence; use at most 400 and 80",
        ),
        (
            "Use when testing.",
            "Use when " + "x" * 400,
            "description has 430 characters and 20 in its first sentence; use at most 400 and 80",
        ),
    ],
)
def test_a_fault_is_told_with_file_and_key(document: Document, old: str, new: str, message: str) -> None:
    assert refusal(document(old, new)) == f"persona file small.md: {message}"


def test_a_file_without_front_matter_is_refused() -> None:
    assert refusal("# Small\n") == (
        "persona file small.md: there is no front matter; "
        "start the file with a line ---, the keys, and another line ---"
    )


def test_front_matter_that_is_no_mapping_is_refused() -> None:
    assert refusal("---\n- name\n---\n").startswith(
        "persona file small.md: the front matter is ['name'] where a mapping of name, title,"
    )


def test_invalid_yaml_is_told_with_its_line(document: Document) -> None:
    message = refusal(document("title: Small", "title: Small: again"))
    assert message.startswith("persona file small.md: the front matter is not valid YAML at line 3 (")


def test_a_character_that_yaml_does_not_allow_is_refused(document: Document) -> None:
    assert refusal(document("title: Small", "title: Sm\x07all")) == (
        "persona file small.md: the front matter is not valid YAML (a character that YAML does not allow); mend it"
    )


def test_a_file_is_loaded_by_its_path(tmp_path: Path, document: Document) -> None:
    path = tmp_path / "small.md"
    path.write_text(document(), encoding="utf-8")
    assert load_persona(path) == parse_persona(document(), "small.md")


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path: Path, document: Document) -> None:
    path = tmp_path / "small.md"
    path.write_bytes(b"\xef\xbb\xbf" + document().replace("\n", "\r\n").encode())
    assert load_persona(path) == parse_persona(document(), "small.md")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("other.md", None, "persona file other.md cannot be read (No such file or directory); name a Markdown file"),
        ("small.md", b"---\xff", "persona file small.md cannot be read (it is not UTF-8); name a Markdown file"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_by_its_name(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_persona(tmp_path / name)
    assert caught.value.message == message


def test_a_name_other_than_the_files_is_refused(tmp_path: Path, document: Document) -> None:
    path = tmp_path / "large.md"
    path.write_text(document(), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_persona(path)
    assert caught.value.message == (
        "persona file large.md: name is 'small' where the file is called large; make the two equal"
    )
