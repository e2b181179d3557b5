"""Files that are no trace, or no longer one, or made to do harm: an answer with its doubts or one sentence, in bounded work."""

from __future__ import annotations

import gzip
import json
import os
import socket
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.tracing.made import Made

import advisor_mcp
from advisor_mcp.declaration import BRIEF_BYTES, FULL_BYTES
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.tracing import events, jsonstream, kineto, reading, timeline
from advisor_mcp.tracing.report import DiagnosedTrace

MIB = 1 << 20
SMALL = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def trace() -> Made:
    """Three steps of two kernels and a copy each."""
    made = Made().steps(0, 100, 200, 300)
    for step in (0, 100, 200):
        made.operator("aten::mm", step + 1, 30, [[64, 64], [64, 64]], ["float", "float"])
        made.kernel("gemm", step + 10, 20, launch=step + 2, grid=[8, 1, 1]).kernel(
            "relu", step + 40, 5, launch=step + 20
        )
        made.copy(step + 60, 10, launch=step + 50, bytes=4096).call("cudaDeviceSynchronize", step + 70, 20)
    return made


WHOLE = trace().text().encode()


def diagnosed(path: Path | str, detail: str = "brief") -> DiagnosedTrace:
    answer = advisor_mcp.call("diagnose_trace", trace=[str(path)], detail=detail)
    assert isinstance(answer, DiagnosedTrace)
    limit = FULL_BYTES if detail == "full" else BRIEF_BYTES
    assert max(len(answer.text().encode()), len(answer.json_text().encode())) <= limit
    return answer


def told(path: Path, content: bytes) -> str:
    """The message with which a file of some content is refused."""
    path.write_bytes(content)
    with pytest.raises(CannotAnswer) as refused:
        diagnosed(path)
    message = refused.value.message
    assert "\n" not in message
    assert len(message) < 300
    assert refused.value.needs
    return message


def outcome(path: Path, content: bytes) -> DiagnosedTrace | None:
    """The full answer, or None where there is one sentence instead; anything else is a failure."""
    path.write_bytes(content)
    try:
        return diagnosed(path, "full")
    except CannotAnswer as error:
        refused = error
    assert "\n" not in refused.message
    return None


def doubts(answer: DiagnosedTrace) -> dict[str, str]:
    return {gate.name: gate.message for gate in answer.trust or []}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "trace.json"


