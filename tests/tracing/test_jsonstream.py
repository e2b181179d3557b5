"""Reading a file of events in windows: the same events come out whatever the windows are, and damage stays where it is."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor_mcp.tracing import jsonstream
from advisor_mcp.tracing.jsonstream import Ending, EventStream, unzipped

UNTIMED = settings(deadline=None, suppress_health_check=list(HealthCheck))

AWKWARD = st.sampled_from(
    ["},{", '},{"ph":', "]}", '"traceEvents":[', "\\", "\\\\", "\n", "é", "😀", " , ", "inf", ":[inf]", ""]
)
TEXT = (
    st.lists(st.one_of(AWKWARD, st.text(max_size=4)), max_size=4).map("".join).filter(lambda text: text.isprintable())
)
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
EVENT = st.fixed_dictionaries(
    {"ph": st.just("X"), "name": TEXT}, optional={"args": st.dictionaries(TEXT, VALUE, max_size=3)}
)
EVENTS = st.lists(EVENT, max_size=12)
WINDOWS = st.integers(64, 400)
LAYOUTS = st.sampled_from([{"indent": 1}, {"separators": (",", ":")}, {"indent": 2, "ensure_ascii": False}, {}])


def stream(raw: bytes, window: int = jsonstream.WINDOW) -> EventStream[Any]:
    """A stream whose events are plain objects."""

    def convert(value: Mapping[str, Any]) -> Any:
        return value

    return EventStream(unzipped(BytesIO(raw)), msgspec.json.Decoder(list[dict[str, Any]]).decode, convert, window)


def read(raw: bytes, window: int = jsonstream.WINDOW) -> tuple[list[Any], Ending]:
    reading = stream(raw, window)
    return [event for batch in reading.batches() for event in batch], reading.ending


@UNTIMED
@given(EVENTS, WINDOWS, LAYOUTS, st.booleans())
def test_the_size_of_the_windows_changes_nothing(
    events: list[dict[str, Any]], window: int, layout: dict[str, Any], zipped: bool
) -> None:
    text = json.dumps(
        {"schemaVersion": 1, "traceEvents": events, "displayTimeUnit": "ms", "more": [{"a": 1}, {"id": 2}]}, **layout
    )
    raw = gzip.compress(text.encode()) if zipped else text.encode()
    found, ending = read(raw, window)
    assert found == events
    head = {"schemaVersion": 1, "traceEvents": [], "displayTimeUnit": "ms", "more": [{"a": 1}, {"id": 2}]}
    assert ending == Ending(bytes=len(text.encode()), events=len(events), head=head)


@UNTIMED
@given(EVENTS, WINDOWS, st.sampled_from(["[", " [", "\ufeff[", "\ufeff\n["]))
def test_a_bare_list_of_events_is_read_as_well(events: list[dict[str, Any]], window: int, start: str) -> None:
    found, ending = read((start + json.dumps(events)[1:]).encode(), window)
    assert (found, ending.truncated, ending.head) == (events, None, {})


@UNTIMED
@given(EVENTS, WINDOWS, st.data())
def test_a_file_that_breaks_off_gives_the_events_before_the_break(
    events: list[dict[str, Any]], window: int, data: st.DataObject
) -> None:
    text = json.dumps({"traceEvents": events}).encode()
    cut = data.draw(st.integers(len(b'{"traceEvents": ['), len(text)))
    found, ending = read(text[:cut], window)
    assert found == events[: len(found)]
    whole = cut >= len(text) - 1
    assert (ending.truncated is None) == whole
    assert not whole or found == events


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"ph": "X", "v": inf}', None),
        ('{"ph": "X", "v": -Infinity}', None),
        ('{"ph": "X", "v": N/A}', None),
        ('{"ph": "X", "v": [1, nan]}', [1, None]),
        ('{"ph": "X", "v": "C:\\Users\\me"}', "C:\\Users\\me"),
        ('{"ph": "X", "v": "a\\\\xb", "w": inf}', "a\\xb"),
        ('{"ph": "X", "v": "a\x01b\tc"}', "a b c"),
    ],
)
def test_json_as_profilers_err_in_it_is_read(text: str, value: Any) -> None:
    whole = '{"ph": "X", "v": 1}'
    found, ending = read(f'{{"traceEvents": [{whole}, {text}, {whole}, {text}]}}'.encode())
    assert [event["v"] for event in found] == [1, value, 1, value]
    assert (ending.skipped, ending.truncated) == (0, None)


def test_bytes_that_are_no_utf8_become_the_replacement_character() -> None:
    found, _ = read(b'{"traceEvents": [{"ph": "X", "name": "a\xffb"}]}')
    assert found == [{"ph": "X", "name": "a�b"}]


@pytest.mark.parametrize("window", [64, 100, 1 << 20])
def test_what_cannot_be_mended_is_skipped_and_counted(window: int) -> None:
    whole = '{"ph": "X", "name": "whole", "args": {"some": "thing"}}'
    broken = '{"ph": "X", "name": , "args": {"list": [{"a": 1}]}}'
    text = f'{{"traceEvents": [{whole}, {broken}, {whole}, {broken}, {whole}], "rank": 3}}'
    found, ending = read(text.encode(), window)
    assert [event["name"] for event in found] == ["whole"] * 3
    assert (ending.skipped, ending.truncated, ending.head.get("rank")) == (2, None, 3)


def test_an_object_inside_an_unreadable_event_does_not_end_the_list() -> None:
    text = '[{"ph": x, "args": {"of": [{"id": 1}, {"id": 2}]}}, {"ph": "X", "name": "after"}]'
    found, ending = read(text.encode())
    assert found[-1] == {"ph": "X", "name": "after"}
    assert ending.truncated is None


def test_metadata_beyond_repair_loses_itself_only() -> None:
    found, ending = read(b'{"broken": , "traceEvents": [{"ph": "X"}], "rank": 1}')
    assert (found, ending.head) == ([{"ph": "X"}], {"rank": 1})


def test_a_file_without_a_list_of_events_is_refused() -> None:
    with pytest.raises(ValueError, match="no list of events"):
        read(b'{"traceEvents": {"ph": "X"}}')


@pytest.mark.parametrize("tail", [b" " * 100_000, b"x" * 100_000])
def test_what_follows_the_list_costs_no_event(tail: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("LONGEST_HEAD", "LONGEST_EVENT", "LONGEST_CLOSE"):
        monkeypatch.setattr(jsonstream, limit, 1 << 12)
    found, ending = read(b'{"traceEvents": [{"ph": "X"}]' + tail, 1 << 10)
    assert (found, ending.truncated) == ([{"ph": "X"}], None)
    assert ending.bytes < 1 << 14  # the rest was not read
