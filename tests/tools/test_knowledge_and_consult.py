"""search_knowledge and consult as a caller sees them."""

from __future__ import annotations

import pytest

import advisor_mcp
from advisor_mcp.errors import UsageError


def test_a_search_gives_entries_with_their_sources_and_how_sure_they_are() -> None:
    found = advisor_mcp.call("search_knowledge", query="paged attention", kinds=["technique"]).data()
    first = found["hits"][0]
    assert first["kind"] == "technique"
    assert "arxiv:2309.06180" in first["cites"]
    assert first["confidence"] in ("opened", "secondary")


def test_nothing_found_is_an_answer_that_says_so() -> None:
    found = advisor_mcp.call("search_knowledge", query="xyzzyqwert").data()
    assert (found["total"], found["hits"]) == (0, [])
    assert found["warnings"] == [
        "nothing is recorded under these words: say so rather than answer from memory, or try other words"
    ]


def test_pages_follow_each_other_until_there_are_no_more() -> None:
    first = advisor_mcp.call("search_knowledge", query="h100", limit=2).data()
    assert first["next_offset"] == 2
    last = advisor_mcp.call("search_knowledge", query="h100", limit=2, offset=first["total"] - 1).data()
    assert len(last["hits"]) == 1
    assert "next_offset" not in last


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        UsageError, match=r"kinds\.0 must be one of 'model', 'gpu', 'technique', 'source' or 'evidence'"
    ):
        advisor_mcp.call("search_knowledge", query="x", kinds=["gpus"])


@pytest.mark.parametrize("persona", ["aether", "optima", "chen-wei", "llm-architect", "language-model-expert"])
@pytest.mark.parametrize("depth", ["brief", "full"])
def test_every_persona_briefs_within_its_budget_in_both_channels(persona: str, depth: str) -> None:
    answer = advisor_mcp.call("consult", persona=persona, depth=depth, focus="18 % MFU on 64 H100s")
    assert len(answer.json_text().encode()) <= 14_000
    assert len(answer.text().encode()) <= 14_000
    assert "18 % MFU on 64 H100s" in answer.data()["briefing"]


def test_an_unknown_persona_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="unknown persona 'optimus'; did you mean 'optima'"):
        advisor_mcp.call("consult", persona="optimus")
