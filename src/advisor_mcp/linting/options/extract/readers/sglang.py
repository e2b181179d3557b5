"""SGLang: the flags of `launch_server` (hand-written, later made from annotated fields) and its environment variables."""

from __future__ import annotations

import ast
import re

from advisor_mcp.linting.options.extract.arguments import added
from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.environments import reads
from advisor_mcp.linting.options.extract.fields import Options, finish
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Module, Package, Record, Unknown, strings

ARGUMENTS = "sglang/srt/server_args.py"
ENVIRON = "sglang/srt/environ.py"
NAMES = re.compile(r"\b(SGLANG|SGL)_[A-Z0-9_]+\b")
KINDS = {
    "EnvBool": "bool",
    "EnvInt": "int",
    "EnvFloat": "float",
    "EnvStr": "str",
    "EnvTuple": "list",
    "EnvJSON": "dict",
}


def read(release: Release) -> Snapshot:
    package = Package(release)
    serve: Options = {}
    for path in [*release.files("sglang/srt/arg_groups/fields/*.py"), ARGUMENTS]:
        module = package.module(path)
        for node in (module.classes if module else {}).values():
            if module:
                serve.update(annotated(package, module, node))
    module = package.module(ARGUMENTS)
    assert module is not None
    serve.update(added(package, module, module.tree))
    return Snapshot(release.version, release.date, {"serve": serve, "env": environment(package)})


def annotated(package: Package, module: Module, node: ast.ClassDef) -> Options:
    """Fields annotated `A[type, "help"]` or `A[type, Arg(...)]`, each of which becomes a flag."""
    options: Options = {}
    for statement in node.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        note = statement.annotation
        if not isinstance(note, ast.Subscript) or ast.unparse(note.value) not in {"A", "Annotated"}:
            continue
        parts = note.slice.elts if isinstance(note.slice, ast.Tuple) else [note.slice]
        argument = next((p for p in parts[1:] if isinstance(p, ast.Call) and ast.unparse(p.func) == "Arg"), None)
        words = {k.arg: k.value for k in argument.keywords if k.arg} if argument else {}
        if "no_cli" not in words:
            name, record = flag(package, module, statement, parts[0], words)
            options[name] = finish(record)
    return options


def flag(
    package: Package, module: Module, statement: ast.AnnAssign, annotation: ast.expr, words: dict[str, ast.expr]
) -> tuple[str, Record]:
    """One annotated field as the flag that SGLang's own `add_cli_args_from_dataclass` makes of it."""
    assert isinstance(statement.target, ast.Name)
    record = package.annotation(module, annotation)
    if statement.value is not None:
        package.put_default(module, record, statement.value)
    written = [s for key in ("cli_name", "aliases") if key in words for s in strings(words[key])]
    name = strings(words["cli_name"])[0].lstrip("-").replace("-", "_") if "cli_name" in words else statement.target.id
    record["a"] = [s for s in written if s.lstrip("-").replace("-", "_") != name]
    kinds = set(record["t"].split("|")) - {"null"}
    if "nargs" in words:
        record["n"] = package.value(module, words["nargs"])
    elif kinds == {"list"} and "type_parser" not in words:
        record["n"] = "+"
    if kinds == {"bool"} and "action" not in words and "type_parser" not in words:
        record["n"] = 0
    if "choices" in words:
        try:
            record.update(c=list(package.value(module, words["choices"])), t="enum")
        except Unknown:
            record.update(t="str")
    if "action" in words:
        action = ast.unparse(words["action"])
        if "BooleanOptional" in action:
            record.update(n=0, t="bool", a=[*record["a"], f"--no-{name.replace('_', '-')}"])
        elif action.strip("'\"") in {"store_true", "store_false"}:
            record.update(n=0, t="bool")
        if "eprecat" in action:
            record["message"] = " ".join(strings(words.get("help", words["action"]))) or "deprecated"
    if "help" in words:
        record["help"] = " ".join(strings(words["help"]))
    return name, record


def environment(package: Package) -> Options:
    """The fields of `Envs`, the variables read elsewhere, and the old names that the package still forwards."""
    found = reads(package, "sglang/srt/**/*.py", NAMES)
    module = package.module(ENVIRON)
    if module is None:
        return found
    for statement in module.classes["Envs"].body if "Envs" in module.classes else []:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            call = statement.value
            kind = ast.unparse(call.func)
            record: Record = {"has_default": True, "t": KINDS.get(kind.removesuffix("WithAlias"), "any")}
            if call.args:
                package.put_default(module, record, call.args[0])
            for target in statement.targets:
                found[ast.unparse(target)] = finish(record)
            for keyword in call.keywords:
                if keyword.arg == "deprecated_name":
                    found[strings(keyword.value)[0]] = retired(ast.unparse(statement.targets[0]))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "_print_deprecated_env" and len(node.args) == 2:
            new, old = (strings(arg) for arg in node.args)
            if new and old:
                found[old[0]] = retired(new[0])
    table = module.values.get("_DEPRECATED_ENVS")
    for key, value in zip(table.keys, table.values, strict=True) if isinstance(table, ast.Dict) else ():
        if isinstance(key, ast.Constant) and isinstance(value, ast.Call):
            new = next((strings(k.value) for k in value.keywords if k.arg == "replacement"), [])
            changed = any(k.arg == "transform" for k in value.keywords)
            found[str(key.value)] = {**retired(new[0] if new else ""), **({"t": "str"} if changed else {})}
    return found


def retired(replacement: str) -> Record:
    return {"dep": "deprecated", **({"mentions": [replacement]} if replacement else {})}
