"""Reads a persona's file: YAML front matter, checked strictly, and a Jinja2 body, left as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast, get_args

from advisor_mcp.errors import UsageError, nearest, shown
from advisor_mcp.personas.persona import Check, Domain, Item, Persona, Rule, Severity, Step
from advisor_mcp.personas.shared import SHARED_RULES

__all__ = ["Check", "Domain", "Item", "Persona", "Rule", "Step", "load_persona", "parse_persona"]

Built = TypeVar("Built")

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TOOL = re.compile(r"[a-z][a-z0-9_]*")
_FRONT_MATTER = re.compile(r"---[ \t]*\n(?P<head>.*?)^---[ \t]*(?:\n|\Z)(?P<body>.*)", re.DOTALL | re.MULTILINE)
_NAME_LIMIT, _SENTENCE_LIMIT, _DESCRIPTION_LIMIT = 64, 80, 400


def load_persona(path: Path) -> Persona:
    """Read the persona file at `path`; raises `UsageError` for a file that cannot be read or is named otherwise."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        why = "it is not UTF-8" if isinstance(problem, UnicodeDecodeError) else problem.strerror
        raise UsageError(f"persona file {path.name} cannot be read ({why}); name a Markdown file") from None
    persona = parse_persona(text, path.name)
    if persona.name != path.stem:
        _refuse(path.name, f"name is {shown(persona.name)} where the file is called {path.stem}; make the two equal")
    return persona


def parse_persona(text: str, origin: str) -> Persona:
    """Make a `Persona` of a file's text; `origin` names the file in errors.

    Raises `UsageError`, one sentence with file and key, for an unknown, missing or duplicated key, a wrong type,
    an id used twice, or a check whose pattern does not compile.
    """
    found = _FRONT_MATTER.match(text)
    if found is None:
        _refuse(origin, "there is no front matter; start the file with a line ---, the keys, and another line ---")
    values = _Mapping(_yaml(found["head"], origin), origin, "", _FIELDS)
    persona = Persona(
        **{key: read(values, key) for key, read in _FIELDS.items()},
        body=found["body"],
        origin=origin,
        body_line=text.count("\n", 0, found.start("body")) + 1,
    )
    _check_heading(persona)
    _check_ids(persona)
    return persona


def _refuse(origin: str, problem: str) -> NoReturn:
    raise UsageError(f"persona file {origin}: {problem}") from None


