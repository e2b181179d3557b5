"""Many calls of one tool: a JSON object of arguments a line in, a JSON answer a line out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

from advisor_mcp.errors import AdvisorError, UsageError, error_json, shown

if TYPE_CHECKING:
    from advisor_mcp.catalogue import Catalogue

BAR_COLUMNS = 30
_REDRAWN_EVERY_S = 0.1


class Meter:
    """Progress on one line of stderr; draws nothing where stderr is no terminal. It is a `declaration.Progress`."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream is not None and self._stream.isatty()
        self._drawn_at = float("-inf")

    def check(self) -> None:
        """Nothing to check: Ctrl-C ends the process."""

    def report(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Redraw the line, at most ten times a second."""
        if self._live and time.monotonic() - self._drawn_at >= _REDRAWN_EVERY_S:
            self._drawn_at = time.monotonic()
            self._stream.write(f"\r{drawn(done, total, message)}\x1b[K")
            self._stream.flush()

    def clear(self) -> None:
        """Wipe the line, so that what follows starts on a clean one."""
        if self._live and self._drawn_at > float("-inf"):
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def drawn(done: float, total: float | None, message: str | None) -> str:
    """``[######----]  60 %  message``, or the count alone where the total is not known."""
    said = f"  {message}" if message else ""
    if not total or total <= 0:
        return f"{done:,.0f}{said}"
    share = min(max(done / total, 0.0), 1.0)
    filled = round(share * BAR_COLUMNS)
    return f"[{'#' * filled}{'-' * (BAR_COLUMNS - filled)}] {share:4.0%}{said}"


def run(catalogue: Catalogue, tool: str, lines: Iterable[str], out: TextIO, size: int | None = None) -> int:
    """Answer every line in order on `out`, each at once, and return how many there were.

    A line that cannot be answered, a blank one too, gets ``{"error": {...}}``, so that the lines of both sides match.
    `size` is the input's length in bytes where that is known, for the progress shown on a terminal.
    """
    catalogue.declaration(tool)
    meter, count, read = Meter(), 0, 0
    for line in lines:
        out.write(answer_line(catalogue, tool, line) + "\n")
        out.flush()
        count, read = count + 1, read + len(line)
        meter.report(read if size else count, size, f"{count:,} lines")
    meter.clear()
    return count


def answer_line(catalogue: Catalogue, tool: str, line: str) -> str:
    """The answer to one line of arguments as one line of compact JSON."""
    try:
        return catalogue.call(tool, arguments(line)).json_text()
    except AdvisorError as error:
        return json.dumps(error_json(error), ensure_ascii=False, separators=(",", ":"))


def arguments(text: str) -> dict[str, Any]:
    """The JSON object that a text holds; raises `UsageError` for a text that holds none."""
    plain = text.strip().removeprefix("\ufeff")
    if not plain:
        raise UsageError("nothing is given; give the arguments as one JSON object, {} for none")
    if not plain.isascii() and any("\ud800" <= letter <= "\udfff" for letter in plain):
        raise UsageError("the arguments are not UTF-8 text; give them as a JSON object in UTF-8")
    try:
        found = json.loads(plain)
    except RecursionError:
        raise UsageError("the arguments are nested too deeply; pass a plain configuration") from None
    except ValueError:
        raise UsageError(f"the arguments are not JSON: {shown(plain)}; give one JSON object") from None
    if not isinstance(found, dict):
        raise UsageError(f"the arguments must be a JSON object, not {shown(found)}")
    return found
