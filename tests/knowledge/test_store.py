"""The knowledge store: built once, found by any spelling, searched, and whole whoever else builds it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from advisor_mcp import content, knowledge
from advisor_mcp.knowledge import facts, store

PRINT_COUNT = "from advisor_mcp import knowledge; print(len(knowledge.ids('gpu')))"


def test_every_fact_file_is_read_without_a_problem() -> None:
    assert facts.read_facts(facts.fact_files([])).problems == []


def test_every_source_that_an_entry_names_is_there() -> None:
    read = facts.read_facts(facts.fact_files([])).facts
    known = {fact.id for fact in read if fact.kind == "source"}
    assert {(f.id, s) for f in read for s in f.data.get("sources", []) if s not in known} == set()


def test_every_entry_names_a_source_and_how_sure_it_is() -> None:
    read = facts.read_facts(facts.fact_files([])).facts
    assert [f.id for f in read if f.kind != "source" and not f.data.get("sources")] == []
    assert {f.data.get("confidence") for f in read if f.kind != "source"} <= {"opened", "secondary", "recalled"}
    assert [
        f.id for f in read if f.kind == "source" and f.data.get("opened") is True and not f.data.get("read_via")
    ] == []


def test_an_entry_marked_opened_rests_on_a_source_that_was() -> None:
    read = facts.read_facts(facts.fact_files([])).facts
    opened = {fact.id for fact in read if fact.kind == "source" and fact.data["opened"]}
    assert [
        f.id
        for f in read
        if f.kind != "source" and f.data["confidence"] == "opened" and not opened & set(f.data["sources"])
    ] == []


def test_a_name_is_found_whatever_its_case_spaces_and_hyphens() -> None:
    found = [knowledge.find("gpu", name) for name in ("h100-sxm", "H100 SXM", "h100_sxm", "NVIDIA H100 80GB HBM3")]
    assert {entry["id"] for entry in found if entry} == {"h100-sxm"}
    assert knowledge.find("gpu", "h100-sxn") is None
    assert knowledge.find("gpu", "") is None


def test_a_search_prefers_names_and_needs_all_words_where_that_is_possible() -> None:
    page = knowledge.search("grouped query attention", ("technique",))
    assert page.hits[0].id == "grouped-query-attention"
    assert not page.partial
    assert knowledge.search("xyzzyqwert") == knowledge.Page()


def test_words_that_never_meet_in_one_entry_find_entries_with_some_and_say_so() -> None:
    page = knowledge.search("grouped xyzzyqwert", ("technique",))
    assert page.partial
    assert "grouped-query-attention" in [hit.id for hit in page.hits]


@pytest.mark.parametrize("query", ['"', "a OR", "NEAR(", "*", "'; drop table entries; --", "kind:gpu", "()", "\0"])
def test_no_query_breaks_the_search(query: str) -> None:
    page = knowledge.search(query)
    assert len(page.hits) <= page.total


def test_pages_of_a_search_do_not_overlap() -> None:
    first, second = (knowledge.search("attention", limit=3, offset=offset) for offset in (0, 3))
    assert first.total > 6
    assert {(h.kind, h.id) for h in first.hits}.isdisjoint((h.kind, h.id) for h in second.hits)


def test_the_store_is_read_only() -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        knowledge.open_store().rows("delete from entries")


def test_two_processes_that_start_at_once_both_succeed(tmp_path: Path) -> None:
    environment = os.environ | {"ADVISOR_MCP_CACHE": str(tmp_path)}
    running = [
        subprocess.Popen([sys.executable, "-c", PRINT_COUNT], env=environment, stdout=subprocess.PIPE) for _ in range(3)
    ]
    printed = {process.communicate()[0].strip() for process in running}
    assert printed == {str(len(knowledge.ids("gpu"))).encode()}
    assert [path.suffix for path in tmp_path.iterdir()] == [".sqlite"]


def test_a_cache_that_cannot_be_written_means_a_store_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be", encoding="utf-8")
    monkeypatch.setenv("ADVISOR_MCP_CACHE", str(blocked))
    monkeypatch.setattr(store, "_stores", {})
    opened = knowledge.open_store()
    assert opened.path is None
    assert opened.find("gpu", "h100-sxm") is not None


def cached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a store that was built into a cache of its own, and that this process has not opened."""
    monkeypatch.setenv("ADVISOR_MCP_CACHE", str(folder))
    monkeypatch.setattr(store, "_stores", {})
    knowledge.open_store().connection.close()
    monkeypatch.setattr(store, "_stores", {})
    (path,) = folder.iterdir()
    return path


