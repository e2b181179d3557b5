"""What is derived from the declarations holds what they say, and every tool keeps what all tools promise."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from docs import generate

from advisor_mcp import catalogue as catalogues
from advisor_mcp import cli, flags, results
from advisor_mcp.catalogue import ToolEntry
from advisor_mcp.declaration import BRIEF_BYTES, FULL_BYTES, Example

TOOLS = sorted((generate.ROOT / "tools").glob("[!_]*.py"))
NAMES = [path.stem for path in TOOLS]
LONGEST_CONSULT = 14_000
SNAPSHOT: dict[str, ToolEntry] = dict(catalogues.build().tools)


def examples(runnable: bool) -> list[Any]:
    found = [
        (n, e) for n in SNAPSHOT for e in catalogues.build().declaration(n).examples if runnable <= (e.needs is None)
    ]
    return [pytest.param(name, example, id=f"{name}: {example.question}") for name, example in found]


def figure(answer: Any, path: str) -> Any:
    for part in path.split("."):
        answer = answer[int(part)] if isinstance(answer, list) else answer[part]
    return answer


def nodes(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, Mapping):
        yield schema
        for part in schema.values():
            yield from nodes(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from nodes(part)


def test_no_generated_file_has_drifted() -> None:
    assert generate.drifted() == []


def test_a_drifted_a_missing_and_a_left_over_file_are_each_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ROOT", "SNAPSHOTS", "SAMPLES"):
        monkeypatch.setattr(generate, name, tmp_path if name == "ROOT" else tmp_path / name.lower())
    wanted = {tmp_path / "a.md": "one\ntwo\n", tmp_path / "b.md": "one\n", tmp_path / "c.md": "one\ntwo\n"}
    monkeypatch.setattr(generate, "generated", lambda: wanted)
    (tmp_path / "a.md").write_text("one\n2\n", encoding="utf-8")
    (tmp_path / "c.md").write_text("one\n", encoding="utf-8")
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "gone.json").write_text("{}", encoding="utf-8")
    assert generate.drifted() == [
        "a.md has drifted at line 2: run `python docs/generate.py`",
        "b.md is missing: run `python docs/generate.py`",
        "c.md has drifted at line 2: run `python docs/generate.py`",
        "snapshots/gone.json is of no tool or client: delete it",
    ]


def test_a_block_in_the_readme_gets_what_its_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    def printing(words: list[str]) -> int:
        print(" ".join(words))
        return 0

    monkeypatch.setattr(cli, "main", printing)
    text = "before\n<!-- output: advisor-mcp say 'a b' -->\nold\n<!-- /output -->\nafter\n"
    made = "<!-- output: advisor-mcp say 'a b' -->\n```console\n$ advisor-mcp say 'a b'\nsay a b\n```\n<!-- /output -->"
    assert generate.with_outputs(text) == f"before\n{made}\nafter\n"
    assert generate.with_outputs(generate.with_outputs(text)) == generate.with_outputs(text)


def test_a_block_of_a_command_that_fails_or_of_another_program_is_refused() -> None:
    with pytest.raises(RuntimeError, match="only advisor-mcp commands can be shown"):
        generate.output_of("rm -rf x")
    with pytest.raises(RuntimeError, match="failed with 2: advisor-mcp: unknown command 'nonsense'"):
        generate.output_of("advisor-mcp nonsense")


def test_every_tool_file_is_served_and_has_its_snapshot() -> None:
    snapshots = sorted(path.stem for path in generate.SNAPSHOTS.glob("*.json"))
    assert (sorted(SNAPSHOT), snapshots) == (NAMES, NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_tool_is_documented_and_annotated(name: str) -> None:
    entry = SNAPSHOT[name]
    assert f"\n## {name}\n\n{entry.description}\n" in generate.REFERENCE.read_text(encoding="utf-8")
    assert sorted(entry.annotations) == ["destructiveHint", "idempotentHint", "openWorldHint", "readOnlyHint"]
    assert len(entry.description.split(". ")[0].rstrip(".")) <= 80
    assert entry.title
    assert entry.examples


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_of_a_tool_is_described(name: str) -> None:
    assert [flag.name for flag in flags.flags(SNAPSHOT[name]) if not flag.description] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_schema_has_a_combinator_at_its_top(name: str) -> None:
    # some providers reject a whole tools/list for one of these
    for schema in (SNAPSHOT[name].input_schema, SNAPSHOT[name].output_schema):
        assert schema["type"] == "object"
        assert not {"anyOf", "oneOf", "allOf", "not", "$ref"} & schema.keys()


@pytest.mark.parametrize("name", NAMES)
def test_every_reference_in_a_schema_leads_somewhere(name: str) -> None:
    for schema in (SNAPSHOT[name].input_schema, SNAPSHOT[name].output_schema):
        named = {node["$ref"] for node in nodes(schema) if isinstance(node.get("$ref"), str)}
        assert named <= {f"#/$defs/{name}" for name in schema.get("$defs", {})}


@pytest.mark.parametrize(("name", "example"), examples(runnable=True))
def test_every_example_gives_the_figures_it_names(name: str, example: Example) -> None:
    answer = catalogues.build().call(name, example.arguments).data()
    assert {path: figure(answer, path) for path in example.answer} == dict(example.answer)


@pytest.mark.parametrize("name", NAMES)
def test_at_least_one_example_that_runs_anywhere_names_a_figure(name: str) -> None:
    runnable = [example for example in catalogues.build().declaration(name).examples if example.needs is None]
    assert any(example.answer for example in runnable) or not runnable


@pytest.mark.parametrize(("name", "example"), examples(runnable=True))
def test_every_example_fits_its_budget_in_both_channels_and_its_schema(name: str, example: Example) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    served, entry = catalogues.build(), SNAPSHOT[name]
    bare = {key: value for key, value in example.arguments.items() if key != "detail"}
    for detail in ("brief", "full") if "detail" in entry.input_schema["properties"] else ("brief",):
        given = bare | ({"detail": detail} if detail == "full" else {})
        limit = served.limit(name, given)
        data, text = results.present(served.call(name, given), limit)
        assert (
            max(len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()), len(text.encode())) <= limit
        )
        assert limit <= (LONGEST_CONSULT if name == "consult" else FULL_BYTES if detail == "full" else BRIEF_BYTES)
        jsonschema.validate(data, dict(entry.output_schema))


@pytest.mark.parametrize(("name", "example"), examples(runnable=False))
def test_every_example_reads_back_from_the_command_that_shows_it(name: str, example: Example) -> None:
    entry = SNAPSHOT[name]
    words = shlex.split(shlex.join(flags.command_line(entry, example.arguments)))
    assert flags.parse(entry, words[2:]).arguments == dict(example.arguments)
