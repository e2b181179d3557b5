"""The words of a compile log: why a frame was compiled again, why a graph broke. Paths are cut to their last part."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from advisor_mcp.tracing.compile_log.log import Reason, ReasonKind

LONGEST = 160
_PATH = re.compile(  # a path from the root of two parts or more, or any path of a Python file; no URL, no "inf/nan"
    r"(?<![\w:/\\])(?:[A-Za-z]:)?[/\\](?:[\w.@~+-]+[/\\])+([\w.@+-]+)|(?<![\w:/\\.@~+-])(?:[\w.@~+-]+[/\\])+([\w.@+-]+\.py)\b"
)
_REASON = re.compile(r"(?:(?P<id>!?\d[\d/]*): +)?(?P<guard>.*?)(?:\s{2,}#(?P<comment>.*))?$")
_COMMENT = re.compile(r"(?P<file>[^\s/\\]+\.py):(?P<line>\d+) in (?P<name>\S+)\s*$")
_FRAME = re.compile(r'File "(?P<path>[^"]+)", line (?P<line>\d+)(?:, in (?P<name>\S+))?')
_BREAK_AT = re.compile(r"Graph break in user code at (?P<path>.+?):(?P<line>\d+)\s*$", re.MULTILINE)
_OPERATOR = re.compile(r"(?:operator|function|method|module|class) `(?P<name>[^`]+)`")
_BREAK_WHY = re.compile(r"^(?:Graph Break )?Reason: (?P<why>.+)$", re.MULTILINE)
_KINDS: tuple[tuple[ReasonKind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))  # type: ignore[misc]
    for kind, pattern in (
        ("stride", r"stride mismatch|\.stride\("),
        ("rank", r"rank mismatch"),
        ("dtype", r"dtype mismatch"),
        ("gradient", r"requires_grad mismatch"),
        ("mode", r"dispatch key set mismatch|GLOBAL_STATE|___check_global_state|torch_function_mode_stack"),
        ("device", r"device (?:index )?mismatch|CURRENT_DEVICE"),
        ("shape", r"size mismatch|\.size\(|\.shape\[|\bEq\(|\bNe\(|\bMod\("),
        ("length", r"\blen\(|_iterator_len\("),
        ("identity", r"___check_(?:obj|type)_id|\bis (?:not )?|hasattr\(|expected type of|___dict_"),
        ("value", r"=="),
    )
)


def base_name(path: str) -> str:
    """The last part of a path of any system."""
    return re.split(r"[/\\]", path)[-1]


def scrubbed(text: str, longest: int = LONGEST) -> str:
    """A text on one line without directories, cut at `longest` characters."""
    line = " ".join(_PATH.sub(lambda found: found[1] or found[2], text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def place(path: str, line: object, name: object = None) -> str:
    """``rec.py:3`` or ``rec.py:3 f``."""
    return f"{base_name(path)}:{line}" + (f" {name}" if name else "")


def reasons(payload: str) -> tuple[Reason, ...]:
    """The reasons in a `recompile_reasons` artifact: one text, or a JSON list of them, the latest compilation first."""
    texts = [payload]
    if payload.lstrip().startswith("["):
        try:
            texts = [text for text in json.loads(payload) if isinstance(text, str)]
        except (ValueError, RecursionError):
            texts = re.findall(r'^"(.*?)",?$', payload, re.MULTILINE)
    return tuple(reason(text) for text in texts if text.strip())


def reason(text: str) -> Reason:
    """One reason: ``0/0: n == 3.0   # def f(x,n): ...  # work/rec.py:3 in f``."""
    first = text.strip().splitlines()[0]
    found = _REASON.match(first)
    guard, against, comment = (found["guard"], found["id"], found["comment"]) if found else (first, None, None)
    where = _COMMENT.search(comment or "")
    named = place(where["file"], where["line"], where["name"]) if where else _last_frame(text)
    return Reason(scrubbed(guard), kind_of(guard), against, named)


def kind_of(guard: str) -> ReasonKind:
    """What a failed guard was about, by the words that torch 2.13 uses (torch/_dynamo/guards.py and its C++ guards)."""
    return next((kind for kind, pattern in _KINDS if pattern.search(guard)), "other")


def _last_frame(text: str) -> str | None:
    frames = list(_FRAME.finditer(text))
    return place(frames[-1]["path"], frames[-1]["line"], frames[-1]["name"]) if frames else None


def graph_break(payload: str) -> tuple[str | None, str, str | None, bool]:
    """Where and why a graph broke, what PyTorch hints at, and whether the whole frame is left to eager mode."""
    skipped = "will skip tracing the frame" in payload or "fall back to eager" in payload
    at = _BREAK_AT.search(payload)
    where = place(at["path"], at["line"]) if at else _last_frame(payload.split("\nTraceback ")[0])
    return where, scrubbed(_why(payload)), next(_hints(payload), None), skipped


def _why(payload: str) -> str:
    """The line above "Explanation:", which names the kind of break; before torch 2.7 the line after "Reason:"."""
    above, explained, below = payload.partition("\n  Explanation:")
    if explained:
        kind = above.strip().splitlines()[-1].removeprefix("Graph Break Reason: ")
        named = _OPERATOR.search(below.splitlines()[0])
        return f"{kind} ({named['name']})" if named and named["name"] not in kind else kind
    found = _BREAK_WHY.search(payload)
    return found["why"] if found else payload.strip().splitlines()[0] if payload.strip() else "no reason logged"


def _hints(payload: str) -> Iterator[str]:
    for line in payload.splitlines():
        text = line.strip().removeprefix("Hint: ")
        if text != line.strip() and "report an issue" not in text and "fundamental" not in text:
            yield scrubbed(text, 300)
