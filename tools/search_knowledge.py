"""search_knowledge: cited entries on models, accelerators, techniques and their sources."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from advisor_mcp import arguments, knowledge
from advisor_mcp.declaration import Example, Tool
from advisor_mcp.results import Answer, Row

Kind = Literal["model", "gpu", "technique", "source", "evidence"]


class HitRow(Row):
    kind: str
    id: str
    name: str
    text: str = Field(description="Where the words were found; the whole entry's text with detail=full")
    confidence: str | None = Field(
        default=None, description="opened: its source was read; secondary; recalled: nobody opened it"
    )
    cites: list[str] = Field(default_factory=list, description="Source ids")


class SearchAnswer(Answer):
    query: str
    total: int = Field(description="Entries that match")
    hits: list[HitRow]
    next_offset: int | None = Field(default=None, description="Pass as offset for the next page")


def search_knowledge(
    query: Annotated[
        str, Field(min_length=1, max_length=500, pattern=r"\S", description="Words to look for, or an id")
    ],
    kinds: Annotated[list[Kind] | None, Field(description="Only entries of these kinds")] = None,
    limit: Annotated[arguments.Count, Field(le=50, description="Entries a page")] = 5,
    offset: Annotated[int, Field(ge=0, le=1_000_000, description="Entries to skip")] = 0,
    detail: arguments.Detail = "brief",
) -> SearchAnswer:
    """Search the knowledge base: techniques, models, accelerators, papers. Every entry names its sources and how sure it is."""
    page = knowledge.search(query, tuple(kinds or ()), limit, offset)
    total, rows = page.total, [_row(hit, detail == "full") for hit in page.hits]
    shown = f"{offset + 1} to {offset + len(rows)} of {total:,}" if rows else "no"
    more = offset + len(rows) if offset + len(rows) < total else None
    return SearchAnswer(
        summary=f"{shown} entries for {query!r}"
        + (": " + "; ".join(row.name for row in rows[:5]) if rows else "")
        + ".",
        query=query,
        total=total,
        hits=rows,
        next_offset=more,
        warnings=_doubts(page),
        sources=list(dict.fromkeys(source for row in rows for source in row.cites)) if detail == "full" else [],
    )


def _doubts(page: knowledge.Page) -> list[str]:
    if not page.hits:
        return ["nothing is recorded under these words: say so rather than answer from memory, or try other words"]
    if not page.partial:
        return []
    nowhere = f": {', '.join(page.missing)} is in none" if page.missing else ""
    return [f"no entry has all of these words, these have some{nowhere}"]


def _row(hit: knowledge.Hit, full: bool) -> HitRow:
    data = hit.data
    text = _text(data) if full else _brief(hit)
    cites = [hit.id] if hit.kind == "source" else [str(source) for source in data.get("sources", [])]
    confidence = data.get("confidence")
    if hit.kind == "source":
        confidence = "opened" if data.get("opened") else "recalled"
    return HitRow(
        kind=hit.kind, id=hit.id, name=hit.name, text=" ".join(text.split()), confidence=confidence, cites=cites
    )


def _brief(hit: knowledge.Hit) -> str:
    """The entry in a line: what a technique does, what a device has, what a model is, who wrote a source."""
    data = hit.data
    if hit.kind == "technique":
        return f"{data.get('mechanism', '')} Cost: {data.get('cost', '')} Limits: {data.get('limits', '')}"
    if hit.kind == "gpu":
        rates = ", ".join(f"{name} {rate:g}" for name, rate in data.get("dense_tflops", {}).items())
        memory = f"{data.get('memory_gb')} GB {data.get('memory_type', '')}, {data.get('memory_bandwidth_gb_s')} GB/s"
        return f"{data.get('vendor', '')} {data.get('architecture', '')}: {memory}; dense TFLOP/s {rates}"
    if hit.kind == "model":
        return f"{data.get('family') or data['config'].get('model_type')}, {data.get('hub_id', 'own configuration')}"
    if hit.kind == "source":
        read = f"read: {data['read_via']}" if data.get("opened") else "not opened"
        return f"{data.get('kind', '')} {data.get('authors', '')} {data.get('year', '')}, {data.get('locator', '')}; {read}"
    return hit.snippet


def _text(data: dict[str, Any]) -> str:
    skipped = ("id", "name", "aliases", "sources", "confidence")
    return "; ".join(f"{name}: {_value(value)}" for name, value in data.items() if name not in skipped)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_value(v)}" for k, v in value.items())
    return ", ".join(_value(v) for v in value) if isinstance(value, list) else str(value)


TOOL = Tool(
    function=search_knowledge,
    title="Search the knowledge base",
    toolset="knowledge",
    positional=("query",),
    examples=(
        Example(
            "What is multi-head latent attention?",
            {"query": "multi-head latent attention", "kinds": ["technique"], "limit": 3},
            {"hits.0.id": "multi-head-latent-attention"},
        ),
        Example(
            "How much memory and bandwidth has an H200?",
            {"query": "h200-sxm", "kinds": ["gpu"], "limit": 1, "detail": "full"},
            {"hits.0.id": "h200-sxm"},
        ),
    ),
)
