"""DeepSpeed's JSON: the keys that its configuration code looks up, followed from the whole file into each section.

Old sections are read key by key from dictionaries (`get_scalar_param(section, KEY, DEFAULT)`, `section.get(KEY)`,
`KEY in section`), newer ones by a pydantic class (`Class(**section)`). Both are followed through calls.
"""

from __future__ import annotations

import ast
from contextlib import suppress
from dataclasses import dataclass, field

from advisor_mcp.linting.options.extract.arguments import added
from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.fields import Options, class_fields, finish, signature
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Module, Package, Record, Unknown

ROOT = "deepspeed/runtime/config.py"
LOOKUPS = {"get_scalar_param", "get_dict_param", "get_list_param"}
FREE = {  # passed on to a class of the user's choice, or copied whole and read elsewhere
    "optimizer.params",
    "scheduler.params",
    "data_efficiency.data_sampling",
    "data_efficiency.data_routing",
}
REMOVED = ("_REMOVED_TOP_LEVEL_CONFIG_KEYS", "_REMOVED_ZERO_CONFIG_KEYS")


@dataclass
class Walk:
    """Sections found so far, by dotted path, and the functions already entered with which arguments."""

    package: Package
    scopes: dict[str, Options] = field(default_factory=lambda: {"": {}})
    entered: set[tuple[str, str, tuple[tuple[str, str], ...]]] = field(default_factory=set)

    def note(self, section: str, key: str, record: Record) -> None:
        known = self.scopes.setdefault(section, {}).setdefault(key, {})
        for name, value in record.items():
            known.setdefault(name, value)


def read(release: Release) -> Snapshot:
    walk = Walk(Package(release))
    module = walk.package.module(ROOT)
    assert module is not None
    config = module.classes["DeepSpeedConfig"]
    for method in methods(config):
        enter(walk, module, method, {"param_dict": "", "self._param_dict": "", "config": ""}, config)
    for name, node in module.functions.items():
        if node.args.args and node.args.args[0].arg == "param_dict" and name.startswith("get_"):
            enter(walk, module, node, {"param_dict": "", **defaults(walk, module, node)}, None)
    for one, other in (("bf16", "bfloat16"), ("bfloat16", "bf16")):  # two names of one section, read into one variable
        if one in walk.scopes:
            walk.scopes.setdefault(other, walk.scopes[one])
    schedulers(walk)
    mark_removed(walk, module)
    scopes = {
        name: {key: tidy(record) for key, record in options.items()}
        for name, options in walk.scopes.items()
        if options and not any(name == free or name.startswith(free + ".") for free in FREE)
    }
    if launcher := walk.package.module("deepspeed/launcher/runner.py"):
        scopes["launcher"] = added(walk.package, launcher, launcher.tree)
    return Snapshot(release.version, release.date, scopes)


def methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    return [n for n in node.body if isinstance(n, ast.FunctionDef)]


def tidy(record: Record) -> Record:
    return record if "gone" in record else finish({"has_default": True, **record})


def enter(
    walk: Walk, module: Module, function: ast.FunctionDef, known: dict[str, str], owner: ast.ClassDef | None
) -> str | None:
    """Reads one function, whose names in `known` hold the sections given; returns the section that it returns."""
    mark = (module.path, f"{owner.name if owner else ''}.{function.name}", tuple(sorted(known.items())))
    if mark in walk.entered or len(walk.entered) > 2000:
        return None
    walk.entered.add(mark)
    return scan(walk, module, function, dict(known), owner)


def scan(walk: Walk, module: Module, body: ast.AST, names: dict[str, str], owner: ast.ClassDef | None) -> str | None:
    """Notes the lookups of a function or a loop's body; returns the section that it returns."""
    returned: str | None = None
    for node in ordered(body):
        if isinstance(node, ast.Assign):
            section = section_of(walk, module, node.value, names, owner)
            for target in node.targets:
                if section is not None:
                    names[ast.unparse(target)] = section
        elif isinstance(node, ast.Return) and node.value is not None:
            returned = section_of(walk, module, node.value, names, owner) or returned
        elif isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.In | ast.NotIn):
            holder = node.comparators[0]
            if isinstance(holder, ast.Call) and isinstance(holder.func, ast.Attribute) and holder.func.attr == "keys":
                holder = holder.func.value
            section = names.get(ast.unparse(holder))
            if section is not None and (key := text(walk, module, node.left, names)):
                walk.note(section, key, {})
        elif isinstance(node, ast.For) and node is not body:  # for key in ["bf16", "bfloat16"]: ...
            with suppress(Unknown):
                for word in walk.package.value(module, node.iter):
                    scan(walk, module, node, {**names, f"={ast.unparse(node.target)}": str(word)}, owner)
        elif isinstance(node, ast.Call | ast.Subscript):
            section_of(walk, module, node, names, owner)
    return returned


