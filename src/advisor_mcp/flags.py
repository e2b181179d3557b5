"""A tool's input schema as command-line flags: parsing them, explaining them, and writing a call back as a command."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from advisor_mcp.errors import UsageError, nearest, shown

if TYPE_CHECKING:
    from advisor_mcp.catalogue import ToolEntry

PROGRAM = "advisor-mcp"
LONGEST_PATH = 300
RESERVED = frozenset({"content", "help", "json"})
_ALL = frozenset({"string", "integer", "number", "boolean", "object", "array", "null"})
_SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
_CONSTANTS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}
_METAVARS = (("integer", "N"), ("number", "X"), ("object", "JSON"), ("array", "JSON"))
_GROUPED = re.compile(r"[+-]?(\d{1,3}(,\d{3})+|\d+(_\d+)+)(\.\d+)?")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+|inf(inity)?|nan)(e[+-]?\d+)?", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    """`argparse` that refuses abbreviations and says what is wrong in one sentence, raised as `UsageError`."""

    def __init__(self, prog: str, **settings: Any) -> None:
        super().__init__(prog=prog, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` with the message and where to read more."""
        raise UsageError(f"{message}; see '{self.prog} --help'")

    def parse_strictly(self, given: Sequence[str]) -> argparse.Namespace:
        """Parse all of `given`, in any order; what is not known is refused with the nearest option."""
        found, rest = self.parse_known_intermixed_args(list(given))
        if rest:
            if rest[0].startswith("-"):
                raise self.unknown(rest[0])
            self.error(f"unexpected argument {shown(rest[0])}")
        return found

    def unknown(self, option: str) -> UsageError:
        """The error for an option that is not known: ``unknown option '--gpus'; did you mean '--gpu'?``"""
        name = option.split("=")[0]
        return unknown("option", name, list(self._option_string_actions), self.prog)


def unknown(what: str, name: str, known: Iterable[str], program: str = PROGRAM) -> UsageError:
    """The error for a word that is not known: the nearest that is, or else where they are listed."""
    return UsageError(f"unknown {what} {shown(name)}" + (nearest(name, known) or f"; see '{program} --help'"))


@dataclass(frozen=True, slots=True)
class Flag:
    """One argument of a tool on the command line; `kinds` are the JSON types it may have, `items` its elements'."""

    name: str
    option: str
    kinds: frozenset[str]
    items: frozenset[str]
    choices: tuple[str, ...]
    description: str
    default: Any
    required: bool
    positional: bool

    @property
    def repeatable(self) -> bool:
        """Whether each use of the flag adds one element of a list."""
        return self.kinds - {"null"} == {"array"}

    @property
    def switch(self) -> bool:
        """Whether it is `--x` or `--no-x` rather than a value."""
        return self.kinds - {"null"} == {"boolean"}

    @property
    def metavar(self) -> str:
        """What stands for the value in the help."""
        kinds = self.items if self.repeatable else self.kinds
        named = [word for kind, word in _METAVARS if kind in kinds]
        if self.choices:
            return "{" + ",".join([*self.choices, *named]) + "}"
        return named[0] if named and "string" not in kinds else "TEXT"


def flags(entry: ToolEntry) -> list[Flag]:
    """The flags of a tool: its positional arguments in their order, then the others in the schema's."""
    schema = entry.input_schema
    found = {name: _flag(name, part, schema, entry.positional) for name, part in schema.get("properties", {}).items()}
    return [found[name] for name in entry.positional] + [flag for flag in found.values() if not flag.positional]


def _flag(name: str, part: Mapping[str, Any], schema: Mapping[str, Any], positional: Sequence[str]) -> Flag:
    definitions = schema.get("$defs", {})
    branches = _branches(part, definitions)
    elements = [inner for branch in branches for item in _elements(branch) for inner in _branches(item, definitions)]
    constants = [constant for branch in branches + elements for constant in _constants(branch)]
    kinds = frozenset[str]().union(*map(_kinds, branches))
    return Flag(
        name=name,
        option="--" + name.replace("_", "-") + ("-argument" if name in RESERVED else ""),
        kinds=kinds,
        items=frozenset[str]().union(*map(_kinds, elements)) if elements else _ALL,
        choices=tuple(dict.fromkeys(str(constant) for constant in constants if constant is not None)),
        description=next((each["description"] for each in [part, *branches] if "description" in each), ""),
        default=part.get("default"),
        required=name in schema.get("required", ()),
        positional=name in positional,
    )


