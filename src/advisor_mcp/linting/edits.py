"""Fixes: the smallest change of a file's text that removes a finding; nothing else in the file moves."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass

from advisor_mcp.linting.source import SourceFile, line_end, line_start
from advisor_mcp.linting.tree import Mapping, Scalar
from advisor_mcp.linting.unit import Setting

_BARE = re.compile(r"[A-Za-z_./][\w./+-]*|-?\d+(\.\d+)?([eE][+-]?\d+)?")
_YAML_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters `start` to `end` of a text become `text`."""

    source: SourceFile
    start: int
    end: int
    text: str

    @property
    def place(self) -> tuple[int, int]:
        """Start and end in the root file."""
        start = self.source.resolve(self.start)
        return start, start if self.end == self.start else self.source.resolve(self.end - 1) + 1


@dataclass(frozen=True, slots=True)
class Fix:
    """What to do, in words, and the edits that do it where they are known. A safe one changes no meaning that was meant."""

    description: str
    edits: tuple[Edit, ...] = ()
    safe: bool = False


# ---- building ----


def rename(setting: Setting, new: str, *, safe: bool = True) -> Fix:
    """Give the key its right name; `new` is the tool's name, and keeps the user's spelling (dashes, quotes)."""
    written = setting.written
    if setting.syntax == "shell":
        text = new if new.startswith("-") else "--" + new.lstrip("-")
        if "-" in written.lstrip("-") and "_" not in written:
            text = text.replace("_", "-")
        return Fix(f"write {text}", (Edit(setting.key.source, setting.key.start, setting.key.end, text),), safe)
    if "-" in written and "_" not in written and setting.syntax == "yaml":
        new = new.replace("_", "-")
    key = setting.key
    if (
        setting.syntax == "toml"
        and setting.entry
        and isinstance(setting.entry.value, Mapping)
        and not setting.entry.value.flow
    ):
        return Fix(f"rename the section to {new}", (), safe)
    quote = key.text[:1] if key.text[:1] in "\"'" else ""
    return Fix(f"rename it to {new}", (Edit(key.source, key.start, key.end, f"{quote}{new}{quote}"),), safe)


def set_value(setting: Setting, value: object, *, safe: bool = False, why: str = "") -> Fix:
    """Write another value; Python values are spelled as the file's syntax does."""
    text = spelled(value, setting)
    shown = f"set {setting.written.lstrip('-') if setting.syntax == 'shell' else setting.written} to {text}"
    if setting.at is setting.key:
        return Fix(shown + (f" ({why})" if why else ""), (), safe)
    edit = Edit(setting.at.source, setting.at.start, setting.at.end, text)
    return Fix(shown + (f" ({why})" if why else ""), (edit,), safe)


