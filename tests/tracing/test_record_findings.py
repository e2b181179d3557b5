"""What records of memory and of compilation are found to suffer from, and what healthy ones are not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.tracing.compile_logs import ITEM_BREAK, PRINT_BREAK, Log, files
from tests.tracing.snapshots import (
    BACKWARD,
    EMPTY_CACHE,
    FORWARD,
    MIB,
    OPTIMIZER,
    block,
    dumped,
    event,
    segment,
    snapshot,
    stack,
    timed,
)

from advisor_mcp.findings import SECTIONS, Family, Finding, Severity, finding_rows
from advisor_mcp.results import Row, to_markdown
from advisor_mcp.tracing.compile_log import CompileLog, read_compile_log
from advisor_mcp.tracing.compile_report import compile_section
from advisor_mcp.tracing.memory import MemoryHistory, read_snapshot
from advisor_mcp.tracing.memory_report import memory_section
from advisor_mcp.tracing.record_families import COMPILING, MEMORY, amount, compile_findings, memory_findings

ONE_STEP = timed([event("alloc", 30 * MIB, 1, FORWARD), event("free_completed", 30 * MIB, 1, FORWARD)])


def history(*traces: list[dict[str, Any]], segments: Any = (), **more: Any) -> MemoryHistory:
    return read_snapshot(dumped(snapshot(*traces, segments=segments, **more)))


def log(*logs: Log) -> CompileLog:
    return read_compile_log(files(logs))


def told(findings: list[Finding[Any]]) -> list[tuple[str, Severity, str]]:
    return [(each.kind.name, each.severity, each.seen.message) for each in findings]


HEALTHY_MEMORY = [
    history(ONE_STEP),
    history(ONE_STEP, segments=[segment(block(20 * MIB, "active_allocated", address=5), block(4 * MIB, address=6))]),
    history(
        ONE_STEP,
        segments=[segment(block(20 * MIB, "active_allocated", address=5)), segment(block(500 * MIB, address=6))],
    ),
    history(timed([event("segment_alloc", 2 * MIB, 1, FORWARD), event("segment_free", 2 * MIB, 1, EMPTY_CACHE)])),
    history(segments=[segment(*[block(1024, "active_allocated", requested=600, address=i) for i in range(10)])]),
]
HEALTHY_LOGS = [
    log(Log().start((0, 0)).metrics((0, 0)).cache("fx_graph", "miss", key="a").cache("fx_graph", "hit", key="a")),
    log(Log(0).cache("fx_graph", "miss", key="a"), Log(1).cache("fx_graph", "miss", key="a")),  # cold on every rank
    log(Log().start((0, 0)).metrics((0, 0)).cache("aotautograd", "bypass", cache_bypass_reason="flex_attention")),
]


@pytest.mark.parametrize("healthy", HEALTHY_MEMORY)
def test_a_healthy_memory_record_has_no_findings(healthy: MemoryHistory) -> None:
    assert told(memory_findings(healthy)) == []


@pytest.mark.parametrize("healthy", HEALTHY_LOGS)
def test_a_healthy_compile_log_has_no_findings(healthy: CompileLog) -> None:
    assert told(compile_findings(healthy)) == []


def test_an_out_of_memory_error_beside_as_much_free_memory_is_fragmentation() -> None:
    events = timed(
        [
            event("alloc", 60 * MIB, 1, FORWARD),
            {**event("oom", 20 * MIB, frames=BACKWARD), "device_free": 3 * MIB},
        ]
    )
    kept = segment(block(60 * MIB, "active_allocated", address=1), *[block(10 * MIB, address=2 + i) for i in range(3)])
    assert told(memory_findings(history(events, segments=[kept]))) == [
        (
            "allocator-fragmentation",
            "error",
            "20 MiB could not be allocated at train.py:20 train while the allocator held 30 MiB that nothing used, "
            "33.3 % of what it had reserved, in pieces too small.",
        ),
        (
            "oom-peak",
            "error",
            "20 MiB could not be allocated at train.py:20 train: 60 MiB of 90 MiB reserved were in use and the device had 3 MiB free.",
        ),
    ]


def test_an_out_of_memory_error_without_free_memory_is_no_fragmentation() -> None:
    events = timed(
        [event("alloc", 60 * MIB, 1, FORWARD), {**event("oom", 20 * MIB, frames=BACKWARD), "device_free": MIB}]
    )
    found = memory_findings(history(events, segments=[segment(block(60 * MIB, "active_allocated", address=1))]))
    assert [each.kind.name for each in found] == ["oom-peak"]
    assert found[0].seen.rows == ("60 MiB train.py:10 forward",)


@pytest.mark.parametrize("expandable", [False, True])
def test_free_memory_in_pieces_below_the_largest_request_is_fragmentation(expandable: bool) -> None:
    events = timed([event("alloc", 30 * MIB, 1, FORWARD), event("free_completed", 30 * MIB, 1, FORWARD)])
    pieces = [block(8 * MIB, "active_allocated", address=9) if i % 2 else block(10 * MIB, address=9) for i in range(8)]
    settings = {"expandable_segments": expandable}
    found = memory_findings(history(events, segments=[segment(*pieces)], allocator_settings=settings))
    assert told(found) == [
        (
            "allocator-fragmentation",
            "warning",
            "40 MiB (55.6 % of reserved memory) are free only in pieces between blocks in use: the largest free block is 10 MiB, "
            "and the program asks for up to 30 MiB at once.",
        )
    ]
    change = finding_rows(found, full=False)[0].change or ""
    assert change.startswith(
        "Expandable segments are in use already" if expandable else "PYTORCH_ALLOC_CONF=expandable_segments:True"
    )


def test_retries_and_repeated_flushes_are_churn() -> None:
    retry = [event("segment_free", 8 * MIB, 1, FORWARD), event("segment_alloc", 16 * MIB, 3, FORWARD)]
    flush = [event("segment_free", 2 * MIB, 4, EMPTY_CACHE), event("segment_alloc", 2 * MIB, 4, FORWARD)]
    assert told(memory_findings(history(timed(retry * 2)))) == [
        (
            "segment-churn",
            "warning",
            "2 requests could be served only after cached memory had been given back to CUDA, first at train.py:10 forward: "
            "16 MiB were given back in all.",
        )
    ]
    found = memory_findings(history(timed(flush * 3)))
    assert told(found) == [
        (
            "segment-churn",
            "warning",
            "empty_cache() gave memory back 3 times (6 MiB in all), called at train.py:40 train.",
        )
    ]
    assert (found[0].seen.change or "").startswith("Take torch.cuda.empty_cache() out of the loop")


def test_blocks_far_larger_than_asked_for_are_rounding_loss() -> None:
    kept = segment(*[block(4 * MIB, "active_allocated", requested=3 * MIB, address=i) for i in range(5)])
    assert told(memory_findings(history(segments=[kept]))) == [
        ("rounding-loss", "info", "The blocks in use are 5 MiB (25.0 %) larger than what was asked for.")
    ]


def test_the_worst_of_several_gpus_is_told_with_how_many_are_concerned() -> None:
    oom = [{**event("oom", 5 * MIB, frames=FORWARD), "device_free": 0}]
    worse = [event("alloc", 9 * MIB, 1, OPTIMIZER), {**event("oom", 7 * MIB, frames=FORWARD), "device_free": 0}]
    found = memory_findings(history(timed(oom), timed(worse), ONE_STEP))
    assert [(each.kind.name, each.seen.where) for each in found] == [
        ("oom-peak", "on 2 of 3 GPUs; figures of GPU 1, the worst")
    ]


def test_a_doubt_about_the_record_lowers_its_findings() -> None:
    events = timed([event("free_completed", MIB, 9), {**event("oom", MIB, frames=FORWARD), "device_free": 0}])
    events += timed([event("alloc", MIB, 9, FORWARD)])
    found = memory_findings(history(events))
    assert [each.lowered_by for each in found] == [("history-truncated",)]


def test_a_recompilation_is_told_with_what_to_change() -> None:
    found = compile_findings(
        log(Log().start((0, 0)).metrics((0, 0)).reasons((0, 1), "0/0: n == 3.0").start((0, 1)).metrics((0, 1)))
    )
    assert told(found) == [
        (
            "recompilation",
            "warning",
            "step (train.py:7) was compiled a second time (1 recompilation, 250 ms); a guard failed: n == 3.0.",
        )
    ]
    assert found[0].seen.saves_at_most_ms == 250.0
    assert (found[0].seen.change or "").startswith("A Python number or string is a constant of the graph")


def test_one_recompilation_after_which_a_shape_is_dynamic_is_only_told() -> None:
    changed = {"name": "L['x']", "dim_changed": 0, "reason": "size change", "cached": "3", "new": "4"}
    reason = "0/0: tensor 'x' size mismatch at index 0. expected 3, actual 4"
    one = (
        Log()
        .start((0, 0))
        .reasons((0, 1), reason)
        .start((0, 1))
        .chromium("automatic_dynamic", "i", 5.0, (0, 1), **changed)
    )
    found = compile_findings(log(one))
    assert [(each.kind.name, each.severity) for each in found] == [("recompilation", "info")]
    assert (
        found[0].seen.change == "Before the first call: torch._dynamo.mark_dynamic(x, 0); or compile with dynamic=True."
    )
    assert compile_findings(log(one.reasons((0, 2), reason).start((0, 2))))[0].severity == "warning"


def test_graph_breaks_are_told_by_place() -> None:
    broken = Log().start((0, 0))
    for payload in (ITEM_BREAK, ITEM_BREAK, PRINT_BREAK):
        broken.artifact("dynamo_graph_break_reason", payload, (0, 0))
    found = compile_findings(log(broken))
    assert told(found) == [
        (
            "graph-break",
            "warning",
            "3 graph breaks in 2 places: Unsupported Tensor.item() call with capture_scalar_outputs=False at train.py:8.",
        )
    ]
    assert found[0].seen.rows == (
        "2 x train.py:8: Unsupported Tensor.item() call with capture_scalar_outputs=False",
        "1 x train.py:9: Failed to trace builtin operator (print)",
    )


def test_the_recompile_limit_is_an_error_of_its_own() -> None:
    refused = {"fail_type": "Unsupported", "fail_reason": "Dynamo recompile limit exceeded\n  Explanation: x"}
    found = compile_findings(
        log(Log().start((0, 0)).reasons((0, 8), "0/7: s == 'a'").metrics((0, 8), 0.0, None, **refused))
    )
    assert told(found) == [
        (
            "recompile-limit",
            "error",
            "step (train.py:7) reached the recompile limit after 8 compilations and runs in eager mode where none of them fits; "
            "the guard that failed last: s == 'a'.",
        )
    ]


def test_a_failed_compilation_is_an_error() -> None:
    failed = Log().start((0, 0)).metrics((0, 0), fail_type="BackendCompilerFailed", fail_reason="broken")
    assert told(compile_findings(log(failed))) == [
        (
            "compile-failure",
            "error",
            "1 compilation failed; the first, step (train.py:7): BackendCompilerFailed: broken.",
        )
    ]


def test_a_cache_that_is_bypassed_or_forgets_is_told() -> None:
    lost = Log().cache("fx_graph", "bypass", cache_bypass_reason="custom pass").cache("fx_graph", "miss", key="a")
    assert told(compile_findings(log(lost.cache("fx_graph", "miss", key="a")))) == [
        (
            "compile-cache-miss",
            "warning",
            "Of 3 lookups in the FX graph cache 1 went past it and 1 missed a graph that had been compiled before: custom pass.",
        )
    ]


@pytest.mark.parametrize("family", [MEMORY, COMPILING])
def test_every_page_has_every_section(family: Family[Any]) -> None:
    for kind in family.kinds().values():
        assert [name for name in SECTIONS if not kind.sections.get(name)] == [], kind.name
        assert kind.items("Could also be"), kind.name
        assert kind.items("References"), kind.name


def test_the_names_of_findings_are_those_that_the_tool_promises() -> None:
    assert list(MEMORY.kinds()) == ["allocator-fragmentation", "oom-peak", "rounding-loss", "segment-churn"]
    assert list(COMPILING.kinds()) == [
        "compile-cache-miss",
        "compile-failure",
        "graph-break",
        "recompilation",
        "recompile-limit",
    ]


def size(section: Row) -> int:
    data = section.model_dump(mode="json", exclude_none=True)
    text = to_markdown({"summary": "", "section": data})
    return max(len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()), len(text.encode()))


def crowded_memory() -> MemoryHistory:
    sites = [
        event("alloc", (i + 1) * MIB, i + 1, stack(i, f"a_function_with_quite_a_long_name_{i}")) for i in range(60)
    ]
    oom = [{**event("oom", i * MIB, frames=stack(i, "some_function")), "device_free": i} for i in range(20)]
    unseen = [event("free_completed", MIB, 99_999)]
    kept = [segment(block(2 * MIB, "active_allocated", address=1), block(MIB, address=2), device=i) for i in range(16)]
    return history(*[timed(unseen + sites + oom) for _ in range(16)], segments=kept)


def crowded_log() -> CompileLog:
    crowded = Log()
    for i in range(1, 60):
        crowded.start((i, 1), f"a_function_with_quite_a_long_name_{i}", i).reasons(
            (i, 1), f"{i}/0: " + "L['x'].attribute" * 8 + " == 3"
        )
        crowded.artifact(
            "dynamo_graph_break_reason",
            ITEM_BREAK.replace(":8", f":{i}").replace("Unsupported", f"Unsupported {i}" * 9),
            (i, 1),
        )
        crowded.metrics((i, 1), name=f"a_function_with_quite_a_long_name_{i}").chromium(
            f"phase_with_a_name_{i}", "B", 1.0
        )
        crowded.chromium(f"phase_with_a_name_{i}", "E", 2.0).cache("fx_graph", "hit", key=str(i))
    return log(crowded)


@pytest.mark.parametrize(("full", "limit"), [(False, 1_200), (True, 8_000)])
def test_a_section_of_an_answer_keeps_to_its_share_of_bytes(full: bool, limit: int) -> None:
    assert size(memory_section(crowded_memory(), full)) <= limit
    assert size(compile_section(crowded_log(), full)) <= limit


def test_a_section_names_what_it_left_out() -> None:
    assert memory_section(crowded_memory(), full=False).more == [
        "gpus: 13 more",
        "at_peak_by_site: 57 more",
        "out_of_memory: 319 more",
    ]
    assert compile_section(crowded_log(), full=False).more == [
        "recompiled: 57 more",
        "broke: 57 more",
        "slowest: 57 more",
    ]


def test_a_memory_section_tells_the_peak_exactly() -> None:
    section = memory_section(history(ONE_STEP), full=False)
    assert [(row.gpu, row.peak_bytes, row.peak_gib) for row in section.gpus] == [(0, 30 * MIB, 0.03)]
    assert [(share.name, share.bytes, share.percent) for share in section.at_peak_by_category] == [
        ("in forward", 30 * MIB, 100.0)
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [(512, "512 bytes"), (2048, "2 KiB"), (20 * MIB, "20 MiB"), (2_255_398_132, "2.1 GiB"), (0, "0 bytes")],
)
def test_amounts_are_written_as_people_read_them(count: int, text: str) -> None:
    assert amount(count) == text
