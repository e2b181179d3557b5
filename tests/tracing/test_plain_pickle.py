"""A pickle is read as plain data or refused with one sentence, whatever it holds and at bounded cost."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
from typing import Any

import pytest

from advisor_mcp.errors import UsageError
from advisor_mcp.tracing.memory.plain_pickle import DROPPED, Limits, MadeDict, load


def unchanged(made: Any, below: Any) -> Any:
    return made


def plain(data: bytes, limits: Limits | None = None) -> Any:
    return load(io.BytesIO(data), unchanged, limits)


SHARED = ["a", "b"]
VALUES: list[Any] = [
    {"a": 1, "b": [1, 2.5, None, True, False, "ü", (0, 1), (), (1,), (1, 2, 3), (1, 2, 3, 4)]},
    [0, 255, 256, 65_535, 65_536, -1, 2**31, -(2**31), 2**63, 2**64 - 1, -(2**63)],
    [SHARED, SHARED, {"again": SHARED}],
    {"long": "x" * 100_000},
    [{}, [], ""],
    {"one": 1},
    list(range(3000)),
]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", VALUES)
def test_plain_data_is_read_as_pickle_reads_it(value: object, protocol: int) -> None:
    assert plain(pickle.dumps(value, protocol=protocol)) == value


@pytest.mark.parametrize("protocol", [0, 1])
def test_the_oldest_protocols_are_refused(protocol: int) -> None:
    with pytest.raises(UsageError, match="dump it again"):
        plain(pickle.dumps({"size": 2**40, "flag": True}, protocol=protocol))


class Builds:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.getcwd, ()


class Persistent(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return "elsewhere" if obj == "away" else None


def persistent() -> bytes:
    file = io.BytesIO()
    Persistent(file, protocol=2).dump({"segments": ["away"]})
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (pickle.dumps({"segments": Builds()}, protocol=2), "names code to import"),
        (pickle.dumps({"segments": Builds()}, protocol=4), "names code to import"),
        (b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.", "names code to import"),
        (b"\x80\x02(X\x02\x00\x00\x00idios\nsystem\n.", "names code to import"),
        (b"\x80\x02\x82\x01.", "names code to import"),
        (b"\x80\x02]]R.", "calls code"),
        (b"\x80\x02]]\x81.", "calls code"),
        (b"\x80\x02]]b.", "calls code"),
        (persistent(), "refers to objects outside the file"),
        (b"\x80\x02Pthing\n.", "refers to objects outside the file"),
    ],
)
def test_a_pickle_that_would_build_anything_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(UsageError, match=what) as raised:
        plain(data)
    assert raised.value.message.count("\n") == 0


def test_every_cut_off_pickle_is_refused() -> None:
    data = pickle.dumps({"segments": [{"total_size": 1, "name": "x" * 400}], "device_traces": [[(1, 2)]]}, protocol=4)
    for length in range(len(data)):
        with pytest.raises(UsageError, match="cut off"):
            plain(data[:length])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 1000,
        b"hello",
        b"\x80\x04.",
        b"\x80\x04u.",
        b"\x80\x04]u.",
        b"\x80\x04}(K\x01u.",
        b"\x80\x04}(]K\x01u.",  # a list as a key
        b"\x80\x04h\x05.",
        b"\x80\x04K\x01e.",
        b"\x80\x04\x87.",
        b"\x80\x04))\x85.",  # a tuple in a tuple
        b"\x80\x04\x8a\xff" + b"\x01" * 255 + b".",  # a number of 2,040 bits
        b"\x80\x04\x8b\xff\xff\xff\x7f" + b"\x01" * 100,
        b"\x80\x04]r\xff\xff\xff\xff.",  # a place in the memo far behind its end
        b"\x80\x04X\xff\xff\xff\xffabc",  # a text longer than the file
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc",
    ],
)
def test_what_is_no_pickle_of_plain_data_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"^the snapshot "):
        plain(data)


def test_nesting_of_any_depth_costs_no_recursion() -> None:
    depth = 1_000_000
    with pytest.raises(UsageError, match="more than"):
        plain(b"\x80\x04" + b"]" * depth + b"a" * (depth - 1) + b".", Limits(kept=500_000))
    nested = plain(b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".")
    assert len(nested) == 1


def test_lists_that_share_a_list_again_and_again_stay_small() -> None:
    laugh = (
        b"\x80\x04]\x94K\x01a"
        + b"".join(b"]\x94(" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"e" for i in range(60))
        + b"."
    )
    assert len(plain(laugh)) == 2


def test_a_list_that_holds_itself_is_read() -> None:
    itself = plain(b"\x80\x04]\x94h\x00a.")
    assert itself[0] is itself


@pytest.mark.parametrize(
    ("data", "limits", "what"),
    [
        (b"\x80\x04" + b"]" * 50, Limits(kept=10), "more than 10 items"),
        (b"\x80\x04](" + b"K\x01" * 50 + b"e.", Limits(kept=10), "more than 10 items"),
        (pickle.dumps({str(i): i for i in range(50)}, 4), Limits(kept=10), "more than 10 items"),
        (pickle.dumps("x" * 5000, 4), Limits(text_bytes=1000), "more than 1,000 bytes of text"),
        (pickle.dumps([f"text {i}" for i in range(50)], 4), Limits(text_bytes=1000), "more than 1,000 bytes of text"),
        (b"\x80\x04" + b"N" * 3_000_000, Limits(entries=1_000_000), "more than 1,000,000 objects"),
        (b"\x80\x04" + b"(" * 3_000_000, Limits(entries=1_000_000), "more than 1,000,000 objects"),
        (b"\x80\x04" + b")" * 3_000_000, Limits(entries=1_000_000), "more than 1,000,000 objects"),
    ],
)
def test_what_a_file_may_cost_is_bounded(data: bytes, limits: Limits, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        plain(data, limits)


def test_a_bomb_is_read_no_further_than_its_budget() -> None:
    bomb = gzip.compress(b"\x80\x04" + b"NNNN" * 4_000_000)
    with gzip.open(io.BytesIO(bomb)) as file, pytest.raises(UsageError, match="unpacks to more than 4,000,000 bytes"):
        load(file, unchanged, Limits(read_bytes=4_000_000))


def test_what_a_fold_puts_in_place_of_a_container_stands_wherever_it_is_used() -> None:
    point = {"x": 1}
    data = pickle.dumps([point, {"other": 2}, point], protocol=4)
    assert load(io.BytesIO(data), lambda made, below: "point" if "x" in made else made) == [
        "point",
        {"other": 2},
        "point",
    ]


def test_dropped_items_are_left_out_of_their_list() -> None:
    data = pickle.dumps([[{"x": i} for i in range(2500)], "kept"], protocol=4)
    seen: list[int] = []

    def fold(made: Any, below: Any) -> Any:
        if type(made) is MadeDict:
            seen.append(made["x"])
            return DROPPED
        return made

    assert load(io.BytesIO(data), fold, Limits(kept=100)) == [[], "kept"]
    assert seen == list(range(2500))


def test_frames_of_newer_protocols_may_end_anywhere() -> None:
    payload = b"]\x94(K\x01K\x02e."
    framed = b"\x80\x04" + b"".join(b"\x95" + struct.pack("<Q", 1) + payload[i : i + 1] for i in range(2)) + payload[2:]
    assert plain(framed) == [1, 2]


def test_a_compressed_snapshot_that_breaks_off_is_refused() -> None:
    packed = gzip.compress(pickle.dumps(list(range(50_000)), protocol=4))
    with gzip.open(io.BytesIO(packed[:-500])) as file, pytest.raises(UsageError, match="cut off"):
        load(file, unchanged)
