"""The live view: what a frame shows, when it ends, and how it leaves the terminal."""

from __future__ import annotations

import json
import os
import pty
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from tests.gpus.fake_driver import FakeDriver, installed

from advisor_mcp import cli
from advisor_mcp.declaration import Shown, Silent
from advisor_mcp.errors import UsageError
from advisor_mcp.gpus import DeviceReading, sampling, watch
from advisor_mcp.gpus.devices import ActivityReading
from advisor_mcp.gpus.health import GPUS, Machine
from advisor_mcp.gpus.recorded import read_recording

CASES = Path(__file__).parents[1] / "cases" / "gpus"
GIB = 2**30


@pytest.fixture(autouse=True)
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for; none is waited for."""
    pauses: list[float] = []
    monkeypatch.setattr(sampling, "sleep", pauses.append)
    return pauses


def frame(*readings: DeviceReading, width: int = 100, **history: Any) -> list[str]:
    return watch.frame(readings, GPUS.find(Machine(readings)), history.get("history", {}), width)


def test_a_frame_has_a_line_per_gpu_and_the_findings_below() -> None:
    one = DeviceReading(
        index=0,
        utilization_percent=98,
        activity=ActivityReading(sm_percent=25.4),
        memory_used_bytes=40 * GIB,
        memory_total_bytes=80 * GIB,
        power_mw=412_600,
        power_limit_mw=700_000,
        temperature_c=61,
        sm_clock_mhz=1755,
    )
    lost = DeviceReading(index=1, failure="the GPU must be reset before it answers")
    assert frame(one, lost, width=80, history={0: [0.0, 50.0, None, 100.0]}) == [
        "GPU  SMs busy         history          memory         power      heat     clock",
        "  0  ███░░░░░░░  25%  ▁▅ █             40/80 GiB      413/700 W   61°C 1755 MHz",
        "  1  the GPU must be reset before it answers",
        "",
        "!! GPU 1: no reading, the GPU must be reset before it answers",
        "!  GPU 0: utilisation looks full, but the SMs were busy 25.4 % of the time",
    ]


def test_values_that_are_not_known_are_dashes() -> None:
    assert frame(DeviceReading(index=3), width=80) == [
        "GPU  utilisation      history          memory         power      heat     clock",
        "  3  ░░░░░░░░░░    -                   -/- GiB        -/- W        -°C    - MHz",
        "",
        "nothing wrong in what they report",
    ]


@pytest.mark.parametrize("width", [20, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    readings = read_recording(CASES / "h100x8-busy-two-faults.json").devices()
    history = {reading.index: [50.0] * watch.LONGEST_HISTORY for reading in readings}
    assert max(map(len, frame(*readings, width=width, history=history))) <= width


def test_a_name_from_a_driver_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in "".join(frame(DeviceReading(index=0, failure="\x1b[2Jgone")))


@pytest.mark.parametrize(
    ("percent", "drawn"),
    [(0, "░░░░░░░░░░"), (None, "░░░░░░░░░░"), (49, "█████░░░░░"), (100, "██████████"), (152, "█" * 10)],
)
def test_a_share_is_a_bar_of_ten_cells(percent: float | None, drawn: str) -> None:
    assert watch.bar(percent) == drawn


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(["inspect-gpus", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_elsewhere_than_on_a_terminal_each_refresh_is_a_block_of_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, waited: list[float]
) -> None:
    monkeypatch.setenv("ADVISOR_MCP_GPUS", str(CASES / "rtx3090-desktop.json"))
    code, out, err = run(capsys, "--watch", "0.5", "--count", "3")
    assert (code, err) == (0, "")
    first, second, third, rest = out.split("\n\nGPU")[0], *out.split("\n\nGPU")[1:], ""
    assert rest == ""
    assert "\x1b" not in out
    assert [block.count("▁") for block in (first, second, third)] == [1, 2, 3]
    assert waited == [0.5, 0.5]


def test_json_prints_an_answer_a_refresh(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_MCP_GPUS", str(CASES / "h100-idle.json"))
    code, out, _ = run(capsys, "--watch", "--count", "2", "--json")
    assert code == 0
    assert [json.loads(line)["gpu_count"] for line in out.splitlines()] == [1, 1]


def test_live_gpus_are_counted_over_the_whole_interval(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ADVISOR_MCP_GPUS", raising=False)
    with installed(FakeDriver()) as driver:
        code, out, _ = run(capsys, "--watch", "2", "--count", "2")
    assert code == 0
    assert out.count("█████████░  92%") == 2
    assert sorted(driver.freed) == sorted(driver.samples)
    assert driver.calls[-1] == "nvmlShutdown"


def test_a_machine_without_a_gpu_says_so_and_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = tmp_path / "none.json"
    empty.write_text('{"devices": [], "driver": {"absent": "none here"}}', encoding="utf-8")
    monkeypatch.setenv("ADVISOR_MCP_GPUS", str(empty))
    code, out, _ = run(capsys, "--watch")
    assert (code, out[:40]) == (0, "There is no GPU to read: none here. The ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--watch", "0.1"], "--watch takes seconds above 0.1 and up to 3,600, not '0.1'; 1 is usual"),
        (["--watch", "nan"], "--watch takes seconds above 0.1 and up to 3,600, not 'nan'; 1 is usual"),
        (["--watch", "soon"], "--watch takes seconds above 0.1 and up to 3,600, not 'soon'; 1 is usual"),
        (["--watch", "--sample-s", "5"], "--watch shows this machine's GPUs as they are; leave --sample-s out"),
        (
            ["--watch", "--prometheus", "default"],
            "--watch shows this machine's GPUs as they are; leave --prometheus out",
        ),
        (["--watch", "--count", "0"], "--count takes how many refreshes to show, from 1 on, not '0'"),
        (
            ["--watch", "--indices", "9"],
            "there is no GPU 9 here; the indices are 0: name some of these or leave indices out",
        ),
    ],
)
def test_a_watch_that_cannot_be_kept_is_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.setenv("ADVISOR_MCP_GPUS", str(CASES / "h100-idle.json"))
    assert run(capsys, *words) == (2, "", f"advisor-mcp: {sentence}\n")


# ---- on a terminal ----


class Output:
    """A terminal to write to that keeps what was written."""

    def __init__(self) -> None:
        self.written = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None:
        pass


class Keys:
    """A terminal to read from."""

    def __init__(self, device: int) -> None:
        self.device = device

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.device


@pytest.fixture
def line() -> Iterator[tuple[int, int]]:
    """A pseudo-terminal: the end that a user types into, and the end that is read."""
    typed, read = pty.openpty()
    yield typed, read
    os.close(typed)
    os.close(read)


def watched(read: int, frame: Callable[..., list[str]]) -> str:
    """Watch on that terminal with this function for a frame, and give what was shown."""
    output = Output()
    asked = Shown(
        arguments={"indices": None, "detail": "brief"},
        value="3600",
        options={},
        as_json=False,
        progress=Silent(),
    )
    with pytest.MonkeyPatch.context() as patch:
        # here and not in a fixture, for pytest puts its own streams in place when the test itself begins
        patch.setattr(sys, "stdout", output)
        patch.setattr(sys, "stdin", Keys(read))
        for name, value in (("TERM", "xterm"), ("COLUMNS", "80"), ("LINES", "6")):
            patch.setenv(name, value)
        patch.setenv("ADVISOR_MCP_GPUS", str(CASES / "h100x8-busy-two-faults.json"))
        patch.setattr(watch, "frame", frame)
        try:
            assert watch.watch(asked) == 0
        finally:
            assert output.written.endswith(watch.LEAVE)
    return output.written


@pytest.mark.parametrize("key", [b"q", b"Q", b"\x04"])
def test_q_ends_the_view_and_the_terminal_is_left_as_it_was(line: tuple[int, int], key: bytes) -> None:
    typed, read = line
    before = termios.tcgetattr(read)
    drawn = watch.frame

    def typing(*arguments: Any) -> list[str]:
        os.write(typed, b"x" + key)  # what was typed before the view began is dropped
        return drawn(*arguments)

    written = watched(read, typing)
    assert termios.tcgetattr(read) == before
    assert written.startswith(watch.ENTER + watch.HOME)
    assert written.count("\n") == 4  # five lines of the six
    assert "q ends" in written


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), UsageError("no")])
def test_whatever_ends_it_the_terminal_is_left_as_it_was(line: tuple[int, int], problem: BaseException) -> None:
    before = termios.tcgetattr(line[1])

    def broken(*arguments: Any) -> list[str]:
        raise problem

    with pytest.raises(UsageError) if isinstance(problem, UsageError) else nullcontext():
        watched(line[1], broken)
    assert termios.tcgetattr(line[1]) == before
