"""What a tool is: one declaration from which server, CLI, documentation, snapshot and tests are derived."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo

from advisor_mcp.errors import Cancelled, UsageError, nearest, shown
from advisor_mcp.results import Answer

Toolset = Literal["sizing", "performance", "config", "knowledge", "persona"]

CLIENT_INJECTED = frozenset({"wait_for_previous"})  # Gemini CLI adds it to every call and forwards it
LONGEST_TEXT = 2_000_000
BRIEF_BYTES = 2_400
FULL_BYTES = 16_000


class Progress(Protocol):
    """Handed to tools that declare a parameter `progress`: long work reports, and stops when the caller withdrew."""

    def check(self) -> None:
        """Raise `Cancelled` when the caller no longer wants the answer."""

    def report(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Say how far the work is; also checks for cancellation."""


class Silent:
    """Progress that nobody watches; `cancel()` makes the next check raise."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        """Ask the tool to stop at its next check."""
        self.cancelled = True

    def check(self) -> None:
        """Raise `Cancelled` after `cancel()`."""
        if self.cancelled:
            raise Cancelled("the call was cancelled")

    def report(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Check for cancellation; the figures go nowhere."""
        self.check()


@dataclass(frozen=True, slots=True)
class Example:
    """A worked example: the question in words, the arguments, and figures of the answer by dotted path."""

    question: str
    arguments: Mapping[str, Any]
    answer: Mapping[str, Any] = field(default_factory=dict)
    needs: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a view is called with: the tool's arguments as its function takes them, and what the command line adds.

    `value` is the view's own, the default where none was given; `options` are those of the view that were given.
    """

    arguments: Mapping[str, Any]
    value: str | None
    options: Mapping[str, str]
    as_json: bool
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A flag that goes with a view, and takes a value."""

    metavar: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Another way for the command line to show what a tool finds, such as a page or a live table: ``--html OUT``.

    `function` is ``module:name`` of a function from `Shown` to the exit code, imported when the view is asked for. `metavar`
    stands for the value that the flag takes (None: it takes none), `default` is its value when it is left out (None: it
    may not be). No client of the server sees a view.
    """

    function: str
    description: str
    metavar: str | None = None
    default: str | None = None
    options: Mapping[str, Option] = field(default_factory=dict)

    def load(self) -> Callable[[Shown], int]:
        """Import the function."""
        module, _, name = self.function.partition(":")
        found: Callable[[Shown], int] = getattr(importlib.import_module(module), name)
        return found


@dataclass(frozen=True, kw_only=True)
class Tool:
    """The declaration of one tool.

    `function` is plain and typed: its parameters are the arguments, its docstring's first paragraph the description, its
    return annotation (a subclass of `Answer`) the result. A parameter named `progress` is supplied, never an argument.
    `views` are flags of the command line alone, by name; neither they nor their options may be called as an argument is.
    """

    function: Callable[..., Answer]
    title: str
    toolset: Toolset
    examples: tuple[Example, ...]
    read_only: bool = True
    idempotent: bool = True
    open_world: bool = False
    cli_name: str | None = None
    positional: tuple[str, ...] = ()
    views: Mapping[str, View] = field(default_factory=dict)
    brief_bytes: int = BRIEF_BYTES
    full_bytes: int = FULL_BYTES

    def __post_init__(self) -> None:
        flags = [name for view, declared in self.views.items() for name in (view, *declared.options)]
        if clash := set(flags) & {*inspect.signature(self.function).parameters, "json", "help", "content"}:
            raise ValueError(f"{self.name}: {', '.join(sorted(clash))} cannot be a view, it is an argument")

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    @property
    def command(self) -> str:
        """The CLI sub-command."""
        return self.cli_name or self.name.replace("_", "-")

    @property
    def description(self) -> str:
        """The first paragraph of the function's docstring, on one line."""
        return " ".join((inspect.getdoc(self.function) or "").split("\n\n")[0].split())

    @cached_property
    def arguments(self) -> type[BaseModel]:
        """The arguments as a pydantic model that refuses unknown names."""
        hints = typing.get_type_hints(self.function, include_extras=True)
        fields: dict[str, Any] = {}
        for name, parameter in inspect.signature(self.function).parameters.items():
            if name != "progress":
                default = ... if parameter.default is parameter.empty else parameter.default
                fields[name] = (hints[name], default)
        return create_model(f"{self.name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)

    @cached_property
    def result(self) -> type[Answer]:
        """The result model."""
        found = typing.get_type_hints(self.function)["return"]
        if not (isinstance(found, type) and issubclass(found, Answer)):
            raise TypeError(f"{self.name} must return a subclass of advisor_mcp.results.Answer")
        return found

    @cached_property
    def takes_progress(self) -> bool:
        """Whether the function has a parameter `progress`."""
        return "progress" in inspect.signature(self.function).parameters

    @property
    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of the arguments, without the titles that cost tokens and say nothing."""
        return dict(_slim(self.arguments.model_json_schema()))

    @property
    def output_schema(self) -> dict[str, Any]:
        """JSON Schema of the structured answer."""
        return dict(_slim(self.result.model_json_schema(mode="serialization")))

    def validate(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the function takes them; raises `UsageError` naming every argument that cannot be used."""
        arguments = {k: v for k, v in given.items() if k not in CLIENT_INJECTED}
        known = self.arguments.model_fields
        if unknown := [name for name in arguments if name not in known]:
            raise UsageError(_unknown(self.name, unknown, known))
        for name, value in arguments.items():
            if isinstance(value, str) and len(value) > LONGEST_TEXT:
                raise UsageError(
                    f"{name} has {len(value):,} characters; at most {LONGEST_TEXT:,} are read, so pass a path instead"
                )
        try:
            model = self.arguments.model_validate(arguments)
        except ValidationError as error:
            errors = [dict(each) for each in error.errors(include_url=False)]
            raise UsageError(f"{self.name}: " + "; ".join(_sentences(errors, arguments, self.arguments))) from None
        return {name: getattr(model, name) for name in known}

    def call(self, given: Mapping[str, Any], progress: Progress | None = None) -> Answer:
        """Validate, run, and return the answer; `progress` is passed on where the function takes one."""
        arguments = self.validate(given)
        if self.takes_progress:
            arguments["progress"] = progress or Silent()
        return self.function(**arguments)

    def limit(self, given: Mapping[str, Any]) -> int:
        """Bytes a channel of the answer to these arguments may have."""
        return self.full_bytes if given.get("detail") == "full" else self.brief_bytes


def _unknown(tool: str, unknown: list[str], known: Mapping[str, FieldInfo]) -> str:
    named = "; ".join(f"unknown argument {shown(name)}{nearest(name, known)}" for name in unknown[:5])
    return f"{tool}: {named} (it takes {', '.join(known) or 'no arguments'})"


_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
}
_SENTENCES = {
    "missing": "{name} is required",
    "greater_than": "{name} must be above {gt}, not {value}",
    "greater_than_equal": "{name} must be at least {ge}, not {value}",
    "less_than": "{name} must be below {lt}, not {value}",
    "less_than_equal": "{name} must be at most {le}, not {value}",
    "literal_error": "{name} must be one of {expected}, not {value}",
    "int_parsing_size": "{name} has too many digits",
    "finite_number": "{name} must be a finite number, not {value}",
    "string_too_short": "{name} must not be empty",
    "string_pattern_mismatch": "{name} must not be blank",
    "string_too_long": "{name} may have at most {max_length} characters",
    "too_short": "{name} must have at least {min_length:,} in it, not {actual_length:,}",
    "too_long": "{name} may have at most {max_length:,} in it, not {actual_length:,}",
}

