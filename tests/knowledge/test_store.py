"""The knowledge store: built once, found by any spelling, searched, and whole whoever else builds it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
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