def ordered(body: ast.AST) -> list[ast.Assign | ast.Return | ast.Compare | ast.For | ast.Call | ast.Subscript]:
    """Assignments, returns, lookups, loops and calls in the order of the source."""
    wanted = ast.Assign | ast.Return | ast.Compare | ast.For | ast.Call | ast.Subscript
    nodes = [n for n in ast.walk(body) if isinstance(n, wanted)]
    return sorted(nodes, key=lambda n: (n.lineno, not isinstance(n, ast.Assign), n.col_offset))


def text(walk: Walk, module: Module, node: ast.expr, names: dict[str, str]) -> str:
    """A key that is a literal, a constant of the package, or an argument (kept in `names` behind a "=")."""
    if isinstance(node, ast.Name) and f"={node.id}" in names:
        return names[f"={node.id}"]
    try:
        value = walk.package.value(module, node)
    except Unknown:
        return ""
    return value if isinstance(value, str) else ""


def section_of(
    walk: Walk, module: Module, node: ast.expr, names: dict[str, str], owner: ast.ClassDef | None
) -> str | None:
    """The section that an expression holds, with every key that it looks up noted; None for anything else."""
    if isinstance(node, ast.Name | ast.Attribute):
        return names.get(ast.unparse(node))
    if isinstance(node, ast.BoolOp):
        return next(
            (s for part in node.values if (s := section_of(walk, module, part, names, owner)) is not None), None
        )
    if isinstance(node, ast.DictComp):  # {key: section.get(key, {}) for key in ("a", "b")}
        loop = node.generators[0]
        with suppress(Unknown):
            for key in walk.package.value(module, loop.iter):
                section_of(walk, module, node.value, {**names, f"={ast.unparse(loop.target)}": str(key)}, owner)
        got = node.value.func if isinstance(node.value, ast.Call) else None
        return section_of(walk, module, got.value, names, owner) if isinstance(got, ast.Attribute) else None
    if isinstance(node, ast.IfExp):
        return section_of(walk, module, node.body, names, owner)
    if isinstance(node, ast.Subscript):
        section = section_of(walk, module, node.value, names, owner)
        key = text(walk, module, node.slice, names)
        return looked_up(walk, section, key, {}) if section is not None and key else None
    if isinstance(node, ast.Call):
        return called(walk, module, node, names, owner)
    return None


def looked_up(walk: Walk, section: str, key: str, record: Record) -> str:
    walk.note(section, key, record)
    return f"{section}.{key}" if section else key


def called(walk: Walk, module: Module, node: ast.Call, names: dict[str, str], owner: ast.ClassDef | None) -> str | None:
    """A lookup (`get_scalar_param(section, KEY, DEFAULT)`, `section.get(KEY, DEFAULT)`), or a call that takes sections."""
    name = ast.unparse(node.func)
    args = list(node.args)
    if isinstance(node.func, ast.Attribute) and node.func.attr in {"get", "pop", "setdefault"} and args:
        section = section_of(walk, module, node.func.value, names, owner)
    elif name.rpartition(".")[2] in LOOKUPS and len(args) > 1:
        section, args = section_of(walk, module, args[0], names, owner), args[1:]
    elif name in {"copy.copy", "copy.deepcopy", "dict"} and args:
        return section_of(walk, module, args[0], names, owner)
    else:
        return passed_on(walk, module, node, names, owner)
    key = text(walk, module, args[0], names)
    if section is None or not key:
        return None
    return looked_up(walk, section, key, default_of(walk, module, args[1]) if len(args) > 1 else {})


def default_of(walk: Walk, module: Module, node: ast.expr) -> Record:
    """The default of a lookup, with the type that it shows."""
    record: Record = {}
    walk.package.put_default(module, record, node)
    kinds = {bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "dict"}
    if (kind := type(record.get("d"))) in kinds:
        record["t"] = "float|int" if kind is float else kinds[kind]
    return record


