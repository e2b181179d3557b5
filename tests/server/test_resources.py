"""Facts and personas as MCP resources, in both protocol eras."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, ResourceTemplateReference
from tests.server.samples import wire

from advisor_mcp import knowledge
from advisor_mcp.knowledge.facts import key
from advisor_mcp.personas.loading import load_persona
from advisor_mcp.personas.rendering import render_persona
from advisor_mcp.serving.application import AdvisorServer

pytestmark = pytest.mark.anyio

KINDS = {"models": "model", "gpus": "gpu", "techniques": "technique", "sources": "source", "evidence": "evidence"}
FILE = "repo:owner/name@0123abc:src/file.py"
ENTRIES: dict[str, list[dict[str, Any]]] = {
    "model": [
        {"id": "llama-x", "name": "Llama X", "aliases": ["Owner/Llama-X"], "read": datetime.date(2026, 11, 1)},
        {"id": "phi-x", "name": "Phi X", "aliases": ["llama killer"]},
    ],
    "gpu": [{"id": f"gpu-{number:03}", "name": f"GPU {number}"} for number in range(120)],
    "technique": [],
    "source": [{"id": "arxiv:2305.13245", "name": "GQA"}, {"id": FILE, "name": "100 % of a file — ü"}],
    "evidence": [{"id": "memory-total", "name": "Memory, measured over predicted", "low": 0.9, "high": 1.1}],
}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small knowledge base in place of the one that ships."""

    def find(kind: str, name: str) -> dict[str, Any] | None:
        spelt = ((entry, (entry["id"], entry["name"], *entry.get("aliases", ()))) for entry in ENTRIES[kind])
        return next((entry for entry, names in spelt if key(name) in map(key, names)), None)

    monkeypatch.setattr(knowledge, "find", find)
    monkeypatch.setattr(knowledge, "ids", lambda kind: [entry["id"] for entry in ENTRIES[kind]])


async def read(server: AdvisorServer, era: Any, uri: str) -> dict[str, Any]:
    """The one content of a resource."""
    async with Client(server, mode=era) as client:
        (content,) = (await client.read_resource(uri)).contents
    return wire(content)


async def refuse(server: AdvisorServer, era: Any, uri: str) -> tuple[int, str, Any]:
    """Code, message and data of the error that reading a resource is answered with."""
    async with Client(server, mode=era) as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource(uri)
    error = caught.value.error
    return error.code, error.message, error.data


@pytest.mark.usefixtures("known")
async def test_lists_and_briefings_are_resources(server: AdvisorServer, era: Any) -> None:
    async with Client(server, mode=era) as client:
        resources = [wire(each) for each in (await client.list_resources()).resources]
    lists = [("models", "Models"), ("gpus", "Accelerators"), ("techniques", "Techniques")]
    lists += [("sources", "Sources"), ("evidence", "Evidence records"), ("personas", "Personas")]
    assert resources == [
        *(
            {"uri": f"advisor://{name}", "name": name, "title": title, "mimeType": "application/json"}
            for name, title in lists
        ),
        {
            "uri": "advisor://personas/sample",
            "name": "sample",
            "title": "Dr. Sample, the tester",
            "description": "A tester. Use when a test needs a persona.",
            "mimeType": "text/markdown",
        },
    ]


@pytest.mark.usefixtures("known")
async def test_every_kind_has_a_template_whose_ids_may_hold_reserved_characters(
    server: AdvisorServer, era: Any
) -> None:
    async with Client(server, mode=era) as client:
        templates = (await client.list_resource_templates()).resource_templates
    assert [(each.uri_template, each.mime_type) for each in templates] == [
        ("advisor://models/{+id}", "application/json"),
        ("advisor://gpus/{+id}", "application/json"),
        ("advisor://techniques/{+id}", "application/json"),
        ("advisor://sources/{+id}", "application/json"),
        ("advisor://evidence/{+id}", "application/json"),
        ("advisor://personas/{+name}", "text/markdown"),
    ]


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("written", ["llama-x", "LLAMA_X", "Llama%20X", "Owner/Llama-X", "Owner%2FLlama-X"])
async def test_a_fact_is_read_by_any_of_its_names(server: AdvisorServer, era: Any, written: str) -> None:
    found = await read(server, era, f"advisor://models/{written}")
    assert json.loads(found.pop("text")) == {**ENTRIES["model"][0], "read": "2026-11-01"}
    assert found == {"uri": f"advisor://models/{written}", "mimeType": "application/json"}


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("encode", [str, quote, lambda name: quote(name, safe="")])
async def test_a_source_is_read_under_the_id_that_answers_cite(server: AdvisorServer, era: Any, encode: Any) -> None:
    found = await read(server, era, f"advisor://sources/{encode(FILE)}")
    assert json.loads(found["text"]) == ENTRIES["source"][1]