def _branches(part: Mapping[str, Any], definitions: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if "$ref" in part:
        return _branches(definitions[part["$ref"].rpartition("/")[2]], definitions)
    inner = [*part.get("anyOf", ()), *part.get("oneOf", ()), *part.get("allOf", ())]
    return [branch for each in inner for branch in _branches(each, definitions)] or [part]


def _elements(branch: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    items = branch.get("items")
    return [*branch.get("prefixItems", ()), *([items] if isinstance(items, dict) else [])]


def _constants(branch: Mapping[str, Any]) -> list[Any]:
    return [branch["const"]] if "const" in branch else list(branch.get("enum", ()))


def _kinds(branch: Mapping[str, Any]) -> frozenset[str]:
    named = branch.get("type")
    if named is None:
        return frozenset(_SCALARS[type(constant)] for constant in _constants(branch)) or _ALL
    return frozenset([named] if isinstance(named, str) else named)


@dataclass(frozen=True, slots=True)
class Call:
    """What a command line asks of a tool; `value` and `options` are those of the view, where one is asked for."""

    arguments: dict[str, Any]
    as_json: bool
    help: bool
    view: str | None = None
    value: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


def parse(entry: ToolEntry, given: Sequence[str], standard_input: Callable[[], str] | None = None) -> Call:
    """The arguments that a command line gives a tool, not yet checked against its schema; raises `UsageError`.

    Checking is left to the declaration, so that the command line and the server say the same sentence.
    """
    known = flags(entry)
    parser = _parser(entry, known)
    end = given.index("--") if "--" in given else len(given)
    found, rest = parser.parse_known_args(list(given[:end]))
    for word in rest:
        if word.startswith("-") and word != "-":
            raise parser.unknown(word)
    as_json = bool(found.__dict__.pop("json ", False))
    if found.__dict__.pop("help ", False):
        return Call({}, as_json, help=True)
    view, taken, options = _view(entry, vars(found))
    slots = [flag for flag in known if flag.positional and flag.name not in found]
    texts = vars(found) | _positional(entry, slots, [*rest, *given[end + 1 :]])
    read = standard_input or _standard_input
    arguments = {flag.name: _typed(flag, texts[flag.name], read) for flag in known if flag.name in texts}
    return Call(arguments, as_json, help=False, view=view, value=taken, options=options)


def _parser(entry: ToolEntry, known: Sequence[Flag]) -> Parser:
    parser = Parser(f"{PROGRAM} {entry.command}", add_help=False, argument_default=argparse.SUPPRESS)
    # the trailing space keeps these apart from every argument that a tool can have
    parser.add_argument("-h", "--help", dest="help ", action="store_true")
    parser.add_argument("--json", dest="json ", action="store_true")
    _add_views(parser, entry)
    for flag in known:
        if flag.switch:
            parser.add_argument(flag.option, dest=flag.name, action=argparse.BooleanOptionalAction)
        else:
            parser.add_argument(flag.option, dest=flag.name, action="append" if flag.repeatable else "store")
    return parser


def _add_views(parser: Parser, entry: ToolEntry) -> None:
    for name, view in entry.views.items():
        metavar, default = view["metavar"], view["default"]
        takes: dict[str, Any] = {"action": "store_const", "const": None} if metavar is None else {}
        if metavar is not None and default is not None:
            takes = {"nargs": "?", "const": default}
        parser.add_argument(f"--{name}", dest=f"{name} ", **takes)
        for option in view["options"]:
            parser.add_argument(f"--{option}", dest=f"{option} ")


def _view(entry: ToolEntry, found: dict[str, Any]) -> tuple[str | None, str | None, dict[str, str]]:
    """Take the view that is asked for out of what was parsed, its value and its options; raises `UsageError` for two."""
    asked = [name for name in entry.views if f"{name} " in found]
    if len(asked) > 1:
        raise UsageError(f"--{asked[0]} and --{asked[1]} are two ways to show one answer; give one of them")
    options: dict[str, str] = {}
    for view, declared in entry.views.items():
        for name in declared["options"]:
            if f"{name} " in found and asked != [view]:
                raise UsageError(f"--{name} goes with --{view}")
            if f"{name} " in found:
                options[name] = found.pop(f"{name} ")
    return (asked[0], found.pop(f"{asked[0]} "), options) if asked else (None, None, {})


def _positional(entry: ToolEntry, slots: Sequence[Flag], words: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for flag in slots:
        if words:
            found[flag.name], words = (list(words), ()) if flag.repeatable else (words[0], words[1:])
    if words:
        takes = f"it takes {', '.join(entry.positional) or 'options only'}"
        more = f"see '{PROGRAM} {entry.command} --help'"
        raise UsageError(f"{entry.name}: unexpected argument {shown(words[0])}; {takes}; {more}")
    return found


def _standard_input() -> str:
    return sys.stdin.read() if sys.stdin else ""


def _typed(flag: Flag, given: Any, read: Callable[[], str]) -> Any:
    if flag.switch:
        return given
    if not flag.repeatable:
        return value(flag.name, given, flag.kinds, read)
    listed: list[Any] = []
    for text in given:
        whole = _as_list(text, nested="array" in flag.items)
        listed.extend([value(flag.name, text, flag.items, read)] if whole is None else whole)
    return listed


def _as_list(text: str, nested: bool) -> list[Any] | None:
    found = _json(text) if text.startswith("[") else None
    if not isinstance(found, list) or (nested and found and not isinstance(found[0], list)):
        return None
    return found


def value(name: str, text: str, kinds: frozenset[str], read: Callable[[], str]) -> Any:
    """One value from its text: a number, JSON, the content of `@file` or of standard input ("-"), else the text itself.

    `kinds` are the JSON types allowed; text that is none of them is returned as it is, for the declaration to refuse.
    """
    structured = bool(kinds & {"object", "array"})
    if text == "-" and (structured or "string" in kinds):
        return _content(name, read().removeprefix("\ufeff"), kinds, "standard input")
    if text.startswith("@") and structured:
        return _content(name, read_text(text[1:]), kinds, shown(text[1:]))
    if kinds & {"integer", "number"} and (found := _as_number(name, text, kinds)) is not None:
        return found
    if structured and text[:1] in ("{", "["):
        return _content(name, text, kinds, "the value")
    if text in _CONSTANTS and _SCALARS[type(_CONSTANTS[text])] in kinds:
        return _CONSTANTS[text]
    return text


def _as_number(name: str, text: str, kinds: frozenset[str]) -> int | float | None:
    plain = text.replace(",", "").replace("_", "") if _GROUPED.fullmatch(text) else text
    if not _NUMBER.fullmatch(plain):
        return None
    digits = plain.lstrip("+-")
    # CPython refuses to read integers of more than 4,300 digits; the declaration says so in a sentence
    if digits.isdigit() and len(digits) <= 4300 and digits.isascii():
        return int(plain)
    if "number" not in kinds or digits.isdigit():
        return None
    if not math.isfinite(float(plain)):
        raise UsageError(f"{name} must be a finite number, not {shown(text)}")
    return float(plain)


def _content(name: str, text: str, kinds: frozenset[str], place: str) -> Any:
    if not kinds & {"object", "array"} or ("string" in kinds and text.lstrip()[:1] not in ("{", "[")):
        return text
    try:
        return json.loads(text)
    except RecursionError:
        raise UsageError(f"{name}: {place} is nested too deeply") from None
    except ValueError as error:
        raise UsageError(f"{name}: {place} is not JSON: {_where(error)}") from None


def _where(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[0].lower()}{error.msg[1:]} at line {error.lineno}, column {error.colno}"
    return "a number has too many digits"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_text(path: str) -> str:
    """A file's text; raises `UsageError` with the reason when it cannot be read."""
    try:
        return Path(os.path.expanduser(path)).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{shown(path, LONGEST_PATH)} is not UTF-8 text; give a text file") from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "the path is not valid").lower()
        raise UsageError(f"cannot read {shown(path, LONGEST_PATH)}: {reason}") from None


def command_line(entry: ToolEntry, arguments: Mapping[str, Any]) -> list[str]:
    """The words of the command that makes this call: ``["advisor-mcp", "describe-model", "llama-3.1-70b"]``."""
    left = dict(arguments)
    words, skipped = [PROGRAM, entry.command], False
    for flag in flags(entry):
        if flag.name not in left:
            skipped = skipped or flag.positional  # what follows would be read in its place
            continue
        given = left.pop(flag.name)
        words.extend(_words(flag, given, bare=flag.positional and not flag.repeatable and not skipped))
    if left:
        raise UsageError(f"{entry.name}: unknown argument {shown(next(iter(left)))}")
    return words


def _words(flag: Flag, given: Any, bare: bool) -> list[str]:
    if flag.switch and isinstance(given, bool):
        return [flag.option if given else "--no-" + flag.option[2:]]
    if flag.repeatable:
        listed = [_written(item) for item in given] if given else ["[]"]
        return [word for item in listed for word in _option(flag.option, item)]
    text = _written(given)
    return [text] if bare and not text.startswith("-") else _option(flag.option, text)


def _option(option: str, text: str) -> list[str]:
    return [f"{option}={text}"] if text.startswith("-") else [option, text]


def _written(given: Any) -> str:
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, separators=(",", ":"))


def help_text(entry: ToolEntry, width: int = 100) -> str:
    """What `--help` prints for a tool: description, flags with description and default, examples as commands."""
    known = flags(entry)
    named = [flag for flag in known if flag.positional]
    usage = " ".join([PROGRAM, entry.command, *(_slot(flag) for flag in named), "[options]"])
    rows = [(flag.name.upper(), _explained(flag)) for flag in named]
    options = [(_spelled(flag), _explained(flag)) for flag in known if not flag.positional]
    options += view_rows(entry)
    options += [("--json", "Print the structured answer as JSON"), ("-h, --help", "Show this text")]
    parts = [usage, _wrapped(entry.description, width), *([_listed("Arguments", rows, width)] if rows else [])]
    return "\n\n".join([*parts, _listed("Options", options, width), _examples(entry)]).rstrip() + "\n"


def view_rows(entry: ToolEntry) -> list[tuple[str, str]]:
    """The views of a tool and their options, each as it is spelled and what it does."""
    rows = list[tuple[str, str]]()
    for name, view in entry.views.items():
        metavar, default = view["metavar"], view["default"]
        taken = "" if metavar is None else f" {metavar}" if default is None else f" [{metavar}]"
        note = "" if default is None else f" (default: {default})"
        rows.append((f"--{name}{taken}", view["description"] + note))
        rows += [
            (f"--{option} {said['metavar']}", f"{said['description']} (with --{name})")
            for option, said in view["options"].items()
        ]
    return rows


def _slot(flag: Flag) -> str:
    name = flag.name.upper() + ("..." if flag.repeatable else "")
    return name if flag.required else f"[{name}]"


def _spelled(flag: Flag) -> str:
    if flag.switch:
        return f"{flag.option}, --no-{flag.option[2:]}"
    return f"{flag.option} {flag.metavar}" + (" ..." if flag.repeatable else "")


def _explained(flag: Flag) -> str:
    choices = f"one of {', '.join(flag.choices)}" if flag.positional and flag.choices else ""
    notes = [
        "required" if flag.required else "",
        choices,
        "repeatable" if flag.repeatable else "",
        "" if flag.default is None else f"default: {_written(flag.default)}",
    ]
    said = "; ".join(note for note in notes if note)
    return flag.description + (f" ({said})" if said else "")


def _listed(title: str, rows: Sequence[tuple[str, str]], width: int) -> str:
    column = min(max(len(left) for left, _ in rows), 30) + 4
    lines = [title + ":"]
    for left, right in rows:
        wrapped = _wrapped(right, max(width, 60), indent=" " * column)
        fits = len(left) + 4 <= column
        lines += [f"  {left}".ljust(column) + wrapped[column:]] if fits else [f"  {left}", wrapped]
    return "\n".join(line.rstrip() for line in lines if line)


def _wrapped(text: str, width: int, indent: str = "") -> str:
    import textwrap

    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _examples(entry: ToolEntry) -> str:
    shown_ = [f"  # {e['question']}\n  {shlex.join(command_line(entry, e['arguments']))}" for e in entry.examples]
    return "Examples:\n" + "\n".join(shown_) if shown_ else ""
