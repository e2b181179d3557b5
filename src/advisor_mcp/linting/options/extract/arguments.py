"""Options out of argparse: the `add_argument` calls of a function, read as written."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from advisor_mcp.linting.options.extract.fields import Options, finish
from advisor_mcp.linting.options.extract.reading import Module, Package, Record, Unknown, strings

Spread = Callable[[ast.expr], Record]  # what `**expression` in a call stands for
SWITCHES = {"store_true", "store_false", "store_const", "count", "help", "version", "append_const"}
PLAIN = {"int", "float", "str", "bool"}
SAME = {
    "json.loads": "dict",
    "nullable_str": "str",
    "str_to_bool": "bool",
    "str2bool": "bool",
    "strtobool": "bool",
    "human_readable_int": "int|str",
    "human_readable_int_or_auto": "int|str",
    "Path": "str",
    "pathlib.Path": "str",
    "os.path.abspath": "str",
}


def nothing(_: ast.expr) -> Record:
    return {}


def added(package: Package, module: Module, node: ast.AST, spread: Spread = nothing) -> Options:
    """The flags that `add_argument` calls within a function (or module) declare, by canonical name.

    The canonical name is the first long flag without its dashes, with underscores; further flags are spellings.
    Positional arguments are left out.
    """
    options: Options = {}
    for call in calls(node):
        flags = flags_of(package, module, call)
        if not flags:
            continue
        record = argument(package, module, call, spread)
        name = canonical(flags)
        spellings = [flag for flag in flags if canonical([flag]) != name]
        if record.pop("both", False):
            spellings += [f"--no-{flag[2:]}" for flag in flags if flag.startswith("--")]
        if spellings:
            record["a"] = list(dict.fromkeys([*spellings, *record.get("a", [])]))
        if name not in options:
            options[name] = finish(record)
    return options


def calls(node: ast.AST) -> Iterator[ast.Call]:
    """The calls of `add_argument`, in the order of the source."""
    found = [
        n
        for n in ast.walk(node)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in {"add_argument", "add_arg"}
    ]
    yield from sorted(found, key=lambda n: (n.lineno, n.col_offset))


def flags_of(package: Package, module: Module, call: ast.Call) -> list[str]:
    flags: list[Any] = []
    for arg in call.args:
        with suppress(Unknown):
            value = package.value(module, arg.value if isinstance(arg, ast.Starred) else arg)
            flags += value if isinstance(value, list) else [value]
    return [flag for flag in flags if isinstance(flag, str) and flag.startswith("-")]


def canonical(flags: list[str]) -> str:
    """The first long flag, without dashes and with underscores (a short one where there is no other)."""
    chosen = next((flag for flag in flags if flag.startswith("--")), flags[0])
    return chosen.lstrip("-").replace("-", "_")


def argument(package: Package, module: Module, call: ast.Call, spread: Spread) -> Record:
    """The keywords of one `add_argument` call as a record; a flag's default is None and it is optional."""
    record: Record = {"has_default": True, "d": None}
    words: dict[str, ast.expr] = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            if passed := spread(keyword.value):
                record.pop("d", None)
                record.update(passed)
        else:
            words[keyword.arg] = keyword.value
    action = ast.unparse(words["action"]).strip("'\"") if "action" in words else ""
    read_type(package, module, words, record)
    read_action(action, words, record)
    if "default" in words:
        record.pop("d", None)
        package.put_default(module, record, words["default"])
    elif action == "store_true":
        record["d"] = False
    if action == "store_false":  # the default is that of the destination, not of the flag
        record.pop("d", None)
    if "required" in words and ast.unparse(words["required"]) == "True":
        record.update(req=True)
        record.pop("d", None)
    if "help" in words:
        record["help"] = " ".join(strings(words["help"]) or name_text(package, module, words["help"]))
    if "deprecated" in words and ast.unparse(words["deprecated"]) != "False":
        record["message"] = record.get("help") or "deprecated"
    return record


def name_text(package: Package, module: Module, node: ast.expr) -> list[str]:
    """The text of a message that is kept under a name."""
    with suppress(Unknown):
        return [str(package.value(module, node))]
    return []


def read_type(package: Package, module: Module, words: dict[str, ast.expr], record: Record) -> None:
    """`type`, `nargs` and `choices`."""
    if "type" in words:
        record["t"] = type_of(package, module, words["type"])
    elif "t" not in record:
        record["t"] = "str"
    if "nargs" in words:
        with suppress(Unknown):
            record["n"] = package.value(module, words["nargs"])
            if record["n"] != "?":
                record["t"] = "list"
    if "choices" in words:
        try:
            choices = package.value(module, words["choices"])
        except Unknown:
            choices = []
        members = package.enum_members(module, words["choices"])
        record["c"] = [c for c in (members.values() if members else choices) if c is not Unknown]
        if record["c"] and record.get("n") in {None, "?"}:
            record["t"] = "enum"


def type_of(package: Package, module: Module, node: ast.expr) -> str:
    """The type that a converter makes: its own name, a lambda over one, or `optional_type(X)`."""
    written = ast.unparse(node)
    if written in PLAIN:
        return written
    if written in SAME:
        return SAME[written]
    last = written.rpartition(".")[2]
    if last in SAME:
        return SAME[last]
    if isinstance(node, ast.Call) and node.args:
        inner = type_of(package, module, node.args[0])
        return f"{inner}|null" if "optional" in written.lower() and inner != "any" else inner
    members = package.enum_members(module, node) if isinstance(node, ast.Name | ast.Attribute) else None
    return "enum" if members else "any"


def read_action(action: str, words: dict[str, ast.expr], record: Record) -> None:
    """What the action makes of type and number of values."""
    last = action.rpartition(".")[2]
    if last in SWITCHES:
        record["n"] = 0
        record["t"] = "int" if last == "count" else "bool"
    elif last == "BooleanOptionalAction":
        record.update(n=0, t="bool", both=True)
    elif last in {"append", "extend"}:
        record["t"] = "list"
    elif "StoreBool" in last:
        record.update(t="bool", n="?")
    if "nargs" in words and ast.unparse(words["nargs"]) == "0":
        record.update(t="bool", n=0)
    if "eprecat" in last:
        record["message"] = " ".join(strings(words["help"])) if "help" in words else "deprecated"
        for name in ("new_flag", "error_message"):  # sglang's actions: what to use instead
            if name in words:
                record["message"] = f"deprecated, use {strings(words[name])[0]}" if name == "new_flag" else "refused"
        if "const" in last.lower() or "storetrue" in last.lower() or last == "DeprecatedAction":
            record.update(n=0, t="bool")