@pytest.mark.usefixtures("known")
async def test_evidence_is_read_under_the_id_that_answers_name(server: AdvisorServer, era: Any) -> None:
    found = await read(server, era, "advisor://evidence/memory-total")
    assert json.loads(found["text"]) == ENTRIES["evidence"][0]


@pytest.mark.usefixtures("known")
async def test_the_list_of_a_kind_names_every_entry(server: AdvisorServer, era: Any) -> None:
    found = await read(server, era, "advisor://sources")
    assert json.loads(found["text"]) == {
        "sources": [{"id": "arxiv:2305.13245", "name": "GQA"}, {"id": FILE, "name": "100 % of a file — ü"}]
    }


@pytest.mark.usefixtures("known")
async def test_a_persona_is_read_as_its_full_briefing(server: AdvisorServer, root: Path, era: Any) -> None:
    found = await read(server, era, "advisor://personas/sample")
    text = render_persona(load_persona(root / "personas" / "sample.md"))
    assert found == {"uri": "advisor://personas/sample", "mimeType": "text/markdown", "text": text}


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("advisor://models/lama-x", "unknown model 'lama-x'; did you mean 'llama-x'? (advisor://models lists them)"),
        ("advisor://techniques/x", "unknown technique 'x' (advisor://techniques lists them)"),
        ("advisor://gpus/../../etc/passwd", "unknown gpu '../../etc/passwd' (advisor://gpus lists them)"),
        ("advisor://personas/smaple", "unknown persona 'smaple'; did you mean 'sample'? (available: sample)"),
        (
            "advisor://model",
            "unknown resource 'advisor://model'; did you mean 'advisor://models'? (available: advisor://models, "
            "advisor://gpus, advisor://techniques, advisor://sources, advisor://evidence, advisor://personas)",
        ),
        (
            "file:///etc/passwd",
            "unknown resource 'file:///etc/passwd' (available: advisor://models, "
            "advisor://gpus, advisor://techniques, advisor://sources, advisor://evidence, advisor://personas)",
        ),
    ],
)
async def test_a_resource_that_does_not_exist_is_not_found(
    server: AdvisorServer, era: Any, uri: str, sentence: str
) -> None:
    assert await refuse(server, era, uri) == (INVALID_PARAMS, sentence, {"uri": uri})


@pytest.mark.usefixtures("known")
async def test_a_fault_while_reading_tells_the_client_nothing_of_itself(
    server: AdvisorServer, era: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("secret in /etc/hidden")

    monkeypatch.setattr(knowledge, "find", fail)
    uri = "advisor://models/llama-x"
    sentence = "'advisor://models/llama-x' could not be read; the server's log says why"
    assert await refuse(server, era, uri) == (INTERNAL_ERROR, sentence, {"uri": uri})


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("template", "typed", "values"),
    [
        ("advisor://models/{+id}", "lla", ["llama-x", "phi-x"]),
        ("advisor://models/{+id}", "Owner/", ["llama-x"]),
        ("advisor://models/{+id}", "PHI_", ["phi-x"]),
        ("advisor://models/{+id}", "zz", []),
        ("advisor://sources/{+id}", "arxiv:23", ["arxiv:2305.13245"]),
        ("advisor://evidence/{+id}", "mem", ["memory-total"]),
        ("advisor://personas/{+name}", "dr. s", ["sample"]),
        ("advisor://nothing/{+id}", "", []),
    ],
)
async def test_ids_are_completed_from_their_own_beginning_then_from_other_names(
    server: AdvisorServer, era: Any, template: str, typed: str, values: list[str]
) -> None:
    reference = ResourceTemplateReference(uri=template)
    async with Client(server, mode=era) as client:
        completed = await client.complete(reference, {"name": "id", "value": typed})
    assert wire(completed) == {"completion": {"values": values, "total": len(values), "hasMore": False}}


@pytest.mark.usefixtures("known")
async def test_a_long_completion_is_cut_at_a_hundred_and_says_how_many_there_are(server: AdvisorServer) -> None:
    reference = ResourceTemplateReference(uri="advisor://gpus/{+id}")
    async with Client(server) as client:
        completion = (await client.complete(reference, {"name": "id", "value": ""})).completion
    assert completion.values == [f"gpu-{number:03}" for number in range(100)]
    assert (completion.total, completion.has_more) == (120, True)


@pytest.mark.parametrize("folder", KINDS)
async def test_every_fact_that_ships_is_readable_under_its_id(server: AdvisorServer, folder: str) -> None:
    async with Client(server) as client:
        listed = json.loads((await client.read_resource(f"advisor://{folder}")).contents[0].text)[folder]  # type: ignore[union-attr]
        assert listed
        for entry in listed:
            contents = (await client.read_resource(f"advisor://{folder}/{entry['id']}")).contents
            assert json.loads(contents[0].text)["id"] == entry["id"]  # type: ignore[union-attr]
