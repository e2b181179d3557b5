"""What the user measured: kept, found again, forgotten, and never in the way."""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.accuracy import __main__ as accuracy
from benchmarks.accuracy.cases import Case
from benchmarks.accuracy.suites import state

from advisor_mcp.errors import UsageError
from advisor_mcp.knowledge import measurements
from advisor_mcp.knowledge.measurements import Measurement

ROW = Measurement(
    "ceiling", "h100-sxm", "matmul.bf16", 740.5, "TFLOP/s", 731.0, 744.25, 40, "2026-11-21T08:00:00Z", {"what": "a shape", "clock_mhz": 1755}
)  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of the test's own."""
    monkeypatch.setenv("ADVISOR_MCP_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def kept(*rows: Measurement) -> None:
    with measurements.writing() as store:
        assert store.problem is None
        store.add(rows)


def test_what_was_added_is_read_back_whole() -> None:
    kept(ROW)
    assert measurements.latest("ceiling", "h100-sxm") == {"matmul.bf16": replace(ROW, id=1)}
    assert ROW.date == "2026-11-21"


def test_the_newest_row_of_each_key_counts_and_older_ones_stay() -> None:
    newer = replace(ROW, value=742.0)
    kept(ROW, replace(ROW, key="launch", unit="us"), replace(ROW, subject="a30"))
    kept(newer)
    assert {key: row.value for key, row in measurements.latest("ceiling", "h100-sxm").items()} == {
        "launch": 740.5,
        "matmul.bf16": 742.0,
    }
    with measurements.writing() as store:
        assert [row.value for row in store.all()] == [740.5, 740.5, 740.5, 742.0]


def test_a_reader_sees_what_is_added_and_what_is_forgotten_after_it_opened() -> None:
    kept(ROW)
    assert len(measurements.latest("ceiling", "h100-sxm")) == 1
    kept(replace(ROW, key="launch"))
    assert len(measurements.latest("ceiling", "h100-sxm")) == 2
    with measurements.writing() as store:
        assert store.forget([1, 99]) == 1
    assert list(measurements.latest("ceiling", "h100-sxm")) == ["launch"]


def test_a_file_that_was_replaced_is_read_anew(folder: Path) -> None:
    kept(ROW)
    assert measurements.latest("ceiling", "h100-sxm")
    for path in folder.iterdir():
        path.rename(path.with_name(f"old-{path.name}"))
    assert measurements.latest("ceiling", "h100-sxm") == {}
    kept(replace(ROW, value=1.0))
    assert [row.value for row in measurements.latest("ceiling", "h100-sxm").values()] == [1.0]


def test_reading_makes_no_file(folder: Path) -> None:
    assert measurements.latest("ceiling", "h100-sxm") == {}
    assert not folder.exists()


def test_nothing_is_read_while_measurements_are_ignored() -> None:
    kept(ROW)
    with measurements.ignored():
        assert measurements.latest("ceiling", "h100-sxm") == {}
    assert measurements.latest("ceiling", "h100-sxm")


def test_the_file_is_in_write_ahead_mode_and_says_its_version(folder: Path) -> None:
    kept(ROW)
    connection = sqlite3.connect(folder / measurements.FILE)
    found = [connection.execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "user_version")]
    connection.close()
    assert found == ["wal", len(measurements.MIGRATIONS)]


def test_a_file_of_a_newer_version_is_refused_for_writing_and_not_changed(folder: Path) -> None:
    kept(ROW)
    connection = sqlite3.connect(folder / measurements.FILE)
    connection.execute("pragma user_version = 99")
    connection.close()
    with pytest.raises(UsageError, match="written by a newer advisor-mcp \\(format 99"), measurements.writing():
        pytest.fail("opened")


def test_measurements_stay_in_memory_where_the_folder_cannot_be_written(folder: Path) -> None:
    folder.write_text("a file, not a folder", encoding="utf-8")
    with measurements.writing() as store:
        store.add([ROW])
        assert store.all() == [replace(ROW, id=1)]
        assert store.problem is not None
        assert store.problem.startswith("measurements cannot be kept in ")
    assert measurements.latest("ceiling", "h100-sxm") == {}


def test_a_damaged_file_is_no_reason_to_refuse_an_estimate(folder: Path) -> None:
    folder.mkdir()
    (folder / measurements.FILE).write_bytes(b"not a database, but long enough to look at" * 10)
    assert measurements.latest("ceiling", "h100-sxm") == {}


def test_two_writers_that_begin_together_both_keep_their_rows() -> None:
    both = threading.Barrier(2)

    def write(key: str) -> None:
        both.wait(20)
        kept(replace(ROW, key=key))

    writers = [threading.Thread(target=write, args=(key,)) for key in ("launch", "copy.device")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(measurements.latest("ceiling", "h100-sxm")) == ["copy.device", "launch"]


def test_the_accuracy_program_reads_no_measurement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(ROW)
    asked = {"gpu": "h100-sxm", "matmul": {"m": 8192, "n": 8192, "k": 8192}}
    case = Case("one", "all", "roofline", asked, "attainable_tflops", 989.4)
    monkeypatch.setattr(state, "cases", lambda data: [case])
    assert accuracy.main(["state", "--data", ".", "--json"]) == 0
    # the datasheet's rate, not the 740.5 that were measured
    assert json.loads(capsys.readouterr().out)["predicted"] == 989.4
