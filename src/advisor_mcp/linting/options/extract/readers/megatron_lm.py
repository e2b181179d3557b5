"""Megatron-LM's command line: hand-written arguments, and groups that it makes of its configuration classes."""

from __future__ import annotations

import ast

from advisor_mcp.linting.options.extract.arguments import added, canonical
from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.fields import Options, class_fields, class_named, finish
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Module, Package, Record, Unknown

ARGUMENTS = "megatron/training/arguments.py"
ELSEWHERE = ("examples/**/*.py", "tasks/**/*.py", "tools/**/*.py", "megatron/post_training/*.py", "pretrain_*.py")


def read(release: Release) -> Snapshot:
    package = Package(release)
    module = package.module(ARGUMENTS)
    assert module is not None
    options = added(package, module, module.tree)
    for function in module.functions.values():
        for name, record in groups(package, module, function).items():
            options.setdefault(name, record)
    return Snapshot(release.version, release.date, {"": options, "extra": extra(release, package, options)})


def groups(package: Package, module: Module, function: ast.FunctionDef) -> Options:
    """The flags of the classes that a function hands to an argument factory, those it excludes left out."""
    options: Options = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Factory") and node.args:
            found = class_named(package, module.path, ast.unparse(node.args[0]))
            left_out = next((k.value for k in node.keywords if k.arg == "exclude"), None)
            excluded = names(package, module, function, left_out) if left_out else []
            for name, record in class_fields(package, *found).items() if found else ():
                if name not in excluded and not (name.startswith("_")):
                    flag, made = as_flag(name, record)
                    options.setdefault(flag, made)
    return options


def names(package: Package, module: Module, function: ast.FunctionDef, node: ast.expr) -> list[str]:
    """A list of names, written in place or assigned (and added to) in the same function."""
    found: list[str] = []
    parts = [node]
    if isinstance(node, ast.Name):
        parts = [
            n.value for n in ast.walk(function) if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == node.id
        ]
        parts += [
            n.value for n in ast.walk(function) if isinstance(n, ast.AugAssign) and ast.unparse(n.target) == node.id
        ]
    for part in parts:
        try:
            found += package.value(module, part)
        except Unknown:
            continue
    return found


def as_flag(name: str, field: Record) -> tuple[str, Record]:
    """A field as the factory's flag: `--no-x` and `--disable-x` for a boolean that is on by default.

    The field's own name stays as a spelling without dashes.
    """
    record = {key: value for key, value in field.items() if key not in {"req", "a"}}
    kinds = set(record.get("t", "any").split("|")) - {"null"}
    written = [flag for flag in field.get("a", ()) if flag.startswith("-")]
    if kinds == {"bool"}:
        record["n"] = 0
        if record.get("d") is True and not written:
            written = [f"--no-{name.replace('_', '-')}", f"--disable-{name.replace('_', '-')}"]
            record.pop("d")
    elif kinds == {"list"}:
        record["n"] = "+"
    flag = canonical(written) if written else name
    record["a"] = list(
        dict.fromkeys([*(w for w in written if canonical([w]) != flag), *([name] if flag != name else [])])
    )
    return flag, finish({"has_default": True, **record})


def extra(release: Release, package: Package, known: Options) -> Options:
    """Flags that scripts of the repository add to the parser (`extra_args_provider`), names and types only."""
    options: Options = {}
    for path in [path for pattern in ELSEWHERE for path in release.files(pattern)]:
        if "add_argument" not in release.text(path):
            continue
        module = package.module(path)
        for function in module.functions.values() if module else ():
            if module and "parser" in {arg.arg for arg in function.args.args}:
                for name, record in added(package, module, function).items():
                    if name not in known:
                        options.setdefault(name, {k: v for k, v in record.items() if k in {"t", "n"}})
    return options
