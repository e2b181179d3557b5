"""Recordings of GPUs: what they hold, and what is said about one that cannot be used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gpus.fake_driver import FakeDriver, installed

from advisor_mcp.errors import UsageError
from advisor_mcp.gpus import DeviceReading, DriverReading, MigInstanceReading, ProcessReading, open_devices
from advisor_mcp.gpus.devices import ActivityReading, LinkReading, XidReading
from advisor_mcp.gpus.recorded import (
    VARIABLE,
    Recorded,
    named_by_environment,
    parse_recording,
    read_recording,
    recording,
)

CASES = sorted((Path(__file__).parents[1] / "cases" / "gpus").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_recorded_case_reads_and_says_how_it_was_made(path: Path) -> None:
    with open_devices(path) as source:
        assert source.devices()[0].name is not None
        assert str(source.driver().recorded).endswith("documented fields, not read from a device")


def test_the_cases_are_there() -> None:
    names = ["a100-mig", "h100-idle", "h100x16-busy", "h100x8-busy-two-faults", "mi300x-busy", "rtx3090-desktop"]
    assert [path.stem for path in CASES] == names


def test_the_recorded_memory_adds_up() -> None:
    for path in CASES:
        for found in read_recording(path).devices():
            parts = (found.memory_used_bytes, found.memory_free_bytes, found.memory_reserved_bytes)
            assert sum(part or 0 for part in parts) == found.memory_total_bytes


@pytest.mark.parametrize("pause", [None, lambda: 0.0], ids=["one sample", "two samples"])
def test_what_nvml_shows_survives_being_recorded(pause: Any) -> None:
    with installed(FakeDriver()), open_devices() as source:
        live = source.devices(pause)
    with installed(FakeDriver()), open_devices() as source:
        written = json.loads(json.dumps(recording(source, made="by a test", pause=pause)))
    back = parse_recording(written)
    assert back.devices() == live
    assert back.driver() == DriverReading(
        driver_version="580.95.05", cuda_version=13000, confidential_compute=False, recorded="by a test"
    )


counts = st.none() | st.integers(0, 2**48)
processes = st.builds(ProcessReading, pid=st.integers(0, 2**22), name=st.none() | st.text(), memory_bytes=counts)
instances = st.builds(MigInstanceReading, index=st.integers(0, 6), memory_total_bytes=counts)
shares = st.none() | st.floats(0, 100)
activities = st.builds(ActivityReading, sm_percent=shares, dram_percent=shares)
links = st.builds(
    LinkReading, link=st.integers(0, 35), active=st.none() | st.booleans(), errors=st.dictionaries(st.text(), counts)
).filter(lambda link: None not in link.errors.values())
xids = st.builds(XidReading, code=st.integers(1, 200), count=st.integers(1, 9), age_s=st.none() | st.floats(0, 1e6))
readings = st.builds(
    DeviceReading,
    index=st.integers(0, 15),
    name=st.none() | st.text(),
    memory_total_bytes=counts,
    clock_events=counts,
    ecc_enabled=st.none() | st.booleans(),
    processes=st.none() | st.lists(processes, max_size=3).map(tuple),
    mig_instances=st.none() | st.lists(instances, max_size=3).map(tuple),
    activity=st.none() | activities,
    links=st.none() | st.lists(links, max_size=3).map(tuple),
    xids=st.none() | st.lists(xids, max_size=2).map(tuple),
    row_remap_histogram=st.none() | st.tuples(*[st.integers(0, 999)] * 5),
    limited_percent=st.none() | st.dictionaries(st.sampled_from(["power", "thermal"]), st.floats(0, 100)),
    failure=st.just("gone"),
)


@given(st.lists(readings, max_size=3))
def test_any_readings_survive_being_recorded(found: list[DeviceReading]) -> None:
    source = Recorded(tuple(found), DriverReading(driver_version="1"))
    assert parse_recording(json.loads(json.dumps(recording(source, made="by a test")))).devices() == found


def test_a_field_that_the_recording_leaves_out_is_missing_with_that_reason() -> None:
    entry = {"index": 3, "name": "NVIDIA L4", "missing": {"ecc_enabled": "this process lacks the permission"}}
    [found] = parse_recording({"devices": [entry]}).devices()
    assert found.missing["power_mw"] == "not recorded"
    assert found.missing["ecc_enabled"] == "this process lacks the permission"
    given_or_optional = {"index", "vendor", "name", "sample_s", "mig_instances", "failure", "missing"}
    assert set(found.missing) == set(DeviceReading.__slots__) - given_or_optional
    assert replace(found, missing={}) == DeviceReading(index=3, name="NVIDIA L4")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "recording must be an object, not []; record it again"),
        ({}, "recording: devices must be a list of GPUs; record it again"),
        ({"devices": [], "device": 1}, "recording has no field 'device'; did you mean 'devices'?"),
        ({"devices": [7]}, "recording: devices[0] must be an object, not 7; record it again"),
        (
            {"devices": [{"index": 0, "power_w": 3}]},
            "recording: devices[0] has no field 'power_w'; did you mean 'power_mw'?",
        ),
        (
            {"devices": [{"index": 0}, {"index": 1, "temperature_c": "hot"}]},
            "recording: devices[1].temperature_c cannot be 'hot'; record it again",
        ),
        (
            {"devices": [{"index": 0, "processes": [{"pid": 1, "command": "x"}]}]},
            "recording: devices[0].processes has no field 'command'; record it again",
        ),
        (
            {"devices": [{"index": 0, "activity": {"sm_active": 5}}]},
            "recording: devices[0].activity has no field 'sm_active'; record it again",
        ),
        (
            {"devices": [{"index": 0, "processes": 5}]},
            "recording: devices[0].processes cannot be 5; record it again",
        ),
        (
            {"devices": [], "driver": {"driver": "1"}},
            "recording: driver has no field 'driver'; did you mean 'driver_version'?",
        ),
    ],
)
def test_a_recording_that_cannot_be_used_is_refused_in_one_sentence(data: Any, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_recording(data)
    assert refused.value.message == message


def test_a_recording_that_does_not_exist_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused, open_devices(tmp_path / "gone.json"):
        pass
    assert refused.value.message == "the recording 'gone.json' cannot be read; check ADVISOR_MCP_GPUS"


def test_a_recording_that_is_not_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.json"
    path.write_text("no", encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        read_recording(path)
    assert refused.value.message == "the recording 'text.json' is not JSON; record it again"


@pytest.mark.parametrize(("value", "path"), [("", None), ("  ", None), ("/data/gpus.json", Path("/data/gpus.json"))])
def test_the_environment_names_a_recording(monkeypatch: pytest.MonkeyPatch, value: str, path: Path | None) -> None:
    monkeypatch.setenv("ADVISOR_MCP_GPUS", value)
    assert named_by_environment() == path


def test_a_recording_made_as_the_documentation_says_is_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "gpus.md").read_text(encoding="utf-8")
    script = page.partition("<<'EOF'\n")[2].partition("EOF\n")[0]
    monkeypatch.setattr("advisor_mcp.gpus.sampling.pause_for", lambda seconds, progress: lambda: seconds)
    with installed(FakeDriver()):
        exec(compile(script, "docs/gpus.md", "exec"), {})
    path = tmp_path / "gpus.json"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    monkeypatch.setenv(VARIABLE, str(path))
    found = named_by_environment()
    assert found == path
    with open_devices(found) as source:
        assert source.driver().recorded == "node 7, under load"
        assert [reading.index for reading in source.devices()] == [0]
