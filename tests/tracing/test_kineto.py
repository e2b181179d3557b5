"""The PyTorch profiler's dialects: every one gives the same timeline, to the nanosecond."""

from __future__ import annotations

import json
from decimal import Decimal
from io import BytesIO
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor_mcp.errors import CannotAnswer
from advisor_mcp.tracing.events import blocks, nanosecond, nanoseconds, whole
from advisor_mcp.tracing.kineto import read_kineto
from advisor_mcp.tracing.timeline import UNKNOWN, Device, Host, Timeline, Work

UNTIMED = settings(deadline=None, suppress_health_check=list(HealthCheck))

EPOCH = 1_712_195_495_519_689
"""Microseconds since 1970 of some day in 2024; a double resolves a quarter of one there."""


def read(text: str | dict[str, Any] | list[Any], window: int = 1 << 20) -> Timeline:
    raw = text if isinstance(text, str) else json.dumps(text)
    return read_kineto(cast(Any, BytesIO(raw.encode())), "a trace", window=window)


def launched(
    cats: tuple[str, str, str], kernel: dict[str, Any], call: dict[str, Any], ts: Any = 10
) -> list[dict[str, Any]]:
    """An operator, the call in it, and its kernel."""
    operator, runtime, device = cats
    return [
        {
            "ph": "X",
            "cat": operator,
            "name": "aten::mm",
            "pid": 1,
            "tid": 2,
            "ts": ts,
            "dur": 30,
            "args": {"External id": 5},
        },
        {"ph": "X", "cat": runtime, "name": "launch", "pid": 1, "tid": 2, "ts": ts, "dur": 4, "args": call},
        {"ph": "X", "cat": device, "name": "gemm", "pid": 0, "tid": 7, "ts": ts, "dur": 20, "args": kernel},
    ]


DIALECTS = {
    "categories of torch 1.8": launched(
        ("Operator", "Runtime", "Kernel"), {"device": 0, "stream": 7, "correlation": 3}, {"correlation": 3}
    ),
    "categories of today": launched(
        ("cpu_op", "cuda_runtime", "kernel"), {"device": 0, "stream": 7, "correlation": 3}, {"correlation": 3}, 10.0
    ),
    "ROCm, with few arguments": launched(
        ("cpu_op", "hip_runtime", "kernel"),
        {"device": 0, "stream": 7, "correlation": 3, "kind": "Dispatch Kernel"},
        {"correlation": 3},
    ),
    "roctracer, linked by External id": launched(
        ("cpu_op", "cuda_runtime", "kernel"), {"device": 0, "stream": 7, "External id": 3}, {"External id": 3}
    ),
    "device and stream only as process and thread": launched(
        ("cpu_op", "cuda_driver", "kernel"), {"correlation": 3}, {"correlation": 3}
    ),
    "numbers as strings": launched(
        ("cpu_op", "cuda_runtime", "kernel"),
        {"device": "0", "stream": "7", "correlation": "3"},
        {"correlation": "3"},
        "10",
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_events_and_links(dialect: str) -> None:
    timeline = read({"traceEvents": DIALECTS[dialect]})
    device, host = timeline.device_events, timeline.host_events
    assert (device.start.tolist(), device.end.tolist(), device.device.tolist()) == ([10_000], [30_000], [0])
    assert (device.work.tolist(), timeline.named(device.name)) == ([Work.COMPUTE], ["gemm"])
    assert [timeline.names[name] for name in host.name] == ["aten::mm", "launch"]
    assert host.kind.tolist() == [Host.OPERATOR, Host.API]
    assert timeline.launch.tolist() == [1]


def test_copies_and_sets_are_told_apart_in_old_and_new_categories() -> None:
    cats = ["Memcpy", "gpu_memcpy", "Memset", "gpu_memset"]
    events = [
        {"ph": "X", "cat": cat, "name": "n", "ts": place, "dur": 1, "args": {"bytes": 100 + place}}
        for place, cat in enumerate(cats)
    ]
    device = read({"traceEvents": events}).device_events
    assert device.work.tolist() == [Work.COPY, Work.COPY, Work.SET, Work.SET]
    assert device.bytes.tolist() == [100, 101, 102, 103]


@pytest.mark.parametrize("window", [64, 200, 1 << 20])
def test_metadata_before_and_after_the_events_is_read(window: int) -> None:
    gpu = {"id": 0, "name": "NVIDIA A100", "computeMajor": 8, "computeMinor": 0, "numSms": 108, "totalGlobalMem": 2**36}
    events = json.dumps(DIALECTS["categories of today"])
    text = f'{{"schemaVersion": 1, "deviceProperties": [{json.dumps(gpu)}], "traceEvents": {events}, "distributedInfo": {{"rank": 3, "world_size": 8}}}}'
    timeline = read(text, window)
    assert timeline.devices == {0: Device("NVIDIA A100", 108, (8, 0), 2**36)}
    assert (timeline.rank, timeline.world_size, timeline.truncated) == (3, 8, None)


def test_a_bare_list_of_events_is_a_trace() -> None:
    assert len(read(DIALECTS["categories of today"]).device_events) == 1


@UNTIMED
@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=30), st.integers(64, 500))
def test_times_of_three_decimals_after_1970_are_exact(times: list[tuple[int, int]], window: int) -> None:
    events = ",".join(
        f'{{"ph":"X","cat":"kernel","name":"k","ts":{EPOCH + ns // 1000}.{ns % 1000:03},"dur":{dur // 1000}.{dur % 1000:03}}}'
        for ns, dur in times
    )
    device = read(f'{{"traceEvents":[{events}]}}', window).device_events
    expected = sorted((EPOCH * 1000 + ns, EPOCH * 1000 + ns + dur) for ns, dur in times)
    assert list(zip(device.start.tolist(), device.end.tolist(), strict=True)) == expected