FOREIGN = {
    "nothing": (b"", "is empty"),
    "white space": (b" \n\t ", "is empty"),
    "nothing, compressed": (gzip.compress(b""), "is empty"),
    "the head of a compressed file": (gzip.compress(WHOLE)[:8], "is a damaged gzip file"),
    "a damaged compressed file": (gzip.compress(WHOLE)[:10] + b"\xff" * 200, "is a damaged gzip file"),
    "zeros": (bytes(4096), "nothing in it is known"),
    "words": (b"hello", "nothing in it is known"),
    "UTF-16": (WHOLE.decode().encode("utf-16"), "it is UTF-16 text: save it as UTF-8"),
    "package.json": (json.dumps({"name": "app", "dependencies": {"left-pad": "1"}}).encode(), "no list of events"),
    "a notebook": (
        json.dumps({"cells": [{"cell_type": "code", "source": ["1"]}], "nbformat": 4}).encode(),
        "no list of events",
    ),
    "events as an object": (b'{"traceEvents": {"ph": "X", "ts": 1}}', "no list of events"),
    "no events": (b'{"traceEvents": []}', "no event in it has a phase"),
    "a list of numbers": (b"[1, 2, 3]", "no event in it has a phase"),
    "a list of objects": (b'[{"a": 1}, {"b": 2}]', "no event in it has a phase"),
    "brackets": (b"[" * 100_000, "it breaks off inside an event"),
    "braces": (b"{" * 100_000, "no list of events"),
    "brackets in an event": (b'{"traceEvents": [{"ph": ' + b"[" * 100_000, "it breaks off inside an event"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_trace_is_refused_in_one_sentence(kind: str, file: Path) -> None:
    content, words = FOREIGN[kind]
    assert words in told(file, content)


def test_a_trace_with_a_byte_order_mark_is_read(file: Path) -> None:
    answer = outcome(file, b"\xef\xbb\xbf" + WHOLE)
    assert answer is not None
    assert answer.trust == diagnosed(trace().write(file), "full").trust


def test_a_trace_cut_at_any_byte_is_answered_with_its_doubt_or_refused(file: Path) -> None:
    short = (
        Made(head={}).range("ProfilerStep#1", 0, 99).kernel("gemm", 10, 20, launch=2, grid=[8, 1, 1]).text().encode()
    )
    first_event_ends = short.index(b"}")
    for cut in range(len(short)):
        answer = outcome(file, short[:cut])
        assert (answer is None) == (cut <= first_event_ends), cut
        assert answer is None or ("truncated-json" in doubts(answer)) == (cut < len(short) - 1), cut


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_compressed_trace_that_breaks_off_says_so(part: float, file: Path) -> None:
    raw = gzip.compress(json.dumps({"traceEvents": trace().events * 300}).encode())
    answer = outcome(file, raw[: int(len(raw) * part)])
    assert answer is not None
    assert "the file is cut short: the compressed stream breaks off or is damaged" in doubts(answer)["truncated-json"]


def test_a_compressed_trace_that_is_damaged_in_its_middle_says_so(file: Path) -> None:
    events = [{**event, "args": {"id": str(place * 7919)}} for place, event in enumerate(trace().events * 900)]
    raw = bytearray(gzip.compress(json.dumps({"traceEvents": events}).encode()))
    raw[-40_000:-39_000] = bytes(1000)
    answer = outcome(file, bytes(raw))
    assert answer is not None
    assert "the file is cut short: " in doubts(answer)["truncated-json"]


ODD: list[Any] = [None, True, -1, 2**63, 2**200, 1.5, -0.0, 1e300, "", "x", "1e999999999", [], [1, [2]], {}, {"a": {}}]
FIELDS = ["ph", "cat", "name", "ts", "dur", "pid", "tid", "args", "id"]
ARGUMENTS = [
    "device", "stream", "correlation", "External id", "bytes", "grid", "Input Dims", "Input type", "Collective name", "In msg nelems",
    "Group size", "dtype", "Process Group Name", "Seq", "Device Id", "Device Type", "Total Allocated",
]  # fmt: skip


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_any_type_in_any_field_of_an_event_is_answered(value: Any, file: Path) -> None:
    made = trace()
    kernel = {
        "ph": "X",
        "cat": "kernel",
        "name": "nccl",
        "ts": 350,
        "dur": 5,
        "pid": 0,
        "tid": 7,
        "args": {"device": 0},
    }
    made.events += [{**kernel, field: value} for field in FIELDS]
    made.events += [{**kernel, "args": {**kernel["args"], name: value}} for name in ARGUMENTS]  # type: ignore[dict-item]
    made.events += [{"ph": "i", "name": "[memory]", "ts": value, "args": dict.fromkeys(ARGUMENTS, value)}]
    made.events += [{**event, "args": {"Input Dims": value, "Input type": value}} for event in made.events[3:5]]
    answer = outcome(file, made.text().encode())
    assert answer is not None


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_any_type_in_the_metadata_is_answered(value: Any, file: Path) -> None:
    for head in (
        {"deviceProperties": value},
        {"deviceProperties": [{"id": 0, "name": value, "numSms": value}]},
        {"distributedInfo": value},
    ):
        assert outcome(file, Made(head=head, events=trace().events).text().encode()) is not None
    assert (
        outcome(file, Made(head={"distributedInfo": {"rank": value}}, events=trace().events).text().encode())
        is not None
    )


BARE = [
    b"inf",
    b"-inf",
    b"Infinity",
    b"NaN",
    b"N/A",
    b"undefined",
    b"9" * 5000,
    b"1e400",
    b'"\\ud800"',
    b'"\x00\x1b[31m"',
    b'"\xff"',
    b'"a\\b\\Uc"',
]


@pytest.mark.parametrize("literal", BARE, ids=repr)
def test_any_literal_in_any_field_of_an_event_is_answered(literal: bytes, file: Path) -> None:
    for field in ("ts", "dur", "name", "cat", "pid", "tid"):
        odd = json.dumps({"ph": "X", "cat": "kernel", "name": "k", "ts": 350, "dur": 5, "pid": 0, "tid": 7, field: "@"})
        answer = outcome(file, WHOLE[:-2] + b"," + odd.encode().replace(b'"@"', literal) + b"]}")
        assert answer is not None
        text = answer.text() + answer.json_text()
        assert "\x1b" not in text


def test_of_a_key_that_stands_twice_the_last_one_counts(file: Path) -> None:
    double = b'{"ph":"X","cat":"kernel","name":"k","ts":350,"ts":310,"dur":5,"args":{"device":0,"device":0}}'
    answer = outcome(file, WHOLE[:-2] + b"," + double + b"]}")
    assert answer is not None
    assert answer.devices is not None
    assert answer.devices[0].span_ms == 0.305  # from the first kernel at 10 us to 315


PLACES = {
    "one event": [(5, 10)],
    "a span of no length": [(5, 0)],
    "all at one time": [(5, 1)] * 50,
    "negative times": [(-100, 10), (-50, 10)],
    "times before and after zero": [(-(10**12), 5), (10**12, 5)],
    "the latest times": [(events.LATEST_US - 1, events.LATEST_US - 1), (1 - events.LATEST_US, 1)],
    "times that are too late": [(2**63, 1), (2**64, 1), (5, 2**63)],
}


@pytest.mark.parametrize("kind", PLACES)
def test_times_anywhere_are_answered(kind: str, file: Path) -> None:
    made = Made()
    for start, dur in PLACES[kind]:
        made.kernel("k", start, dur)
    answer = outcome(file, made.text().encode())
    assert answer is not None
    assert ("truncated-json" in doubts(answer)) == (kind == "times that are too late")
    for row in answer.devices or []:
        shares = (row.compute_percent, row.exposed_communication_percent, row.exposed_copy_percent, row.idle_percent)
        assert sum(shares) == pytest.approx(100, abs=0.03)


@SMALL
@given(data=st.data())
def test_a_trace_with_any_bytes_changed_is_answered_or_refused(data: st.DataObject, file: Path) -> None:
    raw = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(raw) - 1))
        end = place + data.draw(st.integers(0, 30))
        raw[place:end] = data.draw(
            st.sampled_from([b"", b'"', b"{", b"}", b"[", b"]", b"},{", b"\\", b"null", b",", b"\xff", b"-1", b"1e999"])
        )
    outcome(file, bytes(raw))


