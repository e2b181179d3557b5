"""What a client sees of tools, in both protocol eras."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from tests.server.samples import TOOLS, spoken, wire

from advisor_mcp.access import limited
from advisor_mcp.catalogue import Catalogue
from advisor_mcp.server import build_server
from advisor_mcp.serving.application import AdvisorServer
from advisor_mcp.serving.progress import RequestProgress

pytestmark = pytest.mark.anyio


async def test_tools_are_listed_by_name_with_the_declarations_own_words(server: AdvisorServer, era: Any) -> None:
    async with Client(server, mode=era) as client:
        tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == sorted(TOOLS)
    adder = wire(tools[0])
    output = adder.pop("outputSchema")
    assert adder == {
        "name": "adder",
        "title": "Adder",
        "description": "Add two numbers. The sum is exact.",
        "annotations": {
            "readOnlyHint": True,
            "destructiveHint": False,
            "idempotentHint": True,
            "openWorldHint": False,
        },
        "inputSchema": {
            "type": "object",
            "additionalProperties": False,
            "required": ["first"],
            "properties": {
                "first": {"type": "integer", "description": "A number"},
                "second": {"type": "integer", "description": "A number", "default": 1},
                "detail": {
                    "type": "string",
                    "enum": ["brief", "full"],
                    "default": "brief",
                    "description": "full adds inventories and derivations",
                },
            },
        },
    }
    assert output["properties"]["total"] == {"type": "integer"}
    assert output["required"] == ["summary", "total"]


async def test_lists_may_be_kept_for_an_hour(server: AdvisorServer) -> None:
    async with Client(server) as client:
        lists: list[Any] = [
            await client.list_tools(),
            await client.list_prompts(),
            await client.list_resources(),
            await client.list_resource_templates(),
        ]
    assert [(each.ttl_ms, each.cache_scope) for each in lists] == [(3_600_000, "public")] * 4


async def test_both_channels_carry_the_whole_answer(server: AdvisorServer, era: Any) -> None:
    async with Client(server, mode=era) as client:
        result = await client.call_tool("adder", {"first": 20_000, "second": 2})
    data = {"summary": "20000 + 2 = 20002", "total": 20_002, "assumptions": [], "warnings": [], "sources": []}
    text = "20000 + 2 = 20002\n- **total**: 20,002"
    assert wire(result) == {"content": [{"type": "text", "text": text}], "structuredContent": data, "isError": False}


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        (
            "adder",
            {"first": 1, "secnd": 2},
            "adder: unknown argument 'secnd'; did you mean 'second'? (it takes first, second, detail)",
        ),
        ("adder", {"first": "many"}, "adder: first must be a whole number, not 'many'"),
        ("adder", {}, "adder: first is required"),
        ("ader", {}, f"unknown tool 'ader'; did you mean 'adder'? (available: {', '.join(sorted(TOOLS))})"),
        ("unsure", {}, "the configuration has no vocab_size; needs: vocab_size, hidden_size"),
        ("crasher", {}, "crasher failed on a fault of its own; please report the arguments you gave"),
        ("leaver", {}, "leaver failed on a fault of its own; please report the arguments you gave"),
        (
            "adder",
            {"first": "7" * 10_000_000},
            "adder: the arguments have over 8,000,000 characters; pass a path to the file instead",
        ),
    ],
)
async def test_a_refused_call_is_one_sentence(
    server: AdvisorServer, era: Any, name: str, arguments: dict[str, Any], sentence: str
) -> None:
    async with Client(server, mode=era) as client:
        assert wire(await client.call_tool(name, arguments)) == spoken(sentence)


async def test_the_server_goes_on_after_a_tool_that_failed(server: AdvisorServer, era: Any) -> None:
    async with Client(server, mode=era) as client:
        await client.call_tool("leaver", {})
        result = await client.call_tool("adder", {"first": 1})
    assert result.structured_content is not None
    assert result.structured_content["total"] == 2


async def test_an_argument_that_one_client_adds_to_every_call_is_ignored(server: AdvisorServer, era: Any) -> None:
    async with Client(server, mode=era) as client:
        result = await client.call_tool("adder", {"first": 1, "wait_for_previous": True})
    assert result.structured_content is not None
    assert result.structured_content["total"] == 2


@pytest.mark.parametrize(("detail", "limit"), [("brief", 2_400), ("full", 16_000)])
async def test_an_answer_is_cut_to_what_its_detail_allows(server: AdvisorServer, detail: str, limit: int) -> None:
    async with Client(server) as client:
        result = await client.call_tool("lister", {"count": 20_000, "detail": detail})
    data = result.structured_content
    assert data is not None
    kept = len(data["numbers"])
    assert data["omitted"] == [f"numbers: {20_000 - kept} more"]
    assert limit / 3 < len(result.content[0].text.encode()) <= limit  # type: ignore[union-attr]


async def test_progress_is_told_in_order_with_its_message(server: AdvisorServer, era: Any) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with Client(server, mode=era) as client:
        result = await client.call_tool("stepper", {"steps": 3}, progress_callback=tell)
    assert told == [(1, 3, "working"), (2, 3, "working"), (3, 3, "working")]
    assert result.structured_content is not None
    assert result.structured_content["summary"] == "3 steps"


async def test_ten_thousand_steps_are_told_in_about_a_hundred_notifications(server: AdvisorServer) -> None:
    told: list[float] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    async with Client(server) as client:
        await client.call_tool("stepper", {"steps": 10_000}, progress_callback=tell)
    assert told == [1, *range(101, 10_000, 100), 10_000]


async def test_a_tool_that_reports_runs_for_a_caller_who_asked_for_no_progress(server: AdvisorServer, era: Any) -> None:
    async with Client(server, mode=era) as client:
        result = await client.call_tool("stepper", {"steps": 2})
    assert not result.is_error


async def test_a_cancelled_call_stops_its_tool_and_the_server_answers_the_next(server: AdvisorServer, era: Any) -> None:
    async with Client(server, mode=era) as client:
        started = anyio.Event()

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            started.set()

        async def call() -> None:
            await client.call_tool("waiter", {}, progress_callback=tell)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await started.wait()
                group.cancel_scope.cancel()
            # answered after the cancellation was read, for the wire keeps their order
            result = await client.call_tool("adder", {"first": 1})
            waiter = sys.modules["advisor_mcp.tools.waiter"]
            waiter.RESUME.set()
            assert await anyio.to_thread.run_sync(waiter.WITHDRAWN.wait, 20)
    assert not result.is_error


async def test_more_calls_than_threads_are_all_answered(server: AdvisorServer) -> None:
    totals: list[int] = []

    async with Client(server) as client:

        async def call(number: int) -> None:
            result = await client.call_tool("adder", {"first": number, "second": 0})
            assert result.structured_content is not None
            totals.append(result.structured_content["total"])

        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(call, number)
    assert sorted(totals) == list(range(40))


async def test_a_call_may_read_what_the_servers_access_allows(catalogue: Catalogue, tmp_path: Path, era: Any) -> None:
    (tmp_path / "inside").mkdir()
    server = build_server(catalogue, lambda: limited(tmp_path / "inside"))
    async with Client(server, mode=era) as client:
        inside = await client.call_tool("caller", {"path": "config.json"})
        outside = await client.call_tool("caller", {"path": "../config.json"})
    assert inside.structured_content is not None
    assert inside.structured_content["summary"] == str((tmp_path / "inside" / "config.json").resolve())
    assert wire(outside) == spoken("'../config.json' lies outside the folder that this server may read")


async def test_only_selected_tools_are_served(catalogue: Catalogue, era: Any) -> None:
    async with Client(build_server(catalogue.select(tools=["adder"])), mode=era) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["adder"]
        refused = await client.call_tool("crasher", {})
    assert wire(refused) == spoken("unknown tool 'crasher' (available: adder)")


async def test_the_server_says_who_it_is_and_what_it_offers(server: AdvisorServer, era: Any) -> None:
    async with Client(server, mode=era) as client:
        assert client.server_info is not None
        assert (client.server_info.name, client.server_info.title) == ("advisor", "Advisor")
        offered = wire(client.server_capabilities)
    assert set(offered) == {"tools", "prompts", "resources", "completions"}


def test_progress_that_does_not_grow_is_not_told() -> None:
    progress = RequestProgress(lambda *_: pytest.fail("told"))
    progress._told = (5.0, "working")
    for done in (5.0, 4.0, float("nan")):
        progress.report(done, 10, "other words")