@UNTIMED
@given(st.integers(0, 2**41 * 1000))
def test_floating_times_below_the_epoch_are_exact(ns: int) -> None:
    assert nanoseconds([ns / 1000, 0.0])[0].tolist() == [ns, 0]


@UNTIMED
@given(st.integers(-(2**60), 2**60))
def test_every_spelling_of_a_time_means_the_same(ns: int) -> None:
    exact = Decimal(ns) / 1000
    assert nanosecond(str(exact)) == ns
    assert nanoseconds([exact])[0].tolist() == [ns]
    assert nanoseconds([str(exact), exact])[0].tolist() == [ns, ns]
    assert nanoseconds([ns // 1000])[0].tolist() == [ns // 1000 * 1000]


NO_TIMES = [
    None,
    "",
    "soon",
    [1],
    {},
    float("nan"),
    float("inf"),
    2**63,
    -(2**200),
    "1e999999999",
    Decimal("NaN"),
    Decimal("1e99999"),
]


@pytest.mark.parametrize("value", NO_TIMES, ids=repr)
def test_what_is_no_time_is_told_from_its_neighbours(value: Any) -> None:
    found, known = nanoseconds([1, value, 3])
    assert (found.tolist(), known.tolist()) == ([1_000, 0, 3_000], [True, False, True])
    assert not nanoseconds([value])[1].any()


def test_lists_of_one_length_are_no_column_of_times() -> None:
    assert nanoseconds([[1, 2], [3, 4]])[1].tolist() == [False, False]
    assert nanoseconds([])[0].dtype == np.int64


def test_numbers_in_other_types_are_read_or_left_unknown() -> None:
    assert [whole(value) for value in (7, "7", 7.0, None, "x", [7], 2**70, float("nan"), float("inf"))] == [
        7, 7, 7, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN,
    ]  # fmt: skip


def test_the_blocks_of_a_grid_are_its_product() -> None:
    grids: list[Any] = [[4, 2, 3], [5], [1.0, 2, 3], [], None, "8", [0, 1, 1], [1, 1, 1, 1], [2**31] * 3]
    assert [blocks(grid) for grid in grids] == [24, 5, *[UNKNOWN] * 7]


def test_an_event_without_a_time_is_left_out_and_counted() -> None:
    events = DIALECTS["categories of today"]
    bad = [{**events[2], "ts": "noon"}, {**events[2], "dur": [1]}, {**events[1], "ts": None}]
    timeline = read({"traceEvents": events + bad})
    assert (len(timeline.device_events), len(timeline.host_events), timeline.skipped) == (1, 2, 3)


def test_a_duration_that_is_missing_or_negative_is_none() -> None:
    kernel = DIALECTS["categories of today"][2]
    events = [
        {**kernel, "dur": -5},
        {key: value for key, value in kernel.items() if key != "dur"},
        {**kernel, "dur": None},
    ]
    device = read({"traceEvents": events}).device_events
    assert (device.end - device.start).tolist() == [0, 0, 0]


def test_python_functions_are_kept_from_50_microseconds_on() -> None:
    events = [
        {"ph": "X", "cat": "python_function", "name": str(dur), "ts": 0, "dur": dur} for dur in (1, 49.999, 50, 51)
    ]
    timeline = read({"traceEvents": events})
    assert sorted(timeline.named(timeline.host_events.name)) == ["50", "51"]


def test_a_list_without_phases_is_no_trace() -> None:
    with pytest.raises(CannotAnswer, match="no event in it has a phase"):
        read([{"a": 1}, 2, "three", None])