def spelled(value: object, setting: Setting) -> str:
    """A value in the spelling of the setting's file."""
    if setting.syntax == "json":
        return json.dumps(value)
    if setting.syntax in ("shell", "env"):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        inside_json = setting.at.text[:1] == '"' and setting.syntax == "env"
        return f'"{text}"' if inside_json else text
    if setting.syntax == "python":
        return repr(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null" if setting.syntax == "yaml" else '""'
    if isinstance(value, list):
        return "[" + ", ".join(spelled(item, setting) for item in value) + "]"
    if isinstance(value, str):
        bare = setting.syntax == "yaml" and _BARE.fullmatch(value) and value.lower() not in _YAML_WORDS
        return value if bare and not value[:1].isdigit() else json.dumps(value)
    return str(value)


def remove(*settings: Setting, safe: bool = False, why: str = "") -> Fix:
    """Delete settings with their keys: whole lines where they stand alone on them."""
    names = ", ".join(s.written for s in settings)
    edits = tuple(edit for s in settings for edit in _removal(s))
    return Fix(f"remove {names}" + (f" ({why})" if why else ""), edits if len(edits) == len(settings) else (), safe)


def add_after(setting: Setting, name: str, value: object = None, *, safe: bool = False, why: str = "") -> Fix:
    """Add a setting beside another one, in the same mapping or on the same command line; a switch has no value."""
    said = f"add {name}" + (
        ""
        if value is None and setting.syntax == "shell"
        else f" {spelled(value, setting)}"
        if setting.syntax == "shell"
        else f": {spelled(value, setting)}"
    )
    edit = _addition(setting, name, value)
    return Fix(said + (f" ({why})" if why else ""), (edit,) if edit else (), safe)


def advise(description: str) -> Fix:
    """What to do in words alone, where the change is the user's to choose."""
    return Fix(description)


def both(*fixes: Fix, safe: bool | None = None) -> Fix:
    """Several fixes as one."""
    edits = tuple(edit for fix in fixes for edit in fix.edits)
    complete = all(fix.edits for fix in fixes)
    return Fix(
        "; ".join(fix.description for fix in fixes),
        edits if complete else (),
        all(fix.safe for fix in fixes) if safe is None else safe,
    )


def _removal(setting: Setting) -> list[Edit]:
    source, text = setting.key.source, setting.key.source.text
    start, end = setting.key.start, max(setting.at.end, setting.key.end)
    if setting.at.source is not source:
        return []
    if setting.syntax in ("shell", "env") and setting.entry is None:
        return (
            [_shell_removal(source, start, end)] if setting.syntax == "shell" else [_line_removal(source, start, end)]
        )
    if setting.parent is not None and (setting.parent.flow or setting.syntax == "json"):
        return [_flow_removal(setting, start, end)]
    end = start + len(text[start:end].rstrip())
    return [_line_removal(source, start, end)]


def _line_removal(source: SourceFile, start: int, end: int) -> Edit:
    first, last = line_start(source.text, start), line_end(source.text, max(end - 1, start))
    before = source.text[first:start]
    if before.strip() in ("", "export", "set"):
        return Edit(source, first, last, "")
    if before.strip() == "-":  # the first key of a list's item: its neighbour takes its place
        following = source.text[last:]
        indent = len(following) - len(following.lstrip(" "))
        return Edit(source, start, min(last + indent, len(source.text)), "")
    return Edit(source, start, end, "")


def _flow_removal(setting: Setting, start: int, end: int) -> Edit:
    text = setting.key.source.text
    after = re.compile(r"\s*,[ \t]*").match(text, end)
    if after:
        rest = after.end()
        alone = text[line_start(text, start) : start].strip() == "" and text[rest : rest + 1] == "\n"
        return Edit(setting.key.source, line_start(text, start) if alone else start, rest + (1 if alone else 0), "")
    before = re.search(r",\s*$", text[:start])
    return Edit(setting.key.source, before.start() if before else start, end, "")


def _shell_removal(source: SourceFile, start: int, end: int) -> Edit:
    text = source.text
    first = line_start(text, start)
    tail = re.compile(r"[ \t]*\\\n").match(text, end)
    if text[first:start].strip() == "" and tail:
        return Edit(source, first, tail.end(), "")
    if text[first:start].strip() == "" and text[end : end + 1] in ("\n", ""):
        return (
            Edit(source, first, min(end + 1, len(text)), "")
            if not text[:first].endswith("\\\n")
            else Edit(source, _joint(text, first), end, "")
        )
    spaces = re.search(r"[ \t]*$", text[:start])
    return Edit(source, spaces.start() if spaces else start, end, "")


def _joint(text: str, first: int) -> int:
    """Where the continuation mark of the line above begins."""
    return len(text[: first - 2].rstrip())


def _addition(setting: Setting, name: str, value: object) -> Edit | None:
    source, text = setting.key.source, setting.key.source.text
    if setting.at.source is not source:
        return None
    end = max(setting.at.end, setting.key.end)
    if setting.syntax == "shell":
        return Edit(source, end, end, f" {name}" + ("" if value is None else f" {spelled(value, setting)}"))
    if setting.syntax == "env":
        return None
    written = spelled(value, setting)
    if setting.syntax == "json" or (setting.parent is not None and setting.parent.flow):
        key = json.dumps(name) if setting.syntax == "json" else name
        start = setting.key.start
        own_line = text[line_start(text, start) : start].strip() == ""
        joint = ",\n" + text[line_start(text, start) : start] if own_line else ", "
        return Edit(source, end, end, f"{joint}{key}: {written}")
    start = line_start(text, setting.key.start)
    indent = re.sub(r"[^\s]", " ", text[start : setting.key.start])
    end = setting.key.start + len(text[setting.key.start : end].rstrip())
    after = line_end(text, max(end - 1, start))
    equals = " = " if setting.syntax == "toml" else ": "
    newline = "" if text[:after].endswith("\n") else "\n"
    return Edit(source, after, after, f"{newline}{indent}{name}{equals}{written}\n")


def quote(setting: Setting) -> Fix:
    """Put a plain YAML value in quotes, so that it stays the text that stands there."""
    node = setting.node
    text = node.text if isinstance(node, Scalar) else setting.at.text
    return Fix(
        f'quote it: "{text}"', (Edit(setting.at.source, setting.at.start, setting.at.end, json.dumps(text)),), True
    )


# ---- applying ----


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The root file's text after these edits; of two that overlap the first in order of place is made."""
    done, at = list[str](), 0
    for start, end, new in sorted({(*edit.place, edit.text) for edit in edits}):
        if start < at:
            continue
        done += [text[at:start], new]
        at = end
    return "".join([*done, text[at:]])


def diff(texts: Dictionary[str, tuple[str, str]]) -> str:
    """A unified diff of files' texts before and after."""
    parts = [
        difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{name}", f"b/{name}")
        for name, (before, after) in texts.items()
        if before != after
    ]
    lines = [
        line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for part in parts for line in part
    ]
    return "".join(lines)