@SMALL
@given(data=st.data())
def test_what_is_read_of_a_damaged_trace_does_not_depend_on_the_windows(data: st.DataObject) -> None:
    raw = bytearray(WHOLE)
    place = data.draw(st.integers(WHOLE.index(b"traceEvents") + 20, len(raw) - 1))
    raw[place : place + data.draw(st.integers(0, 20))] = data.draw(st.sampled_from([b"", b"{", b"]", b"x", b"\\"]))

    def starts(window: int) -> list[int]:
        try:
            return kineto.read_kineto(BytesIO(bytes(raw)), "x", window=window).device_events.start.tolist()  # type: ignore[arg-type]
        except CannotAnswer:
            return []

    assert starts(data.draw(st.integers(64, 2000))) == starts(1 << 20)


def bomb(*parts: tuple[bytes, int]) -> bytes:
    """A compressed file of pieces that are repeated: `(piece, times)`. Pieces of a mebibyte compress a thousandfold."""
    return b"".join(gzip.compress(piece, 9) * times for piece, times in parts)


def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all pieces that are read from now on."""
    seen: list[int] = []
    chunks = jsonstream.chunks

    def counted(*given: Any) -> Iterator[bytes]:
        for piece in chunks(*given):
            seen.append(len(piece))
            yield piece

    monkeypatch.setattr(jsonstream, "chunks", counted)
    return seen


OPEN = WHOLE[:-2] + b","
BOMBS = {
    "spaces": (((b" " * MIB, 1024),), 0),
    "zeros": (((b"\0" * MIB, 1024),), 0),
    "braces": (((b"{" * MIB, 1024),), 18),
    "brackets": (((b"[" * MIB, 1024),), 10),
    "one string": (((b'{"a": "', 1), (b"x" * MIB, 1024)), 18),
    "a string in an event": (((OPEN + b'{"ph": "', 1), (b"x" * MIB, 1024)), 10),
    "one event": (((OPEN + b'{"args": {', 1), (b'"a": 1,' * (MIB // 7), 1024)), 10),
    "brackets in the list": (((OPEN, 1), (b"[" * MIB, 1024)), 10),
    "numbers in the list": (((OPEN, 1), (b"1," * (MIB // 2), 1024)), 40),
    "events without an end": (((OPEN, 1), (b'{"args": [{"ph": 1},' * (MIB // 20), 1024)), 40),
    "strings without an end": (((OPEN, 1), (b'{"name": x"},' * (MIB // 13), 1024)), 40),
    "starts of events": (((b'{ x "traceEvents": [', 1), (b'"traceEvents": [' * (MIB // 16), 1024)), 40),
    "what follows the list": (((WHOLE[:-1], 1), (b" " * MIB, 1024)), 30),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_gigabyte_of_nothing_is_given_up_after_a_few_megabytes(
    kind: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, most_mib = BOMBS[kind]
    seen = reads(monkeypatch)
    answer = outcome(file, bomb(*parts))
    assert sum(seen) <= most_mib * MIB
    assert (answer is not None) == (parts[0][0][:20] in WHOLE[:20] or parts[0][0].startswith(WHOLE[:20]))
    if answer is not None and kind != "what follows the list":
        assert "the file is cut short" in doubts(answer)["truncated-json"]


def test_reading_stops_at_as_many_events_as_are_held(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kineto, "MOST_KEPT", 5)
    answer = outcome(file, WHOLE)
    assert answer is not None
    assert f"only the first {len(trace().events)} events were read" in doubts(answer)["truncated-json"]


@pytest.mark.parametrize("what", ["names", "long names", "streams", "threads", "steps", "collectives", "peaks"])
def test_very_many_of_anything_are_answered(what: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline._Numbered, "room", 1 << 16)
    made = Made()
    for place in range(3_000):
        name = {"names": f"kernel_{place}", "long names": f"{place}" + "DataLoader moe_" * 1000}.get(
            what, "ncclDevKernel_AllReduce"
        )
        collective = {"Collective name": f"c{place}", "In msg nelems": 8, "dtype": "Float", "Group size": place}
        made.kernel(
            name,
            10 * place,
            5,
            stream=place if what == "streams" else 7,
            **(collective if what == "collectives" else {}),
        )
        if what == "threads":
            made.event("cpu_op", "aten::mm", 10 * place, 5, tid=f"thread {place}")
        if what == "steps":
            made.range(f"ProfilerStep#{place}", 10 * place, 9)
        if what == "peaks":
            made.events.append(
                {
                    "ph": "i",
                    "name": "[memory]",
                    "ts": 1,
                    "args": {"Device Id": place, "Device Type": 1, "Total Allocated": 2**40},
                }
            )
    answer = outcome(file, made.text().encode())
    assert answer is not None
    assert diagnosed(file).devices is not None


def test_more_devices_than_a_process_can_use_are_no_trace(file: Path) -> None:
    made = Made()
    for device in range(kineto.MOST_DEVICES + 1):
        made.kernel("k", device, 1, device=device)
    assert told(file, made.text().encode()) == "trace.json names 257 devices, more than one process can use"


def test_names_are_bounded_in_length_and_number() -> None:
    names = timeline.Names()
    names.known.room = 500  # three of 101 characters, which count as 165 each
    spelled = [f"{place}" + "x" * 100 for place in range(6)]
    assert [names(name) for name in (*spelled, spelled[0])] == [0, 1, 2, 3, 3, 3, 0]
    assert names.listed() == [*spelled[:3], "(further names)"]
    longest = timeline.LONGEST_NAME
    assert [timeline.Names()("x" * longest), timeline.Names()("x" * 2 * longest)] == [0, 0]
    cut = timeline.Names()
    assert (cut("x" * longest), cut("x" * 2 * longest), cut.listed()) == (0, 0, ["x" * longest])


PRIVATE = ("alice", "node-7.example.com", "job-4711", "/home/alice/secret/train.py", "hunter2", "train.py --token")


def test_metadata_is_never_told(file: Path) -> None:
    user, host, job, path, token, command = PRIVATE
    made = trace()
    made.head |= {
        "username": user, "hostname": host, "job": {"id": job}, "traceName": path, "trace_id": token,
        "distributedInfo": {"rank": 0, "backend": user, "pg_config": [{"pg_name": job}], "host": host},
    }  # fmt: skip
    for event in made.events:
        event["args"] = (event.get("args") or {}) | {"user": user, "Call stack": path, "host": host, "token": token}
    made.events += [
        {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": command, "labels": host}},
        {"ph": "i", "name": "Record Window End", "pid": user, "tid": host, "ts": 300, "args": {"job": job}},
        {"ph": "X", "cat": "Trace", "name": f"PyTorch Profiler {job}", "pid": user, "tid": host, "ts": 0, "dur": 300},
        {
            "ph": "X",
            "cat": "python_function",
            "name": f"{path}(7): main",
            "pid": user,
            "tid": host,
            "ts": 0,
            "dur": 300,
        },
    ]
    made.write(file)
    for detail in ("brief", "full"):
        answer = diagnosed(file, detail)
        told = answer.text() + answer.json_text()
        assert [secret for secret in PRIVATE if secret in told] == []


def test_what_is_no_file_is_said_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "empty").mkdir()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.path.relpath(tmp_path / "socket"))
    listening.close()
    said = {}
    for name in ("pipe", "socket", "circle", "missing", "empty", "x" * 300):
        with pytest.raises((UsageError, CannotAnswer)) as refused:
            diagnosed(tmp_path / name)
        said[name[:9]] = refused.value.message.replace(str(tmp_path), "")
    assert said == {
        "pipe": "'/pipe' is not a file that can be read",
        "socket": "'/socket' is not a file that can be read",
        "circle": "there is no file '/circle'; name a trace as the profiler wrote it",
        "missing": "there is no file '/missing'; name a trace as the profiler wrote it",
        "empty": "there is no trace in what was given",
        "xxxxxxxxx": said["xxxxxxxxx"],
    }
    assert said["xxxxxxxxx"].endswith("cannot be read: file name too long")
    with pytest.raises(UsageError, match="'/dev/zero' is not a file that can be read"):
        diagnosed("/dev/zero")


@pytest.mark.parametrize("method", ["open", "is_dir", "stat"])
def test_a_file_that_may_not_be_read_is_said_so(method: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(WHOLE)
    real = getattr(Path, method)

    def refuse(self: Path, *given: Any, **named: Any) -> Any:
        if self.name == "trace.json":
            raise PermissionError(13, "Permission denied")
        return real(self, *given, **named)

    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(UsageError) as refused:
        diagnosed(file)
    assert refused.value.message.endswith("cannot be read: permission denied")


def test_a_file_that_grows_is_read_as_far_as_it_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(WHOLE[: len(WHOLE) // 2])
    real = reading.recognise

    def grows(path: Path, said: str) -> Any:
        kind = real(path, said)
        path.write_bytes(WHOLE)
        return kind

    monkeypatch.setattr(reading, "recognise", grows)
    assert "truncated-json" not in doubts(diagnosed(file))


def test_a_name_that_is_no_text_is_told_as_text(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    folder.mkdir()
    try:
        (folder / os.fsdecode(b"rank\xff\n.json")).write_bytes(
            b'{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "a", "ts": 1, "dur": 1}]}'
        )
    except OSError:  # macOS takes no such name
        pytest.skip("this file system has names in UTF-8 only")
    assert diagnosed(folder).summary.startswith("rank��.json has no GPU events")
