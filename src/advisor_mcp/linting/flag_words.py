"""The flags of a command line, read by the tool's option table: names, values, switches, what is left."""

from __future__ import annotations

import re
from collections.abc import Sequence as Words
from dataclasses import dataclass, replace
from typing import Any

from advisor_mcp.linting.options import Option
from advisor_mcp.linting.reading_json import read_json
from advisor_mcp.linting.shell import dropped
from advisor_mcp.linting.source import Span
from advisor_mcp.linting.tree import UNKNOWN, IsTemplate, Malformed, Mapping, Sequence, plain
from advisor_mcp.linting.unit import Setting, flatten, table_of
from advisor_mcp.linting.words import HOLE, Word

_NEGATIVE = re.compile(r"-(\d|\.\d)")
FLAG = re.compile(r"--?[A-Za-z]")


@dataclass
class Options:
    """What the flags of a command line say."""

    settings: dict[str, Setting]
    positionals: list[Word]
    open: bool
    rest: tuple[Word, ...] = ()


def parse_options(
    words: Words[Word], tool: str, scope: str, *, stop: bool = False, target: str | None = None
) -> Options:
    """Read flags by the tool's option table; a flag that is not in it takes the next word unless that is a flag too.

    With `stop` the first positional ends it and the remaining words are left in `rest` (a launcher and its script).
    """
    known = table_of(tool)
    if known is not None and scope not in known.scopes:
        known = None
    found = Options({}, [], False)
    at, script = 0, None
    while at < len(words):
        word = words[at]
        at += 1
        if word.spreads:
            found.open, script = True, at - 1
            continue
        text = word.text
        if text == "--":
            continue
        if not FLAG.match(text) or _NEGATIVE.match(text):
            found.positionals.append(word)
            if stop:
                found.rest = tuple(words[at - 1 :])
                return found
            continue
        written, equals, tail = text.partition("=")
        option = known.option(scope, written, target) if known else None
        name = _canonical(written, option)
        if stop and name in ("m", "module"):
            found.settings["module"] = Setting("module", True, word.span, word.span, written, "shell")
            found.rest = tuple(words[at:])
            return found
        if stop and known and option is None and script is not None:
            found.rest = tuple(words[script:])  # the unknown variable before it was the script
            return found
        key = Span(word.span.source, word.span.start, min(word.span.start + len(written), word.span.end))
        if equals:
            place = word.sub(len(written) + 1) if tail else word.span
            _keep(found, name, tail, key, place, written, (after(word, len(written) + 1),))
            continue
        values, at = _values(words, at, option, scripts=stop or known is None)
        if not values:
            switch = not _negates(written, option, name)
            found.settings[name] = Setting(name, switch, key, key, written, "shell")
            continue
        place = Span(values[0].span.source, values[0].span.start, values[-1].span.end)
        if values[-1].span.source is not values[0].span.source or place.end < place.start:
            place = values[0].span
        text = values[0].text if len(values) == 1 else " ".join(value.text for value in values)
        _keep(found, name, text, key, place, written, tuple(values))
    return found


def _canonical(written: str, option: Option | None) -> str:
    name = option.name if option else written.lstrip("-")
    return name.lstrip("-").replace("-", "_")


def _negates(written: str, option: Option | None, name: str) -> bool:
    """Whether a switch is the ``--no-`` form of an option that is known by its positive name."""
    plain = written.lstrip("-").replace("-", "_")
    return option is not None and plain.startswith("no_") and not name.startswith("no_")


def after(word: Word, start: int) -> Word:
    return replace(word, pieces=word.pieces) if start <= 0 else Word(_cut(word, start), word.sub(start), word.quoted)


def _cut(word: Word, start: int) -> tuple[Any, ...]:
    return dropped(word.pieces, start)


def _values(words: Words[Word], at: int, option: Option | None, *, scripts: bool) -> tuple[list[Word], int]:
    """The words that are an option's values; one that is not known takes no script, where `scripts` may follow."""
    most: float = 1
    if option is not None:
        if option.nargs in ("+", "*") or option.nargs == "...":
            most = float("inf")
        elif isinstance(option.nargs, int):
            most = option.nargs
        elif option.type == "bool" and option.nargs is None:
            most = 1
    found: list[Word] = []
    while at < len(words) and len(found) < most:
        word = words[at]
        if word.spreads:
            break
        if (FLAG.match(word.text) and not word.quoted) or (word.text.startswith("--") and " " not in word.text):
            break
        if option is None and scripts and word.text.endswith(".py"):
            break
        found.append(word)
        at += 1
    if not found and at < len(words) and words[at].spreads and most >= 1 and option is not None and option.nargs != 0:
        return [words[at]], at + 1  # an unknown variable outside quotes stands for the one value that must follow
    if not found and at < len(words) and words[at].spreads and option is None:
        return [words[at]], at + 1
    return found, at


def _keep(found: Options, name: str, text: str, key: Span, place: Span, written: str, values: tuple[Word, ...]) -> None:
    value: Any = UNKNOWN if HOLE in text else text
    found.settings[name] = Setting(name, value, key, place, written, "shell")
    stripped = text.strip()
    if stripped[:1] in ("{", "[") and len(values) == 1 and len(stripped) > 2:
        embedded = values[0].span.source.embedded(values[0].text.replace(HOLE, "null"), values[0].offsets)
        try:
            tree = read_json(embedded)
        except (Malformed, IsTemplate):
            return
        if isinstance(tree, Mapping):
            for path, setting in flatten(tree, "json").items():
                found.settings[f"{name}.{path}"] = replace(setting, name=f"{name}.{path}")
        if isinstance(tree, Sequence):
            found.settings[name] = Setting(name, plain(tree), key, place, written, "shell", tree)
