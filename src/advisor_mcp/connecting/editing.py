"""Sets one value in a JSON or TOML text and leaves every other character of it as it was."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_DECODER = json.JSONDecoder()
_STRING = r'"(?:\\.|[^"\\\n])*"'
_COMMENT = re.compile(rf"{_STRING}|//[^\r\n]*|/\*.*?\*/", re.DOTALL)
_TRAILING_COMMA = re.compile(rf"{_STRING}|,(?=\s*[}}\]])")


class EditError(ValueError):
    """The text cannot be read, or not edited safely; the message is a clause that says why, with the line if known."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a program accepts in its JSON files beyond JSON itself."""

    comments: bool = False
    trailing_commas: bool = False


@dataclass(frozen=True, slots=True)
class _Member:
    """One `"key": value` of an object: where the key starts, and where the value starts and ends."""

    key: str
    key_start: int
    start: int
    end: int


def read_json(text: str, dialect: Dialect = Dialect()) -> dict[str, Any]:
    """The object that a JSON text holds; an empty text holds none. Raises `EditError` naming the line."""
    return _read_plain(_plain(text, dialect))


def set_json(text: str, path: Sequence[str], value: Any, dialect: Dialect = Dialect()) -> str:
    """The text with `value` at `path`, comments, order, indentation and line ends kept.

    Objects missing on the way are made. Raises `EditError` where the text cannot be read or something that is not an
    object lies on the path.
    """
    plain = _plain(text, dialect)
    expected = _with(_read_plain(plain), path, value)
    if not plain.strip():
        return json.dumps(expected, indent=2, ensure_ascii=False) + "\n"
    edited = _set_member(text, plain, path, value)
    _verify(read_json(edited, dialect), expected)
    return edited


def read_toml(text: str) -> dict[str, Any]:
    """The tables that a TOML text holds. Raises `EditError` naming the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EditError(f"it is not TOML: {_clause(str(error))}") from None


def set_toml(text: str, table: Sequence[str], values: Mapping[str, str | list[str]]) -> str:
    """The text with these keys in `[table]`, comments, order and line ends kept; a missing table is appended.

    Raises `EditError` where the text cannot be read, or is written in a way that cannot be edited line by line
    (inline tables, dotted keys): nothing is guessed.
    """
    before = read_toml(text)
    expected = before
    for key, value in values.items():
        expected = _with(expected, [*table, key], value)
    change = _append_table if _at(before, table) is None else _replace_keys
    edited = change(text, table, values)
    try:
        _verify(tomllib.loads(edited), expected)
    except tomllib.TOMLDecodeError:
        raise EditError(f"its table {'.'.join(table[:-1])} is written inline") from None
    return edited


def toml_table(table: Sequence[str], values: Mapping[str, str | list[str]]) -> str:
    """`[table]` and its keys as TOML."""
    return "".join([f"[{'.'.join(table)}]\n", *(f"{key} = {_toml(value)}\n" for key, value in values.items())])


def _plain(text: str, dialect: Dialect) -> str:
    """The text as JSON of the same length: what the dialect allows beyond JSON is replaced by spaces."""
    if dialect.comments:
        text = _COMMENT.sub(_blank, text)
    return _TRAILING_COMMA.sub(_blank, text) if dialect.trailing_commas else text


def _blank(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith('"') else re.sub(r"[^\r\n]", " ", found[0])


def _read_plain(plain: str) -> dict[str, Any]:
    if not plain.strip():
        return {}
    try:
        value = json.loads(plain)
    except json.JSONDecodeError as error:
        raise EditError(f"it is not JSON: line {error.lineno}, column {error.colno}: {_clause(error.msg)}") from None
    except RecursionError:
        raise EditError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise EditError("it does not hold an object")
    return value


def _clause(message: str) -> str:
    return message[:1].lower() + message[1:]


def _with(tree: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of the tree with `value` at `path`."""
    grown = copy.deepcopy(dict(tree))
    node = grown
    for key in path[:-1]:
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise EditError(f"{key!r} is not an object")
    node[path[-1]] = value
    return grown


