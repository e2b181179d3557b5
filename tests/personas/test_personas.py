"""The five personas hold everything that their source documents demand, within the budgets, and name nobody real."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from advisor_mcp.personas import SHARED_RULES, Domain, Item, Persona, Rule, Step, load_persona, render_persona

FOLDER = Path(__file__).resolve().parents[2] / "personas"
REQUIREMENTS = Path(__file__).parent / "requirements"
NAMES = ["aether", "chen-wei", "language-model-expert", "llm-architect", "optima"]
TOOLS = {path.stem for path in (FOLDER.parent / "tools").glob("*.py")}
KINDS = {"objective", "rule", "style", "protocol", "domain", "principle"}
FULL_BYTES, BRIEF_BYTES = 12_500, 4_500

# employers, schools and people; an API called after one of them is a technical term and stays
REAL_NAMES = [
    "Stanford",
    "Tsinghua",
    "Peking University",
    "OpenAI(?!-compatible)",
    "Anthropic",
    "Claude",
    "Google",
    "DeepMind",
    "xAI",
    "Meta AI",
    "Microsoft",
    "Manning",
    "GPT-4",
    "AlphaFold",
    "NeurIPS",
    "ICML",
]

OPTIMA_METHOD = [
    "Information Gathering",
    "Hypothesis Formation",
    "Instrumentation",
    "Data Analysis",
    "Intervention Design",
    "Implementation",
    "Validation",
    "Knowledge Transfer",
]


def persona_of(name: str) -> Persona:
    return load_persona(FOLDER / f"{name}.md")


def demands_of(name: str) -> list[dict[str, Any]]:
    demands: list[dict[str, Any]] = tomllib.loads((REQUIREMENTS / f"{name}.toml").read_text(encoding="utf-8"))["demand"]
    return demands


def pieces(entry: Item | Domain | Step | Rule) -> list[str]:
    """The texts of an entry that the prompt has to show."""
    match entry:
        case Domain():
            return [entry.title, *entry.topics]
        case Step():
            return [entry.title, entry.text]
        case _:
            return [entry.text]


def entries(persona: Persona) -> dict[str, list[str]]:
    sections = (persona.objectives, persona.domains, persona.protocol, persona.style, persona.rules)
    return {entry.id: pieces(entry) for section in sections for entry in section}


DEMANDS = [pytest.param(name, demand, id=f"{name}-{demand['id']}") for name in NAMES for demand in demands_of(name)]


def test_the_personas_are_the_five_with_requirements() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.md")) == NAMES
    assert sorted(path.stem for path in REQUIREMENTS.glob("*.toml")) == NAMES


@pytest.mark.parametrize(("name", "demand"), DEMANDS)
def test_a_demand_of_the_source_document_has_its_entry_and_stands_in_the_prompt(
    name: str, demand: dict[str, Any]
) -> None:
    persona = persona_of(name)
    texts = entries(persona)[demand["id"]]
    prompt = render_persona(persona)
    assert [text for text in texts if text not in prompt] == []
    assert [term for term in demand["must_contain"] if term.lower() not in " ".join(texts).lower()] == []


@pytest.mark.parametrize("name", NAMES)
def test_demands_are_well_formed_and_listed_once(name: str) -> None:
    demands = demands_of(name)
    assert [d["id"] for d in demands if d["kind"] not in KINDS or not d["says"] or not d["must_contain"]] == []
    assert [key for key, count in Counter(d["id"] for d in demands).items() if count > 1] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_objective_domain_and_step_of_a_persona_answers_a_demand(name: str) -> None:
    persona = persona_of(name)
    demanded = {demand["id"] for demand in demands_of(name)}
    own = [entry.id for section in (persona.objectives, persona.domains, persona.protocol) for entry in section]
    assert [entry for entry in own if entry not in demanded] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_stays_within_its_budget(name: str) -> None:
    persona = persona_of(name)
    assert len(render_persona(persona).encode()) <= FULL_BYTES
    assert len(render_persona(persona, depth="brief").encode()) <= BRIEF_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_a_brief_prompt_keeps_identity_tools_must_rules_and_protocol_titles(name: str) -> None:
    persona = persona_of(name)
    brief = render_persona(persona, depth="brief")
    musts = [f"{rule.text} [{rule.id}]" for rule in (*persona.rules, *SHARED_RULES) if rule.severity == "must"]
    steps = [f"{place}. {step.title}\n" for place, step in enumerate(persona.protocol, 1)]
    essential = [item.text for item in persona.style if item.essential]
    tools = [f"`{tool}`" for tool in persona.tools]
    kept = ["You are an AI advisor.", *tools, *musts, *steps, *essential]
    assert essential
    assert [text for text in kept if text not in brief] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_persona_names_no_real_employer_school_or_person(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    found = [real for real in REAL_NAMES if re.search(rf"\b{real}", text, re.IGNORECASE)]
    assert found == []


@pytest.mark.parametrize("name", NAMES)
def test_a_persona_says_that_it_is_an_ai_advisor_and_that_its_background_is_fiction(name: str) -> None:
    prompt = render_persona(persona_of(name))
    assert "You are an AI advisor." in prompt
    assert "That background is fiction" in prompt
    assert [rule.id for rule in SHARED_RULES if f"{rule.text} [{rule.id}]" not in prompt] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_and_step_is_followed_by_its_id(name: str) -> None:
    persona = persona_of(name)
    prompt = render_persona(persona)
    assert [entry for entry in persona.ids() if f" [{entry}]\n" not in prompt] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_persona_names_only_tools_that_exist(name: str) -> None:
    assert set(persona_of(name).tools) <= TOOLS
    assert set(re.findall(r"`([a-z]+_[a-z_]+)`", render_persona(persona_of(name)))) <= TOOLS


def test_optima_keeps_its_eight_steps_in_order() -> None:
    assert [step.title for step in persona_of("optima").protocol] == OPTIMA_METHOD


def test_optima_process_keeps_its_order() -> None:
    prompt = render_persona(persona_of("optima"))
    assert "measure → locate bottleneck → optimize the right thing → re-measure" in prompt


def test_aether_compares_options_in_its_six_columns() -> None:
    rule = next(rule for rule in persona_of("aether").rules if rule.id == "comparison-table")
    assert rule.check is not None
    columns = "Approach | Quality Impact | Compute Cost | Implementation Complexity | Risk Level | Recommended When"
    assert " | ".join(rule.check.table_columns) == columns
    assert columns in rule.text


def test_shared_rules_have_ids_of_their_own() -> None:
    assert [rule.id for rule in SHARED_RULES] == [
        "number-from-tool",
        "range-with-evidence",
        "repeat-cannot-answer",
        "cite-source-ids",
        "say-ai-advisor",
        "no-invented-credentials",
    ]
