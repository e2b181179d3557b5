"""Every rule's page holds, its example is found, what it says to use instead is not, and its fix removes it."""

from __future__ import annotations

import pytest

from advisor_mcp.linting import edits
from advisor_mcp.linting.engine import Finding, Options, lint_text
from advisor_mcp.linting.pages import example
from advisor_mcp.linting.rule import SECTIONS, Rule, rules

RULES = [pytest.param(rule, id=rule.id) for rule in rules().values()]
WITHOUT_BLOCKS = {"CF002"}  # no text can show what is no text


def findings(rule: Rule, texts: dict[str, str], options: Options) -> list[Finding]:
    return [finding for finding in lint_text(texts, options).findings if finding.rule == rule.id]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_has_a_page_with_every_section(rule: Rule) -> None:
    assert list(rule.sections) == list(SECTIONS)
    assert all(rule.sections.values())
    assert rule.page.startswith(f"Allow {rule.name}.")
    assert rule.references


@pytest.mark.parametrize("rule", RULES)
def test_an_example_is_found_and_its_fix_removes_it(rule: Rule) -> None:
    shown = example(rule, "Example")
    if shown is None:
        assert rule.id in WITHOUT_BLOCKS
        return
    found = findings(rule, shown.texts, shown.options)
    assert found, f"{rule.id} does not find its own example"
    for finding in found:
        assert finding.message[0] == finding.message[0].strip()
        if finding.fix and finding.fix.edits:
            changed = dict(shown.texts)
            for name in changed:
                own = [edit for edit in finding.fix.edits if edit.source.root.name == name]
                changed[name] = edits.apply(changed[name], own)
            left = findings(rule, changed, shown.options)
            assert len(left) < len(found), f"the fix of {rule.id} leaves it: {changed}"


@pytest.mark.parametrize("rule", RULES)
def test_what_a_page_says_to_use_instead_is_not_found(rule: Rule) -> None:
    shown = example(rule, "Use instead")
    if shown is None:
        assert rule.id in WITHOUT_BLOCKS
        return
    assert findings(rule, shown.texts, shown.options) == []


def test_ids_and_names_are_unique_and_well_formed() -> None:
    names = [rule.name for rule in rules().values()]
    assert len(set(names)) == len(names)
    for rule in rules().values():
        assert rule.id[:-3].isupper()
        assert rule.id[-3:].isdigit()
        assert rule.name == rule.name.lower().replace(" ", "-").replace("_", "-")
