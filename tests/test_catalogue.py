"""The catalogue: what is found, what clashes, what is broken, and what a call gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from advisor_mcp import catalogue, content
from advisor_mcp.errors import CannotAnswer, InternalError, UsageError

TOOL = '''
from __future__ import annotations
from typing import Annotated
from pydantic import Field
from advisor_mcp.declaration import Example, Tool
from advisor_mcp.errors import CannotAnswer
from advisor_mcp.results import Answer

class Doubled(Answer):
    doubled: int

def NAME(value: Annotated[int, Field(description="A number")]) -> Doubled:
    """Double a number."""
    if value == 13:
        raise CannotAnswer("thirteen is not doubled here", needs=["another number"])
    if value == 99:
        raise RuntimeError("secret /etc/passwd")
    return Doubled(summary=f"{2 * value}", doubled=2 * value)

TOOL = Tool(function=NAME, title="Double", toolset="sizing", examples=(Example("Twice 2?", {"value": 2}, {"doubled": 4}),))
'''


@pytest.fixture
def folder(tmp_path: Path, content_folders: None) -> Path:
    (tmp_path / "tools").mkdir()
    (tmp_path / "personas").mkdir()
    (tmp_path / "tools" / "double_it.py").write_text(TOOL.replace("NAME", "double_it"), encoding="utf-8")
    return tmp_path


def test_a_users_tool_is_served_beside_the_built_in_ones(folder: Path) -> None:
    found = catalogue.build([folder])
    assert set(found.tools) - set(catalogue.build().tools) == {"double_it"}
    assert found.call("double_it", {"value": 4}).data()["doubled"] == 8
    assert found.problems == ()


def test_a_users_persona_is_served_beside_the_built_in_ones(folder: Path) -> None:
    source = content.built_in() / "personas" / "optima.md"
    text = source.read_text(encoding="utf-8").replace("name: optima\n", "name: house-expert\n", 1)
    (folder / "personas" / "house-expert.md").write_text(text, encoding="utf-8")
    found = catalogue.build([folder])
    assert "house-expert" in found.personas
    assert found.persona("house-expert").name == "house-expert"


def test_a_name_that_is_taken_is_reported_and_the_built_in_one_stays(folder: Path) -> None:
    (folder / "tools" / "describe_model.py").write_text(TOOL.replace("NAME", "describe_model"), encoding="utf-8")
    found = catalogue.build([folder])
    assert found.tools["describe_model"].title == "Describe a model"
    assert [(p.path.name, p.message) for p in found.problems] == [
        ("describe_model.py", "the tool 'describe_model' is already served from tools/; rename the file")
    ]


@pytest.mark.parametrize(("name", "text", "message"), [
    ("broken", "def broken(:\n", "it failed to load: SyntaxError: invalid syntax (broken.py, line 1)"),
    ("empty", "", "empty.py declares no tool: it needs a module-level TOOL = Tool(...)"),
    ("other", TOOL.replace("NAME", "another"), "other.py declares 'another': name the function as the file"),
    ("raises", "raise ValueError('no')", "it failed to load: ValueError: no"),
    ("exits", "raise SystemExit('gone')", "it failed to load: SystemExit: gone"),
])  # fmt: skip
def test_a_broken_file_is_listed_with_its_error_and_the_rest_is_served(
    folder: Path, name: str, text: str, message: str
) -> None:
    (folder / "tools" / f"{name}.py").write_text(text, encoding="utf-8")
    found = catalogue.build([folder])
    assert [(p.path.name, p.message) for p in found.problems] == [(f"{name}.py", message)]
    assert "double_it" in found.tools
    assert "describe_model" in found.tools


def test_a_changed_file_is_read_again(folder: Path) -> None:
    catalogue.build([folder])
    (folder / "tools" / "double_it.py").write_text(
        TOOL.replace("NAME", "double_it").replace("Double a number.", "Twice as much."), encoding="utf-8"
    )
    assert catalogue.build([folder]).tools["double_it"].description == "Twice as much."


def test_an_index_that_is_damaged_is_made_anew(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_MCP_CACHE", str(tmp_path / "cache"))
    catalogue.build([folder])
    index = tmp_path / "cache" / "content-index.json"
    assert json.loads(index.read_text(encoding="utf-8"))
    index.write_text("{", encoding="utf-8")
    assert "double_it" in catalogue.build([folder]).tools


def test_a_file_that_is_added_joins_the_index(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_MCP_CACHE", str(tmp_path / "cache"))
    catalogue.build([folder])
    (folder / "tools" / "halve_it.py").write_text(TOOL.replace("NAME", "halve_it"), encoding="utf-8")
    catalogue.build([folder])
    known = json.loads((tmp_path / "cache" / "content-index.json").read_text(encoding="utf-8"))
    assert {"double_it.py", "halve_it.py"} <= {Path(key.split("|")[0]).name for key in known}


def test_a_folder_that_is_not_there_is_a_problem_and_not_an_end(tmp_path: Path, content_folders: None) -> None:
    found = catalogue.build([tmp_path / "nowhere"])
    assert [p.message for p in found.problems] == ["the content folder does not exist"]
    assert found.tools


def test_errors_of_a_tool_reach_the_caller_as_sentences_and_faults_without_their_text(folder: Path) -> None:
    found = catalogue.build([folder])
    with pytest.raises(CannotAnswer, match="thirteen is not doubled here"):
        found.call("double_it", {"value": 13})
    with pytest.raises(InternalError) as caught:
        found.call("double_it", {"value": 99})
    assert "secret" not in caught.value.message
    with pytest.raises(UsageError, match="unknown tool 'doubleit'; did you mean 'double_it'"):
        found.call("doubleit", {})


def test_a_tool_that_ends_the_process_is_a_fault_like_any_other(folder: Path) -> None:
    text = TOOL.replace("NAME", "double_it").replace("RuntimeError(", "SystemExit(")
    (folder / "tools" / "double_it.py").write_text(text, encoding="utf-8")
    with pytest.raises(InternalError, match="double_it failed on a fault of its own"):
        catalogue.build([folder]).call("double_it", {"value": 99})


def test_a_fault_is_logged_with_its_traceback_once_and_then_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = catalogue.build([folder])
    for _ in range(100):
        with pytest.raises(InternalError):
            found.call("double_it", {"value": 99})
    assert [(record.getMessage(), bool(record.exc_info)) for record in caplog.records] == [
        ("double_it failed", True),
        ("double_it failed: the same fault (RuntimeError) for the 10th time", False),
        ("double_it failed: the same fault (RuntimeError) for the 100th time", False),
    ]


def test_faults_of_another_place_or_kind_are_logged_each(caplog: pytest.LogCaptureFixture) -> None:
    faults = catalogue.Faults()
    for fault in (ValueError, KeyError, ValueError):
        try:
            raise fault("here")
        except fault as error:
            faults.log("it failed", error)
    try:
        raise ValueError("there")
    except ValueError as error:
        faults.log("it failed", error)
    kinds = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert kinds == [ValueError, KeyError, ValueError]


def test_a_users_facts_that_cannot_be_read_are_problems(folder: Path) -> None:
    for name, text in (("models/y.toml", "[[model"), ("gpus/x.toml", '[[gpu]]\nname = "X"\n')):
        (folder / name).parent.mkdir()
        (folder / name).write_text(text, encoding="utf-8")
    found = catalogue.build([folder])
    assert [p.path.relative_to(folder.resolve()).as_posix() for p in found.problems] == ["gpus/x.toml", "models/y.toml"]
    assert found.problems[0].message == "an entry has no id"
    assert "double_it" in found.tools


def test_a_users_model_without_sources_is_described(folder: Path) -> None:
    (folder / "models").mkdir()
    (folder / "models" / "ours.toml").write_text(
        """
        [[model]]
        id = "ours"
        name = "Ours"
        config = { model_type = "llama", hidden_size = 64, intermediate_size = 128, num_hidden_layers = 2, \
num_attention_heads = 4, vocab_size = 100 }
        """.replace("\\\n", ""),
        encoding="utf-8",
    )
    found = catalogue.build([folder])
    assert found.problems == ()
    assert found.call("describe_model", {"model": "ours"}).data()["sources"] == []


def test_facts_are_not_opened_to_start_without_a_content_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unopened() -> object:
        raise OSError("opened")

    monkeypatch.setattr("advisor_mcp.knowledge.open_store", unopened)
    assert catalogue.build().problems == ()
    (problem,) = catalogue.build([folder]).problems
    assert problem.message == "the store of facts cannot be built: OSError: opened"


def test_arguments_that_are_nested_without_end_or_too_many_are_refused(folder: Path) -> None:
    found = catalogue.build([folder])
    deep: dict[str, object] = {}
    for _ in range(500):
        deep = {"a": deep}
    with pytest.raises(UsageError, match="nested too deeply"):
        found.call("describe_model", {"model": deep})
    with pytest.raises(UsageError, match="the arguments have over"):
        found.call("describe_model", {"model": {"a": ["x" * 1_000_000] * 9}})


def test_toolsets_and_tools_narrow_what_is_served() -> None:
    found = catalogue.build()
    assert {entry.toolset for entry in found.select(toolsets=["sizing"]).tools.values()} == {"sizing"}
    assert set(found.select(tools=["consult"]).tools) == {"consult"}
    assert found.select() is found
    with pytest.raises(UsageError, match="unknown toolset 'sizin'; did you mean 'sizing'"):
        found.select(toolsets=["sizin"])