def _yaml(head: str, origin: str) -> object:
    import yaml

    class Strict(yaml.SafeLoader):
        """A loader that refuses a key given twice, where YAML's own would keep the last one."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    _refuse(origin, f"key {shown(key)} stands twice from line {node.start_mark.line + 2} on; keep one")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(head, Strict)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f" at line {mark.line + 2}" if mark else ""
        reason = getattr(problem, "problem", None) or "a character that YAML does not allow"
        _refuse(origin, f"the front matter is not valid YAML{line} ({reason}); mend it")


class _Mapping:
    """One mapping of the front matter with the path that leads to it; unknown keys are refused when it is made."""

    def __init__(self, value: object, origin: str, path: str, known: Mapping[str, Any]) -> None:
        self.origin, self.path = origin, path
        allowed = ", ".join(known)
        if not isinstance(value, dict):
            _refuse(origin, f"{path or 'the front matter'} is {shown(value)} where a mapping of {allowed} is needed")
        self.values: dict[Any, Any] = value
        for key in value:
            if key not in known:
                meant = nearest(str(key), known)
                _refuse(origin, f"unknown key {shown(key)}{self._where()}{meant} (allowed: {allowed})")

    def _where(self) -> str:
        return f" in {self.path}" if self.path else ""

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def get(self, key: str, kind: type[Built], wanted: str) -> Built:
        if key not in self.values:
            _refuse(self.origin, f"key {key!r} is missing{self._where()}; add {wanted}")
        value = self.values[key]
        if not isinstance(value, kind):
            _refuse(self.origin, f"{self.at(key)} is {shown(value)} where {wanted} is needed")
        return value


def _text(values: _Mapping, key: str) -> str:
    text = values.get(key, str, "text").strip()
    if not text:
        _refuse(values.origin, f"{values.at(key)} is empty; write its text")
    return text


def _id(values: _Mapping, key: str) -> str:
    text = _text(values, key)
    if not _NAME.fullmatch(text) or len(text) > _NAME_LIMIT:
        allowed = f"at most {_NAME_LIMIT} lower-case letters, digits and single hyphens"
        _refuse(values.origin, f"{values.at(key)} is {shown(text)}; use {allowed}")
    return text


def _flag(values: _Mapping, key: str) -> bool:
    return values.get(key, bool, "true or false") if key in values.values else False


def _texts(values: _Mapping, key: str) -> tuple[str, ...]:
    listed = values.get(key, list, "a list of texts")
    for text in listed:
        if not isinstance(text, str) or not text.strip():
            _refuse(values.origin, f"{values.at(key)} holds {shown(text)} where text is needed")
    return tuple(listed)


def _tools(values: _Mapping, key: str) -> tuple[str, ...]:
    names = _texts(values, key)
    for name in names:
        if not _TOOL.fullmatch(name):
            _refuse(values.origin, f"{values.at(key)} holds {shown(name)}; give bare tool names such as describe_model")
    return names


def _severity(values: _Mapping, key: str) -> Severity:
    text = _text(values, key)
    if text not in get_args(Severity):
        _refuse(values.origin, f"{values.at(key)} is {shown(text)}; use must or should")
    return cast(Severity, text)


def _pattern(values: _Mapping, key: str, text: str) -> str:
    try:
        re.compile(text)
    except re.error as problem:
        found = f"{values.at(key)} holds {shown(text)}"
        _refuse(values.origin, f"{found}, which is no regular expression ({problem.msg}); mend it")
    return text


def _patterns(values: _Mapping, key: str) -> tuple[str, ...]:
    return tuple(_pattern(values, key, text) for text in _texts(values, key)) if key in values.values else ()


def _columns(values: _Mapping, key: str) -> tuple[str, ...]:
    return _texts(values, key) if key in values.values else ()


def _when(values: _Mapping, key: str) -> str | None:
    return _pattern(values, key, _text(values, key)) if key in values.values else None


def _check(values: _Mapping, key: str) -> Check | None:
    if key not in values.values:
        return None
    inner = _Mapping(values.values[key], values.origin, values.at(key), _CHECK)
    check: Check = Check(**{name: read(inner, name) for name, read in _CHECK.items()})
    if not (check.forbid or check.require or check.table_columns):
        _refuse(values.origin, f"{values.at(key)} tests nothing; give forbid, require or table_columns")
    return check


def _each(made: type[Built], fields: Mapping[str, Any], values: _Mapping, key: str) -> tuple[Built, ...]:
    listed = values.get(key, list, "a list")
    rows = [_Mapping(value, values.origin, f"{values.at(key)}[{place}]", fields) for place, value in enumerate(listed)]
    return tuple(made(**{name: read(row, name) for name, read in fields.items()}) for row in rows)


def _check_heading(persona: Persona) -> None:
    first = re.split(r"(?<=[.!?])\s", persona.description, maxsplit=1)[0]
    if len(persona.description) > _DESCRIPTION_LIMIT or len(first) > _SENTENCE_LIMIT:
        _refuse(
            persona.origin,
            f"description has {len(persona.description)} characters and {len(first)} in its first sentence; "
            f"use at most {_DESCRIPTION_LIMIT} and {_SENTENCE_LIMIT}",
        )
    if "Use when" not in persona.description:
        _refuse(persona.origin, "description does not say when to use the persona; add a sentence 'Use when ...'")


def _check_ids(persona: Persona) -> None:
    shared = {rule.id for rule in SHARED_RULES}
    seen: set[str] = set()
    for name in persona.ids():
        if name in seen:
            _refuse(persona.origin, f"id {name!r} stands twice; every id of a persona is its own")
        if name in shared:
            _refuse(persona.origin, f"id {name!r} is that of a rule which every persona shares; choose another")
        seen.add(name)


_CHECK: dict[str, Any] = {"forbid": _patterns, "require": _patterns, "table_columns": _columns, "when": _when}
_ITEM: dict[str, Any] = {"id": _id, "text": _text, "essential": _flag}
_DOMAIN: dict[str, Any] = {"id": _id, "title": _text, "topics": _texts}
_STEP: dict[str, Any] = {"id": _id, "title": _text, "text": _text}
_RULE: dict[str, Any] = {"id": _id, "severity": _severity, "text": _text, "check": _check}
_FIELDS: dict[str, Any] = {
    "name": _id,
    "title": _text,
    "description": _text,
    "tools": _tools,
    "background": _text,
    "objectives": partial(_each, Item, _ITEM),
    "domains": partial(_each, Domain, _DOMAIN),
    "protocol": partial(_each, Step, _STEP),
    "style": partial(_each, Item, _ITEM),
    "rules": partial(_each, Rule, _RULE),
}