Place: TypeAlias = tuple[int | str, ...]


def _sentences(errors: Iterable[dict[str, Any]], given: Mapping[str, Any], model: type[BaseModel]) -> Iterator[str]:
    """One sentence for each place of the arguments and each fault in it.

    A union reports one error per member. Of those that only say which type they wanted, one sentence names all types; none
    is told where another member took the value and found fault within it.
    """
    placed = [(_place(error, given), error) for error in errors]
    wanted = dict[Place, list[str]]()
    for place, error in placed:
        if error["type"] in _KINDS:
            wanted.setdefault(place, []).append(_KINDS[error["type"]])
    inner = {place[:length] for place, _ in placed for length in range(len(place))}
    for place, error in placed:
        if error["type"] not in _KINDS:
            yield _sentence(place, error, model)
        elif place not in inner and (kinds := list(dict.fromkeys(wanted.pop(place, ())))):
            yield f"{_dotted(place)} must be {_one_of(kinds)}, not {shown(error.get('input'))}"


def _place(error: Mapping[str, Any], given: Any) -> Place:
    """Where in the arguments an error is: its location without the types and validators that pydantic notes on the way."""
    place: list[int | str] = []
    for part in error["loc"]:
        here = isinstance(part, int) and isinstance(given, list) and part < len(given)
        if here or (isinstance(given, Mapping) and part in given):
            place.append(part)
            given = given[part]
    lacks = error["type"] == "missing" and error["loc"]
    return (*place, error["loc"][-1]) if lacks else tuple(place)


def _dotted(place: Place) -> str:
    return ".".join(map(str, place)) or "arguments"


def _one_of(kinds: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(kinds[:-1]), kinds[-1]]))


def _sentence(place: Place, error: Mapping[str, Any], model: type[BaseModel]) -> str:
    name = _dotted(place)
    if error["type"] == "extra_forbidden":
        return _unknown_within(place, model)
    if template := _SENTENCES.get(error["type"]):
        return template.format(**{"name": name, "value": shown(error.get("input")), **error.get("ctx", {})})
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    joint = " " if message.startswith("must ") else ": "
    return f"{name}{joint}{message[0].lower()}{message[1:]}"


def _unknown_within(place: Place, model: type[BaseModel]) -> str:
    """The sentence for a name that an object among the arguments does not take."""
    for part in place[:-1]:
        if part in model.model_fields:
            model = next(_models_in(model.model_fields[str(part)].annotation), model)
    known = model.model_fields
    of = _dotted(place[:-1])
    near = nearest(str(place[-1]), known)
    return f"unknown argument {shown(place[-1])} of {of}{near} (it takes {', '.join(known)})"


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models_in(part)


def _slim(schema: Any) -> Any:
    """The schema without what costs tokens and says nothing: titles, and null beside a type where null is the default."""
    if isinstance(schema, list):
        return [_slim(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    slim = {
        key: {name: _slim(part) for name, part in value.items()} if key in ("properties", "$defs") else _slim(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }
    if slim.get("default", ...) is None and "anyOf" in slim:
        del slim["default"]
        kept = [part for part in slim["anyOf"] if part != {"type": "null"}]
        slim = {k: v for k, v in slim.items() if k != "anyOf"} | (kept[0] if len(kept) == 1 else {"anyOf": kept})
    return slim