def passed_on(
    walk: Walk, module: Module, node: ast.Call, names: dict[str, str], owner: ast.ClassDef | None
) -> str | None:
    """Follows sections into a called function or class; `Class(**section)` gives the section the class's fields."""
    spread = next((k.value for k in node.keywords if k.arg is None), None)
    target = callee(walk, module, node.func, owner)
    if target is None:
        return None
    home, found = target
    if spread is not None and isinstance(found, ast.ClassDef):
        section = section_of(walk, module, spread, names, owner)
        if section is not None:
            fill(walk, home, found, section)
        return None
    function = found
    if isinstance(found, ast.ClassDef):
        inits = [(h, m) for h, c in walk.package.lineage(home, found) for m in methods(c) if m.name == "__init__"]
        if not inits:
            return None
        home, function = inits[0]
    if not isinstance(function, ast.FunctionDef):
        return None
    formal = [a.arg for a in function.args.args]
    if formal and formal[0] == "self":
        formal = formal[1:]
    given = defaults(walk, home, function)
    sections = 0
    pairs = [*zip(formal, node.args, strict=False), *((k.arg, k.value) for k in node.keywords if k.arg)]
    for parameter, value in pairs:
        section = section_of(walk, module, value, names, owner)
        if section is not None:
            given[parameter] = section
            sections += 1
        elif word := text(walk, module, value, names):
            given[f"={parameter}"] = word
    inner_owner = (
        found if isinstance(found, ast.ClassDef) else (owner if ast.unparse(node.func).startswith("self.") else None)
    )
    return enter(walk, home, function, given, inner_owner) if sections else None


def defaults(walk: Walk, module: Module, function: ast.FunctionDef) -> dict[str, str]:
    """The arguments of a function that default to a word, as `text` finds them."""
    spec = function.args
    pairs = zip(spec.args[len(spec.args) - len(spec.defaults) :], spec.defaults, strict=True)
    found = {f"={arg.arg}": text(walk, module, value, {}) for arg, value in pairs}
    return {name: word for name, word in found.items() if word}


def callee(walk: Walk, module: Module, node: ast.expr, owner: ast.ClassDef | None) -> tuple[Module, ast.AST] | None:
    """The function, method or class that is called."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self" and owner:
        return next(((module, m) for m in methods(owner) if m.name == node.attr), None)
    return walk.package.follow(module, node) if isinstance(node, ast.Name | ast.Attribute) else None


def fill(walk: Walk, module: Module, node: ast.ClassDef, section: str) -> None:
    """A pydantic class's fields as a section, and the classes of its fields as sections below it."""
    options = class_fields(walk.package, module, node)
    known = walk.scopes.setdefault(section, {})
    mark = (module.path, node.name, ((section, ""),))
    if mark in walk.entered:
        return
    walk.entered.add(mark)
    for key, record in options.items():
        known[key] = {**known.get(key, {}), **record}
    for home, cls in walk.package.lineage(module, node):
        for statement in cls.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                key = statement.target.id
                for part in ast.walk(statement.annotation):
                    inner = walk.package.follow(home, part) if isinstance(part, ast.Name) else None
                    if (
                        inner
                        and isinstance(inner[1], ast.ClassDef)
                        and known.get(key, {}).get("t", "").startswith("dict")
                    ):
                        alias = known[key].get("a", [])
                        for name in [key, *alias]:
                            fill(walk, inner[0], inner[1], f"{section}.{name}" if section else name)


def schedulers(walk: Walk) -> None:
    """`scheduler.params` of each schedule that DeepSpeed brings, as `scheduler.params:WarmupLR` and so on."""
    module = walk.package.module("deepspeed/runtime/lr_schedules.py")
    for name, node in (module.classes if module else {}).items():
        init = next((m for m in methods(node) if m.name == "__init__"), None)
        if module and init and init.args.args[1:2] and init.args.args[1].arg == "optimizer":
            options = signature(walk.package, module, init)
            walk.scopes[f"scheduler.params:{name}"] = {k: v for k, v in options.items() if k != "optimizer"}


def mark_removed(walk: Walk, module: Module) -> None:
    """Keys that this release refuses with a message are no options of it."""
    for constant, section in zip(REMOVED, ("", "zero_optimization"), strict=True):
        table = module.values.get(constant)
        for key in table.keys if isinstance(table, ast.Dict) else []:
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                walk.scopes[section][key.value] = {"gone": "removed: DeepSpeed stops with an error"}
                walk.scopes.pop(f"{section}.{key.value}" if section else key.value, None)
