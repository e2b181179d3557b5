"""Nsight Systems exports: built here as SQLite files with the tables and columns that the exporter writes."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from advisor_mcp.errors import Cancelled, CannotAnswer
from advisor_mcp.tracing import nsight
from advisor_mcp.tracing.case import cases
from advisor_mcp.tracing.nsight import read_nsight
from advisor_mcp.tracing.timeline import UNKNOWN, Device, Host, Span, Timeline, Work

KERNEL = "CUPTI_ACTIVITY_KIND_KERNEL"
COPY = "CUPTI_ACTIVITY_KIND_MEMCPY"
SET = "CUPTI_ACTIVITY_KIND_MEMSET"
CALL = "CUPTI_ACTIVITY_KIND_RUNTIME"
WAIT = "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION"
GRAPH = "CUPTI_ACTIVITY_KIND_GRAPH_TRACE"
STRINGS = [
    {"id": 1, "value": "void gemm_kernel<float>(float*)"},
    {"id": 2, "value": "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)"},
    {"id": 3, "value": "cudaLaunchKernel_v7000"},
    {"id": 4, "value": "cudaStreamSynchronize_v3020"},
    {"id": 5, "value": "step 1"},
]


def pid(number: int) -> int:
    return (1 << 48) | (number << 24)


def kernel(
    start: int, end: int, name: int = 1, correlation: int = 7, process: int = 100, **more: Any
) -> dict[str, Any]:
    row = {
        "start": start,
        "end": end,
        "deviceId": 0,
        "streamId": 7,
        "correlationId": correlation,
        "globalPid": pid(process),
    }
    return (
        row | {"demangledName": name, "shortName": name, "gridX": 4, "gridY": 3, "gridZ": 2, "graphNodeId": None} | more
    )


def copy(start: int, end: int, **more: Any) -> dict[str, Any]:
    row = {"start": start, "end": end, "deviceId": 0, "streamId": 9, "correlationId": 8, "globalPid": pid(100)}
    return row | {"bytes": 4096, "copyKind": 1, "srcKind": 0, "dstKind": 2} | more


def call(
    start: int, end: int, name: int = 3, correlation: int = 7, process: int = 100, thread: int = 1
) -> dict[str, Any]:
    return {
        "start": start,
        "end": end,
        "globalTid": pid(process) | thread,
        "correlationId": correlation,
        "nameId": name,
    }


def span(start: int, end: int | None, text: str | None, kind: int = 59, string: int | None = None) -> dict[str, Any]:
    return {"start": start, "end": end, "eventType": kind, "text": text, "globalTid": pid(100) | 1, "textId": string}


def export(path: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        for name, rows in {"StringIds": STRINGS, **tables}.items():
            columns = list(rows[0])
            connection.execute(f'CREATE TABLE "{name}" ({", ".join(columns)})')
            holes = ", ".join("?" * len(columns))
            connection.executemany(f'INSERT INTO "{name}" VALUES ({holes})', [list(row.values()) for row in rows])
    return path


@pytest.fixture
def made(tmp_path: Path) -> Any:
    def make(**tables: Sequence[Mapping[str, Any]]) -> Timeline:
        return read_nsight(export(tmp_path / "report.sqlite", tables), "report.sqlite")

    return make


def test_kernels_and_copies_make_exact_parts(made: Any) -> None:
    timeline = made(
        **{
            KERNEL: [kernel(100, 300), kernel(250, 400, name=2)],  # 200 compute, 100 exposed communication
            COPY: [copy(380, 450)],  # 50 exposed copy
            CALL: [call(90, 95)],
            "NVTX_EVENTS": [span(0, 500, "outer")],
        }
    )
    parts = cases(timeline)[0].split
    assert (parts.compute, parts.exposed_communication, parts.exposed_copy, parts.idle, parts.span) == (
        200,
        100,
        50,
        0,
        350,
    )
    events = timeline.device_events
    assert timeline.named(events.name) == [STRINGS[0]["value"], STRINGS[1]["value"], "Memcpy HtoD (Pageable -> Device)"]
    assert [Work(work) for work in events.work] == [Work.COMPUTE, Work.COMMUNICATION, Work.COPY]
    assert events.bytes.tolist() == [-1, -1, 4096]
    assert events.blocks.tolist() == [24, 24, -1]
    assert timeline.notes == ()


def test_a_launch_is_found_by_process_and_correlation(made: Any) -> None:
    timeline = made(
        **{
            KERNEL: [kernel(100, 200, process=100), kernel(300, 400, process=200, deviceId=1)],
            CALL: [call(50, 60, process=200), call(10, 20, process=100), call(70, 90, name=4, correlation=99)],
        }
    )
    host = timeline.host_events
    launched = timeline.launch
    assert [int(host.start[row]) for row in launched] == [10, 50]
    assert timeline.named(host.name) == ["cudaLaunchKernel", "cudaLaunchKernel", "cudaStreamSynchronize"]
    assert {Host(kind) for kind in host.kind} == {Host.API}


def test_without_processes_on_device_events_correlations_are_compared_alone(made: Any) -> None:
    row = {name: value for name, value in kernel(100, 200).items() if name != "globalPid"}
    timeline = made(**{KERNEL: [row], CALL: [call(10, 20)]})
    assert timeline.launch.tolist() == [0]


def test_an_event_without_a_correlation_has_no_launch(made: Any) -> None:
    timeline = made(
        **{KERNEL: [kernel(100, 200, correlation=0), kernel(300, 400, correlation=5)], CALL: [call(10, 20)]}
    )
    assert timeline.launch.tolist() == [UNKNOWN, UNKNOWN]


def test_ranges_are_operators_steps_or_names(made: Any) -> None:
    timeline = made(
        **{
            KERNEL: [kernel(100, 200)],
            "NVTX_EVENTS": [
                span(0, 90, None, string=5),
                span(90, 300, "step 2"),
                span(10, 20, "aten::mm, op_id = 990346, sizes = [[2, 3]]"),
                span(30, 40, "FlashAttnFunc, seq = 45368, op_id = 990812"),
                span(50, 60, "load batch", kind=60),
                span(70, None, "never ended"),
                span(75, 76, "a mark", kind=34),
            ],
        }
    )
    host = timeline.host_events
    told = [(timeline.names[int(name)], Host(kind)) for name, kind in zip(host.name, host.kind, strict=True)]
    assert told == [
        ("step 1", Host.RANGE),
        ("aten::mm", Host.OPERATOR),
        ("FlashAttnFunc", Host.OPERATOR),
        ("load batch", Host.RANGE),
        ("step 2", Host.RANGE),
    ]
    assert timeline.steps == (Span("step 1", 0, 90), Span("step 2", 90, 300))


def test_ranges_that_overlap_are_no_steps(made: Any) -> None:
    assert made(**{KERNEL: [kernel(1, 2)], "NVTX_EVENTS": [span(0, 90, "step 1"), span(50, 99, "step 2")]}).steps == ()


def test_tables_of_a_newer_version_are_found_by_their_suffix(made: Any) -> None:
    timeline = made(**{KERNEL: [kernel(1, 2)], f"{KERNEL}_V2": [kernel(100, 200)], f"{CALL}_V3": [call(10, 20)]})
    assert timeline.device_events.start.tolist() == [100]
    assert timeline.launch.tolist() == [0]


def test_graphs_recorded_as_a_whole_keep_the_device_busy_and_are_noted(made: Any) -> None:
    row = {
        "start": 100,
        "end": 900,
        "deviceId": 0,
        "streamId": 7,
        "correlationId": 7,
        "globalPid": pid(100),
        "graphId": 1,
    }
    timeline = made(
        **{KERNEL: [kernel(0, 50, correlation=3)], GRAPH: [row], CALL: [call(60, 70)], "NVTX_EVENTS": [span(0, 1, "x")]}
    )
    assert cases(timeline)[0].split.compute == 850
    assert timeline.notes == (
        "1 CUDA graph launches were recorded as a whole: their kernels are not known; record with --cuda-graph-trace=node",
    )


def test_kernels_of_graph_nodes_share_their_graph_launch(made: Any) -> None:
    timeline = made(
        **{KERNEL: [kernel(100, 200, graphNodeId=1), kernel(200, 300, graphNodeId=2)], CALL: [call(10, 20)]}
    )
    assert timeline.launch.tolist() == [0, 0]


def test_tables_that_are_missing_are_named(made: Any) -> None:
    timeline = made(**{KERNEL: [kernel(100, 200)]})
    assert timeline.notes == (
        f"the export has no {CALL}: why the device idled and how long launches took cannot be said",
        "the export has no NVTX_EVENTS: operators and steps are not named",
    )


def test_waits_stand_in_for_calls_that_were_not_exported(made: Any) -> None:
    waits = [{"start": 10, "end": 90, "globalPid": pid(100), "syncType": kind} for kind in (3, 2, 4)]
    timeline = made(**{KERNEL: [kernel(100, 200)], WAIT: waits})
    assert sorted(timeline.named(timeline.host_events.name)) == ["cudaDeviceSynchronize", "cudaStreamSynchronize"]


def test_an_export_of_ranges_alone_has_no_device_events(made: Any) -> None:
    timeline = made(NVTX_EVENTS=[span(0, 90, "step 1")])
    assert len(timeline.device_events) == 0
    assert timeline.device_indices == []


def test_sets_of_memory_are_noted_where_they_take_time(made: Any) -> None:
    row = {
        "start": 200,
        "end": 300,
        "deviceId": 0,
        "streamId": 7,
        "correlationId": 9,
        "globalPid": pid(100),
        "bytes": 4,
    }
    tables = {KERNEL: [kernel(100, 200), kernel(300, 400)], CALL: [call(1, 2)], "NVTX_EVENTS": [span(0, 1, "x")]}
    timeline = made(**tables, **{SET: [row]})
    assert cases(timeline)[0].split.idle == 100
    assert timeline.notes == ("1 sets of memory take 0.0 ms, which count as idle here",)


def test_devices_are_described(made: Any) -> None:
    gpu = {
        "id": 0,
        "name": "NVIDIA H100",
        "smCount": 132,
        "computeMajor": 9,
        "computeMinor": 0,
        "totalMemory": 85 * 10**9,
    }
    timeline = made(
        **{KERNEL: [kernel(1, 2)], "TARGET_INFO_GPU": [gpu], "TARGET_INFO_SESSION_START_TIME": [{"utcEpochNs": 1234}]}
    )
    assert timeline.devices == {0: Device("NVIDIA H100", 132, (9, 0), 85 * 10**9)}
    assert timeline.base_ns == 1234


def test_processes_that_number_different_gpus_alike_are_told_apart(made: Any) -> None:
    gpus = [{"pid": 100, "cudaId": 0, "gpuId": 2}, {"pid": 200, "cudaId": 0, "gpuId": 5}]
    rows = [kernel(1, 2, process=100), kernel(3, 4, process=200)]
    assert made(**{KERNEL: rows, "TARGET_INFO_CUDA_DEVICE": gpus}).device_indices == [2, 5]


def test_processes_that_number_gpus_apart_keep_their_numbers(made: Any) -> None:
    gpus = [{"pid": 100, "cudaId": 0, "gpuId": 2}, {"pid": 200, "cudaId": 1, "gpuId": 5}]
    rows = [kernel(1, 2, process=100), kernel(3, 4, process=200, deviceId=1)]
    assert made(**{KERNEL: rows, "TARGET_INFO_CUDA_DEVICE": gpus}).device_indices == [0, 1]


def test_losses_that_the_profiler_reports_are_noted_without_paths(made: Any) -> None:
    said = [
        {"severity": 2, "text": "Not all NVTX events might have been collected, see /home/somebody/log"},
        {"severity": 1, "text": "buffer flushed"},
        {"severity": 3, "text": "unrelated"},
    ]
    timeline = made(
        **{KERNEL: [kernel(1, 2)], CALL: [call(0, 1)], "NVTX_EVENTS": [span(0, 1, "x")], "DIAGNOSTIC_EVENT": said}
    )
    assert timeline.notes == (
        "Nsight Systems reports 1 losses, the first: Not all NVTX events might have been collected, see (path)",
    )


def test_a_gzipped_export_is_unpacked(tmp_path: Path) -> None:
    plain = export(tmp_path / "plain.sqlite", {KERNEL: [kernel(100, 200)]})
    packed = tmp_path / "packed.sqlite.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert len(read_nsight(packed, "packed").device_events) == 1


def test_the_file_is_not_written_to(tmp_path: Path) -> None:
    path = export(tmp_path / "report.sqlite", {KERNEL: [kernel(100, 200)]})
    before = path.read_bytes()
    read_nsight(path, "report")
    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["report.sqlite"]


def test_values_of_other_types_are_no_error(made: Any) -> None:
    odd = kernel(100, 200) | {"gridX": "many", "deviceId": None, "streamId": 1.5, "demangledName": b"\xff"}
    timeline = made(**{KERNEL: [odd]})
    assert timeline.device_events.blocks.tolist() == [UNKNOWN]


def test_a_table_without_times_is_left_out(made: Any) -> None:
    timeline = made(**{KERNEL: [kernel(100, 200)], CALL: [{"nameId": 3}]})
    assert len(timeline.host_events) == 0


def foreign(path: Path) -> None:
    export(path, {"songs": [{"id": 1}]})


def view(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE VIEW {KERNEL} AS SELECT 1 AS start, 2 AS end")


@pytest.mark.parametrize("make", [foreign, view])
def test_another_database_is_named_for_what_it_is(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "other.sqlite")
    with pytest.raises(CannotAnswer, match=r"other\.sqlite is an SQLite file but no export of Nsight Systems"):
        read_nsight(tmp_path / "other.sqlite", "other.sqlite")


@pytest.mark.parametrize("cut", [16, 100, 5000])
def test_a_damaged_file_is_refused_with_a_sentence(tmp_path: Path, cut: int) -> None:
    path = export(tmp_path / "report.sqlite", {KERNEL: [kernel(i, i + 1) for i in range(2000)]})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CannotAnswer, match=r"report\.sqlite is a"):
        read_nsight(path, "report.sqlite")


def test_bytes_turned_over_inside_never_raise_anything_else(tmp_path: Path) -> None:
    good = export(
        tmp_path / "report.sqlite", {KERNEL: [kernel(i, i + 1) for i in range(300)], CALL: [call(1, 2)]}
    ).read_bytes()
    path = tmp_path / "turned.sqlite"
    for place in range(100, len(good), len(good) // 60):
        path.write_bytes(good[:place] + bytes(255 - byte for byte in good[place : place + 40]) + good[place + 40 :])
        with suppress(CannotAnswer):
            read_nsight(path, "turned.sqlite")


def test_the_work_stops_when_the_caller_withdrew(tmp_path: Path) -> None:
    path = export(tmp_path / "report.sqlite", {KERNEL: [kernel(100, 200)]})

    def withdrawn() -> None:
        raise Cancelled("the call was cancelled")

    with pytest.raises(Cancelled):
        read_nsight(path, "report.sqlite", withdrawn)


def test_a_bomb_is_unpacked_no_further_than_the_room_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nsight, "MOST_BYTES", 3_000_000)
    packed = tmp_path / "bomb.sqlite.gz"
    packed.write_bytes(gzip.compress(b"SQLite format 3\0" + bytes(50_000_000)))
    with pytest.raises(CannotAnswer, match="unpacks to more than 3,000,000 bytes"):
        read_nsight(packed, "bomb")


@pytest.mark.parametrize("kept", [0.1, 0.9])
def test_a_gzipped_export_that_was_cut_off_is_damaged(tmp_path: Path, kept: float) -> None:
    plain = export(tmp_path / "plain.sqlite", {KERNEL: [kernel(i, i + 1) for i in range(3000)]})
    packed = gzip.compress(plain.read_bytes())
    (tmp_path / "cut.sqlite.gz").write_bytes(packed[: int(len(packed) * kept)])
    with pytest.raises(CannotAnswer, match="cut is a damaged"):
        read_nsight(tmp_path / "cut.sqlite.gz", "cut")