def _at(tree: Mapping[str, Any], path: Sequence[str]) -> Any:
    node: Any = tree
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _verify(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    # the edit works on characters: what it wrote is read again, and dropped unless it says exactly what was meant
    if found != expected:
        raise EditError("it is written in a way that cannot be edited safely")


def _set_member(text: str, plain: str, path: Sequence[str], value: Any) -> str:
    at = _skip(plain, 0)
    for depth, key in enumerate(path):
        members, close = _members(plain, at)
        found = [member for member in members if member.key == key]
        if not found:
            for name in reversed(path[depth + 1 :]):
                value = {name: value}
            return _insert(text, plain, at, close, members, key, value)
        if depth == len(path) - 1:
            indent = _indent(text, found[-1].key_start)
            return text[: found[-1].start] + _dump(value, text, indent) + text[found[-1].end :]
        at = found[-1].start
    raise AssertionError("a path has at least one key")


def _members(plain: str, at: int) -> tuple[list[_Member], int]:
    """The members of the object that opens at `at`, and where it closes."""
    members: list[_Member] = []
    i = _skip(plain, at + 1)
    while plain[i] != "}":
        key, after = _DECODER.raw_decode(plain, i)
        start = _skip(plain, _skip(plain, after) + 1)
        _, end = _DECODER.raw_decode(plain, start)
        members.append(_Member(key, i, start, end))
        i = _skip(plain, end)
        if plain[i] == ",":
            i = _skip(plain, i + 1)
    return members, i


def _skip(plain: str, i: int) -> int:
    while plain[i] in " \t\r\n":
        i += 1
    return i


def _insert(text: str, plain: str, at: int, close: int, members: Sequence[_Member], key: str, value: Any) -> str:
    name = json.dumps(key, ensure_ascii=False)
    if members and "\n" not in text[at:close]:
        return f"{text[: members[-1].end]}, {name}: {json.dumps(value, ensure_ascii=False)}{text[members[-1].end :]}"
    indent = _indent(text, members[0].key_start) if members else _indent(text, at) + _unit(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    member = f"{newline}{indent}{name}: {_dump(value, text, indent)}"
    if not members:
        kept = text[at + 1 : close].rstrip()
        return f"{text[: at + 1]}{kept}{member}{newline}{_indent(text, at)}{text[close:]}"
    last = members[-1].end
    tail = text[last:close]
    kept = tail.rstrip()
    # a comma that the dialect lets trail is blank in `plain`, and no comma stands there otherwise
    trailing = "," in _COMMENT.sub(_blank, tail)
    before, after = ("", ",") if trailing else (",", "")
    return f"{text[:last]}{before}{kept}{member}{after}{tail[len(kept) :]}{text[close:]}"


def _indent(text: str, at: int) -> str:
    """The white space that the line of this place starts with."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip())]


def _unit(text: str) -> str:
    found = re.search(r'^([ \t]+)"', text, re.MULTILINE)
    return found[1] if found else "  "


def _dump(value: Any, text: str, indent: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    return json.dumps(value, indent=_unit(text), ensure_ascii=False).replace("\n", newline + indent)


def _toml(value: str | list[str]) -> str:
    # a JSON string is a TOML basic string, and a JSON array of them a TOML array
    return json.dumps(value, ensure_ascii=False)


def _append_table(text: str, table: Sequence[str], values: Mapping[str, str | list[str]]) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    ended = text if not text or text.endswith("\n") else text + newline
    gap = newline if ended.strip() else ""
    return ended + gap + toml_table(table, values).replace("\n", newline)


def _replace_keys(text: str, table: Sequence[str], values: Mapping[str, str | list[str]]) -> str:
    lines = text.splitlines(keepends=True)
    header = re.compile(r"\s*\[\s*" + r"\s*\.\s*".join(rf"[\"']?{re.escape(part)}[\"']?" for part in table) + r"\s*\]")
    start = next((i for i, line in enumerate(lines) if header.match(line)), None)
    if start is None:
        raise EditError(f"its table {'.'.join(table)} is written inline")
    for key, value in values.items():
        lines = _replace_key(lines, start, key, value)
    return "".join(lines)


def _replace_key(lines: list[str], start: int, key: str, value: str | list[str]) -> list[str]:
    stop = next((i for i in range(start + 1, len(lines)) if lines[i].lstrip().startswith("[")), len(lines))
    for i in range(start + 1, stop):
        if re.match(rf"\s*{re.escape(key)}\s*=", lines[i]):
            end = _end_of_pair(lines, i, len(lines))
            indent, ending = _indent(lines[i], lines[i].index(key)), _ending(lines[end - 1])
            comment = _comment(lines[end - 1]) if end == i + 1 else ""
            return [*lines[:i], f"{indent}{key} = {_toml(value)}{comment}{ending}", *lines[end:]]
    return [*lines[: start + 1], f"{key} = {_toml(value)}{_ending(lines[start]) or chr(10)}", *lines[start + 1 :]]


def _end_of_pair(lines: Sequence[str], start: int, stop: int) -> int:
    """The line after a `key = value`, whose value may go over several lines."""
    for end in range(start + 1, stop + 1):
        try:
            tomllib.loads("".join(lines[start:end]))
        except tomllib.TOMLDecodeError:
            continue
        return end
    raise EditError("it is written in a way that cannot be edited safely")


def _comment(line: str) -> str:
    """The comment after a one-line `key = value`, with the space before it."""
    body = line.rstrip("\r\n")
    for at in (i for i, letter in enumerate(body) if letter == "#"):
        try:
            tomllib.loads(body[:at])
        except tomllib.TOMLDecodeError:
            continue
        kept = body[:at].rstrip()
        return body[len(kept) :]
    return ""


def _ending(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]
