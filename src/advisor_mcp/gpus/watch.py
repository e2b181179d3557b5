"""`advisor-mcp inspect-gpus --watch`: a live view of the GPUs in a terminal, or one block of lines a refresh elsewhere."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from advisor_mcp import terminal
from advisor_mcp.declaration import Shown
from advisor_mcp.errors import UsageError, shown
from advisor_mcp.findings import Finding
from advisor_mcp.formulas.devices import id_of
from advisor_mcp.gpus import open_devices, sampling
from advisor_mcp.gpus.devices import DeviceReading, DeviceSource, Pause
from advisor_mcp.gpus.health import GPUS, Machine
from advisor_mcp.gpus.recorded import named_by_environment
from advisor_mcp.gpus.report import choose, inspect
from advisor_mcp.results import gib, number

BAR, SHORTEST_HISTORY, LONGEST_HISTORY = 10, 8, 30
BESIDE_HISTORY = 65
"""Columns of a line without its history."""
LONGEST_S = 3_600.0
UNCUT = 10_000
"""Whoever reads lines can scroll: they are not cut."""

SPARKS = "▁▂▃▄▅▆▇█"
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_MARKS = {"error": "!!", "warning": "! ", "info": "- "}

_NOT_LIVE = ("sample_s", "prometheus", "window")

History = dict[int, deque[float | None]]


class Quit(Exception):
    """The user has seen enough."""


def watch(asked: Shown) -> int:
    """Show the GPUs until q, Ctrl-C or the last of `--count` refreshes; returns 0.

    Each refresh lasts as long as its sample: rates are those of the whole interval. On a terminal the view is redrawn in
    place and the terminal is left as it was found; elsewhere, and with `--json`, each refresh prints its own lines.
    """
    seconds, count = _seconds(asked.value or ""), _count(asked.options.get("count"))
    if other := next((name for name in _NOT_LIVE if asked.arguments.get(name) is not None), None):
        raise UsageError(f"--watch shows this machine's GPUs as they are; leave --{other.replace('_', '-')} out")
    with open_devices(named_by_environment()) as source, contextlib.suppress(Quit, KeyboardInterrupt):
        if not source.devices():
            print(inspect(source, id_of).summary)
        elif asked.as_json:
            _print_answers(source, asked.arguments, count, _waiting(seconds))
        elif sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            with _screen(sys.stdout) as keys:
                _show(source, asked.arguments["indices"], count, _Face(_columns, _redraw, _listening(seconds, keys)))
        else:
            _show(source, asked.arguments["indices"], count, _Face(lambda: UNCUT, _print, _waiting(seconds)))
    return 0


@dataclass(frozen=True, slots=True)
class _Face:
    """Where frames are shown: how wide they may be, how one is drawn, and the pause until the next."""

    width: Callable[[], int]
    draw: Callable[[Sequence[str]], None]
    pause: Pause


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if sampling.SHORTEST_S < float(text) <= LONGEST_S:
            return float(text)
    raise UsageError(
        f"--watch takes seconds above {sampling.SHORTEST_S:g} and up to {LONGEST_S:,.0f}, not {shown(text)}; 1 is usual"
    )


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) < 10**9):
        raise UsageError(f"--count takes how many refreshes to show, from 1 on, not {shown(text)}")
    return int(text)


def _refreshes(source: DeviceSource, count: int | None, pause: Pause) -> Iterator[int]:
    """A number a refresh; a recording, which waits for nothing, is waited for here."""
    recorded = source.driver().recorded is not None
    done = 0
    while count is None or done < count:
        yield done
        done += 1
        if recorded and done != count:
            pause()


def _print_answers(source: DeviceSource, arguments: Mapping[str, Any], count: int | None, pause: Pause) -> None:
    for _ in _refreshes(source, count, pause):
        answer = inspect(source, id_of, arguments["indices"], arguments["detail"], pause=pause)
        print(answer.json_text(), flush=True)


def _show(source: DeviceSource, indices: Sequence[int] | None, count: int | None, face: _Face) -> None:
    history: History = {}
    driver = source.driver()
    for _ in _refreshes(source, count, face.pause):
        readings = choose(source.devices(face.pause), indices)
        for reading in readings:
            history.setdefault(reading.index, deque(maxlen=LONGEST_HISTORY)).append(load(reading))
        findings = GPUS.find(Machine(tuple(readings), driver))
        face.draw(frame(readings, findings, history, face.width()))


def load(reading: DeviceReading) -> float | None:
    """What the bar shows, in percent: real SM activity where the GPU counts it, else utilisation."""
    share = reading.activity.sm_percent if reading.activity else None
    return reading.utilization_percent if share is None else share


def frame(
    readings: Sequence[DeviceReading], findings: Sequence[Finding[Machine]], history: History, width: int
) -> list[str]:
    """One refresh as lines of at most `width` columns: a line per GPU, then the findings."""
    room = min(max(width - BESIDE_HISTORY, SHORTEST_HISTORY), LONGEST_HISTORY)
    share = "SMs busy" if any(reading.activity for reading in readings) else "utilisation"
    lines = [f"GPU  {share:<17}{'history':<{room + 2}}{'memory':<15}{'power':<11}heat     clock"]
    lines += [line(reading, list(history.get(reading.index, ()))[-room:], room) for reading in readings]
    lines += ["", *(f"{_MARKS[found.severity]} {found.seen.message}" for found in findings)]
    lines += [] if findings else ["nothing wrong in what they report"]
    return [terminal.without_controls(text)[:width] for text in lines]


def line(reading: DeviceReading, history: Sequence[float | None], room: int) -> str:
    """One GPU as a line: bar, history, memory, power, heat and clock."""
    if reading.failure:
        return f"{reading.index:>3}  {reading.failure}"
    share = load(reading)
    percent = "   -" if share is None else f"{share:3.0f}%"
    memory = f"{_gib(reading.memory_used_bytes)}/{_gib(reading.memory_total_bytes)} GiB"
    watts = f"{_watts(reading.power_mw)}/{_watts(reading.power_limit_mw)} W"
    heat, clock = f"{_or_dash(reading.temperature_c)}°C", f"{_or_dash(reading.sm_clock_mhz)} MHz"
    shown_ = f"{bar(share)} {percent}  {spark(history):<{room}}"
    return f"{reading.index:>3}  {shown_}  {memory:<15}{watts:<11}{heat:>5} {clock:>8}"


def bar(percent: float | None) -> str:
    """A share as a bar of `BAR` cells."""
    filled = round(min(max(percent or 0.0, 0.0), 100.0) / 100 * BAR)
    return "█" * filled + "░" * (BAR - filled)


def spark(values: Sequence[float | None]) -> str:
    """Shares in percent as a line of small bars, the latest last; a value that is not known is a blank."""
    steps = len(SPARKS) - 1
    return "".join(" " if v is None else SPARKS[round(min(max(v, 0.0), 100.0) / 100 * steps)] for v in values)


def _gib(count: int | None) -> str:
    return "-" if count is None else number(round(gib(count), 1))


def _watts(milliwatts: int | None) -> str:
    return "-" if milliwatts is None else f"{milliwatts / 1000:.0f}"


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _columns() -> int:
    return shutil.get_terminal_size().columns


def _redraw(lines: Sequence[str]) -> None:
    rows = shutil.get_terminal_size().lines - 1
    told = [*lines[: max(rows - 1, 1)], "q ends"]
    sys.stdout.write(HOME + "\n".join(text + REST_OF_LINE for text in told) + REST_OF_SCREEN)
    sys.stdout.flush()


def _print(lines: Sequence[str]) -> None:
    print("\n".join(lines), end="\n\n", flush=True)


@contextmanager
def _screen(out: TextIO) -> Iterator[int | None]:
    """The terminal's second screen without a cursor, and where keys can be read one by one the input to read them from.

    Whatever happens, the terminal is put back as it was.
    """
    with _keys() as keys:
        out.write(ENTER)
        out.flush()
        try:
            yield keys
        finally:
            out.write(LEAVE)
            out.flush()


@contextmanager
def _keys() -> Iterator[int | None]:
    try:
        import termios
        import tty
    except ImportError:  # Windows: Ctrl-C ends it
        yield None
        return
    stdin: Any = sys.stdin
    if stdin is None or not stdin.isatty():
        yield None
        return
    keys = stdin.fileno()
    before = termios.tcgetattr(keys)
    try:
        tty.setcbreak(keys)
        yield keys
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


def _waiting(seconds: float) -> Pause:
    def pause() -> float:
        start = sampling.now()
        sampling.sleep(seconds)
        return sampling.now() - start

    return pause


def _listening(seconds: float, keys: int | None) -> Pause:
    """A pause that q, or the end of the input, ends for good."""
    if keys is None:
        return _waiting(seconds)

    def pause() -> float:
        start = sampling.now()
        while (left := seconds - (sampling.now() - start)) > 0:
            if select.select([keys], [], [], left)[0] and os.read(keys, 1) in (b"q", b"Q", b"\x03", b"\x04", b""):
                raise Quit
        return sampling.now() - start

    return pause
