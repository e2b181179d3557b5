"""The types every tool answers with, and the one place that turns an answer into text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Detail = Literal["brief", "full"]
Interval = tuple[float, float]

GIB = 2**30


def gib(count: float) -> float:
    """Bytes as GiB (2^30), rounded to 0.01."""
    return round(count / GIB, 2)


class Row(BaseModel):
    """A part of an answer: plain fields, unknown ones refused."""

    model_config = ConfigDict(extra="forbid")


class Derivation(Row):
    """How one figure came about; listed with detail="full"."""

    figure: str = Field(description="Dotted name of the figure")
    formula: str = Field(description="The formula, in the names of the inputs")
    inputs: Mapping[str, int | float | str] = Field(default_factory=dict)
    source: str | None = Field(default=None, description="Where formula or inputs come from")


class Answer(BaseModel):
    """What every tool returns: a summary with the number, the figures, and what they rest on."""

    model_config = ConfigDict(extra="forbid")

    summary: str = Field(description="One sentence with the number")
    assumptions: list[str] = Field(default_factory=list, description="What was taken as given, defaults included")
    warnings: list[str] = Field(default_factory=list)
    sources: list[str] = Field(default_factory=list, description="Source ids, readable at advisor://sources/{id}")
    next_measurement: str | None = Field(default=None, description="What to measure to be surer")
    derivation: list[Derivation] | None = Field(default=None, description="Formula and inputs per figure, detail=full")
    omitted: list[str] | None = Field(default=None, description="What was left out to keep the answer short")

    def data(self) -> dict[str, Any]:
        """The structured channel: JSON-ready, absent values left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def json_text(self) -> str:
        """The structured channel as compact JSON."""
        return json.dumps(self.data(), ensure_ascii=False, separators=(",", ":"))

    def text(self) -> str:
        """The text channel: compact Markdown that says everything the structured one says."""
        return to_markdown(self.data())


_IDENTIFIERS = ("pid", "index")  # printed as they are, not as amounts
_TAIL = ("assumptions", "warnings", "sources", "next_measurement", "derivation", "omitted")


def to_markdown(data: dict[str, Any]) -> str:
    """Render an answer's structured form as compact Markdown: summary, figures, then what they rest on."""
    lines = [str(data["summary"])]
    for name, value in data.items():
        if name != "summary" and name not in _TAIL and value not in ([], {}):
            lines.extend(_field(name, value))
    for name in _TAIL:
        if data.get(name):
            lines.extend(_field(name, data[name]))
    return "\n".join(lines)


def number(value: float) -> str:
    """A number as people read it: thousands separated, no trailing zeros, no exponent below 10^15."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if abs(value) >= 1e15 or 0 < abs(value) < 1e-4:
        return f"{value:.4g}"
    return f"{value:,.6f}".rstrip("0").rstrip(".") if abs(value) < 10_000 else f"{value:,.2f}".rstrip("0").rstrip(".")


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return number(value)
    if isinstance(value, dict):
        return "; ".join(f"{k} {_named(k, v)}" for k, v in value.items() if v not in ([], {}))
    if isinstance(value, list):
        return (
            f"{_plain(value[0])} to {_plain(value[1])}" if _is_interval(value) else ", ".join(_plain(v) for v in value)
        )
    return str(value)


def _named(name: str, value: Any) -> str:
    return str(value) if name in _IDENTIFIERS else _plain(value)


def _is_interval(value: list[Any]) -> bool:
    return len(value) == 2 and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _field(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, str) and "\n" in value:
        yield f"\n{value}"
    elif _is_table(value):
        yield f"\n**{name}**"
        yield from _table(value)
    elif isinstance(value, dict):
        tables = {k: v for k, v in value.items() if _is_table(v)}
        rest = {k: v for k, v in value.items() if k not in tables}
        yield f"- **{name}**: {_plain(rest)}"
        for key, rows in tables.items():
            yield from _field(f"{name}.{key}", rows)
    elif isinstance(value, list) and value and isinstance(value[0], str) and name in _TAIL:
        yield f"- **{name}**: " + " | ".join(value)
    else:
        yield f"- **{name}**: {_plain(value)}"


def _table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield (
            "| "
            + " | ".join(_named(c, row[c]).replace("|", "\\|").replace("\n", " ") if c in row else "" for c in columns)
            + " |"
        )


def present(answer: Answer, limit: int | None = None) -> tuple[dict[str, Any], str]:
    """Both channels of an answer, structured and text, each at most `limit` bytes of UTF-8.

    Where an answer is longer, its longest list is halved until it fits, and `omitted` says how many entries are not shown.
    """
    data = answer.data()
    text = to_markdown(data)
    while limit is not None and max(_size(data), len(text.encode())) > limit and _halve_longest(data):
        text = to_markdown(data)
    return data, text


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _lists(value: Any, name: str = "") -> Iterator[tuple[str, list[Any]]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lists(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        if len(value) > 1 and not _is_interval(value) and name != "omitted":
            yield name, value
        for inner in value:
            yield from _lists(inner, name)


def _halve_longest(data: dict[str, Any]) -> bool:
    found = max(_lists(data), key=lambda item: _size(item[1]), default=None)
    if found is None:
        return False
    name, values = found
    gone = len(values) - len(values) // 2
    del values[len(values) // 2 :]
    notes = {note.split(":")[0]: note for note in data.get("omitted", [])}
    earlier = int(notes[name].split()[1]) if name in notes else 0
    notes[name] = f"{name}: {earlier + gone} more"
    data["omitted"] = list(notes.values())
    return True
