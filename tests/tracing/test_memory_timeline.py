"""The profiler's memory timelines, raw and summed up."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pytest

from advisor_mcp.errors import UsageError
from advisor_mcp.tracing.memory import DeviceMemory, Holding, MemoryHistory, Peak, read_timeline

PARAMETER, OPTIMIZER, ACTIVATION, GRADIENT, UNKNOWN = 0, 1, 4, 5, 7
PREEXISTING, CREATE, VERSION, DESTROY = 1, 2, 3, 4
RAW = [
    [-1, PREEXISTING, 1000, PARAMETER],
    [-1, PREEXISTING, 200, UNKNOWN],
    [1_000_000, CREATE, 500, ACTIVATION],
    [2_000_000, CREATE, 300, GRADIENT],
    [3_000_000, VERSION, -300, GRADIENT],
    [3_000_000, VERSION, 300, OPTIMIZER],
    [4_000_000, DESTROY, -500, ACTIVATION],
]


def timeline(value: Any, **settings: Any) -> MemoryHistory:
    return read_timeline(io.BytesIO(json.dumps(value, **settings).encode()))


@pytest.mark.parametrize("settings", [{}, {"indent": 1}, {"separators": (",", ":")}])
def test_a_raw_timeline_tells_its_peak_by_category(settings: dict[str, Any]) -> None:
    peak = Peak(
        size=2000,
        traced=800,
        before=1200,
        reserved=None,
        after_ms=1.0,
        event=4,
        by_site=(),
        by_category=(
            Holding("Parameter", 1000),
            Holding("Activation", 500),
            Holding("Gradient", 300),
            Holding("Unknown", 200),
        ),
    )
    assert timeline(RAW, **settings) == MemoryHistory(
        source="memory timeline",
        devices=(
            DeviceMemory(
                0, 7, span_ms=3.0, peak=peak, peak_reserved=None, held=None, largest_request=1000, unseen_frees=0
            ),
        ),
    )


@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_summed_timeline_tells_its_peak_by_category(count: int) -> None:
    times = [1000 + i * 500 for i in range(count)]
    sizes = [[0, 1000, 0, 0, 0, 0, 0, 0, 0] for _ in times]
    sizes[-1] = [0, 1000, 0, 0, 0, 700, 0, 0, 50]
    device = timeline([times, sizes]).devices[0]
    assert device.peak is not None
    assert device.peak.size == 1750
    assert device.peak.by_category == (Holding("Parameter", 1000), Holding("Activation", 700), Holding("Unknown", 50))
    assert device.peak.after_ms == (count - 1) * 0.5
    assert device.doubts == ()


def test_a_timeline_longer_than_one_read_is_summed_whole() -> None:
    rows = [[i, CREATE, 10, ACTIVATION] for i in range(100_000)]
    device = timeline(rows).devices[0]
    assert device.peak is not None
    assert (device.peak.size, device.events) == (1_000_000, 100_000)


def test_a_timeline_that_ends_early_says_so() -> None:
    text = json.dumps(RAW).encode()
    device = read_timeline(io.BytesIO(text[:-12])).devices[0]
    assert device.events == 6
    assert [doubt.name for doubt in device.doubts] == ["truncated-file"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "no rows to read"),
        (b"hello", "no rows to read"),
        (b"[]", "holds other things|times and sizes|not \\[time"),
        (b"[[]]", "times and sizes"),
        (b'{"traceEvents": [1, 2]}', "more than lists of numbers"),
        (b'[["a", "b"]]', "other things than whole numbers"),
        (b"[[1, 2, 3, 99]]", "times and sizes"),
        (b"[[-1, 1, 5, 0], [1, 2]]", "row 2 is not"),
        (b"[[-1, 1, 5, 0], [1, 2, 3, 9]]", "row 2 is not"),
        (b"[[1, 2], [[0, 1, 2]]]", "has not one size"),
        (b"[[1], [[0,0,0,0,0,0,0,0,0],[0,0,0,0,0,0,0,0,0]]]", "do not belong together"),
        (b"[[" + b"9" * 5000 + b", 1, 1, 1]]", "other things than whole numbers"),
        (b"\xff\xfe\x00[[1,2]]", "more than lists of numbers"),
    ],
)
def test_other_files_are_refused_with_a_sentence(text: bytes, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        read_timeline(io.BytesIO(text))


def test_a_bomb_is_read_no_further_than_its_budget() -> None:
    bomb = gzip.compress(b"[" + b"[1,2,3,4]," * 1_000_000)
    with gzip.open(io.BytesIO(bomb)) as file, pytest.raises(UsageError, match="more than 3,000,000 bytes"):
        read_timeline(file, most_bytes=3_000_000)


def test_a_compressed_timeline_that_breaks_off_says_so() -> None:
    packed = gzip.compress(json.dumps([[i, CREATE, 10, ACTIVATION] for i in range(50_000)]).encode())
    with gzip.open(io.BytesIO(packed[:-500])) as file:
        device = read_timeline(file).devices[0]
    assert 0 < device.events < 50_000
    assert [doubt.name for doubt in device.doubts] == ["truncated-file"]