def other_database(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("create table other (id)")
    connection.close()


def overwritten(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:8_192] + b"garbage" * 10_000 + whole[78_192:])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(b"garbage\n"),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:20_480]),
    "header alone": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "overwritten in the middle": overwritten,
    "another database": other_database,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_built_again_in_its_place(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cached(tmp_path, monkeypatch)
    whole = path.read_bytes()
    DAMAGES[damage](path)
    opened = knowledge.open_store()
    assert (opened.path, path.read_bytes() == whole, list(tmp_path.iterdir())) == (path, True, [path])
    assert opened.find("gpu", "h100-sxm") is not None
    assert opened.search("attention").total > 6


def test_a_damaged_store_that_cannot_be_replaced_means_a_store_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cached(tmp_path, monkeypatch)
    path.unlink()
    path.mkdir()
    opened = knowledge.open_store()
    assert (opened.path, list(tmp_path.iterdir())) == (None, [path])
    assert opened.find("gpu", "h100-sxm") is not None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gpus/a.toml", b'[[gpu]]\nname = "A"\n', "an entry has no id"),
        ("gpus/a.toml", b"[[gpu]]\n", "an entry has no id and no name"),
        ("gpus/a.toml", b'[gpu]\nid = "a"\nname = "A"\n', "it has no [[gpu]] entry; begin each entry with [[gpu]]"),
        ("gpus/a.toml", b"gpu = [1]\n", "it has no [[gpu]] entry; begin each entry with [[gpu]]"),
        ("gpus/a.toml", b'[[gpus]]\nid = "a"\n', "it has no [[gpu]] entry; begin each entry with [[gpu]]"),
        ("gpus/a.toml", b"", "it has no [[gpu]] entry; begin each entry with [[gpu]]"),
        (
            "gpus/a.toml",
            b'[[gpu]]\nid = "a"\nname = "A"\naliases = "b"\n',
            "'a' has aliases that are not a list of texts",
        ),
        (
            "gpus/a.toml",
            b'[[gpu]]\nid = "a"\nname = "A"\nsources = [1]\n',
            "'a' has sources that are not a list of texts",
        ),
        ("models/a.toml", b'[[model]]\nid = "a"\nname = "A"\n', "'a' has no config"),
        (
            "models/a.toml",
            b'[[model]]\nid = "a"\nname = "A"\nconfig = {}\nnull_fields = 5\n',
            "'a' has null_fields that are not a list of texts",
        ),
        ("models/a.json", b"[" * 100_000, "it is nested too deeply"),
        ("models/a.json", b'{"a": "\\ud800"}', "'a' is not Unicode text: it holds half of a surrogate pair"),
        ("gpus/a.json", b"{}", "only a model's config.json may be JSON; write other facts as TOML"),
    ],
)
@pytest.mark.usefixtures("content_folders")
def test_a_file_of_facts_that_cannot_be_used_is_a_problem_and_the_rest_is_there(
    tmp_path: Path, name: str, text: bytes, message: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir()
    path.write_bytes(text)
    content.activate([tmp_path])
    opened = knowledge.open_store()
    assert opened.problems() == [(str(path), message)]
    assert opened.find("gpu", "h100-sxm") is not None


@pytest.mark.usefixtures("content_folders")
def test_a_folder_that_is_named_as_a_file_of_facts_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "gpus" / "a.toml").mkdir(parents=True)
    content.activate([tmp_path])
    assert knowledge.open_store().problems() == [
        (str(tmp_path / "gpus" / "a.toml"), "it cannot be read: is a directory")
    ]


@pytest.mark.usefixtures("content_folders")
def test_a_problem_is_told_with_the_path_of_the_folder_in_use(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "gpus").mkdir(parents=True)
        (tmp_path / folder / "gpus" / "a.toml").write_text("[[gpu", encoding="utf-8")
        content.activate([tmp_path / folder])
        ((path, _),) = knowledge.open_store().problems()
        assert path == str(tmp_path / folder / "gpus" / "a.toml")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode there")
@pytest.mark.usefixtures("content_folders")
def test_a_file_whose_name_is_not_utf8_is_read_or_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "gpus").mkdir()
    (tmp_path / "gpus" / os.fsdecode(b"\xff.toml")).write_text("[[gpu", encoding="utf-8")
    content.activate([tmp_path])
    ((path, _),) = knowledge.open_store().problems()
    assert path == str(tmp_path / "gpus" / "\\udcff.toml")


@pytest.mark.usefixtures("content_folders")
def test_a_users_facts_are_found_and_a_broken_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "gpus").mkdir()
    (tmp_path / "models" / "house-model.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    (tmp_path / "gpus" / "ours.toml").write_text('[[gpu]]\nid = "h100-sxm"\nname = "clash"\n', encoding="utf-8")
    (tmp_path / "gpus" / "broken.toml").write_text("[[gpu", encoding="utf-8")
    content.activate([tmp_path])
    opened = knowledge.open_store()
    assert opened.find("model", "House Model") == {
        "id": "house-model",
        "name": "house-model",
        "config": {"model_type": "llama"},
        "sources": [],
    }
    problems = {Path(path).name: message for path, message in opened.problems()}
    assert set(problems) == {"ours.toml", "broken.toml"}
    assert problems["ours.toml"] == "'h100-sxm' is there twice"
