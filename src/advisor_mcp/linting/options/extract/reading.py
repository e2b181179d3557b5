"""Python source read without importing it: names, literals, dataclass and pydantic fields, annotations."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from advisor_mcp.linting.options.extract.packages import Release

Record = dict[str, Any]
DEPTH = 12  # how many names are followed before an expression is given up
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: lambda a, b: a**b if abs(b) < 64 else None,
    ast.LShift: lambda a, b: a << b if b < 64 else None,
    ast.BitOr: operator.or_,
}
BUILTIN = {"bool": "bool", "int": "int", "float": "float", "str": "str", "dict": "dict", "list": "list"}
SHAPES = {
    **dict.fromkeys(("list", "List", "Sequence", "Iterable", "tuple", "Tuple", "set", "Set", "frozenset"), "list"),
    **dict.fromkeys(("dict", "Dict", "Mapping", "MutableMapping", "OrderedDict", "DefaultDict", "defaultdict"), "dict"),
    **dict.fromkeys(("Path", "PathLike", "FilePath", "DirectoryPath", "Pattern", "SecretStr"), "str"),
    **dict.fromkeys(("PositiveInt", "NonNegativeInt", "StrictInt"), "int"),
    **dict.fromkeys(("PositiveFloat", "NonNegativeFloat", "StrictFloat"), "float"),
    **dict.fromkeys(("StrictBool",), "bool"),
    **dict.fromkeys(("StrictStr", "LiteralString"), "str"),
}
CONVERTERS: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "str": str, "bool": bool, "pp_int": int}
WRAPPERS = {"Annotated", "A", "Optional", "Final", "Required", "NotRequired", "SkipValidation", "InitVar"}


class Unknown(Exception):
    """An expression whose value only running the package would tell."""


@dataclass(eq=False)
class Module:
    """One parsed file: its names, and where they come from."""

    package: Package
    path: str
    tree: ast.Module

    @property
    def dotted(self) -> str:
        parts = PurePosixPath(self.path).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def values(self) -> dict[str, ast.expr]:
        """Names assigned at the module's level: the last plain assignment, else the first one in a branch."""
        found: dict[str, ast.expr] = {}
        for node in top_level(self.tree.body):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                for name in targets(node):
                    if name not in found or node in self.tree.body:
                        found[name] = node.value
        return found

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        return {n.name: n for n in reversed(list(top_level(self.tree.body))) if isinstance(n, ast.ClassDef)}

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef]:
        return {n.name: n for n in reversed(list(top_level(self.tree.body))) if isinstance(n, ast.FunctionDef)}

    @cached_property
    def imports(self) -> dict[str, tuple[str, str]]:
        """Local name to (dotted module, name in it; "" for the module itself), from anywhere in the file."""
        found: dict[str, tuple[str, str]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    found.setdefault(alias.asname or alias.name, (self.absolute(node), alias.name))
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    local = alias.asname or alias.name.partition(".")[0]
                    found.setdefault(local, (alias.name if alias.asname else local, ""))
        return found

    def absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.dotted.split(".")
        keep = len(parts) - node.level + (self.path.endswith("__init__.py"))
        return ".".join([*parts[: max(keep, 0)], *([node.module] if node.module else [])])


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those inside its top-level `if`, `try` and `with` included."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With):
                yield from top_level(getattr(node, part, []))
        if isinstance(node, ast.Try):
            for handler in node.handlers:
                yield from top_level(handler.body)


@dataclass(eq=False)
class Package:
    """The parsed files of one release, read when first asked for. `base` is the folder that imports start from."""

    release: Release
    base: str = ""
    parsed: dict[str, Module | None] = field(default_factory=dict)
    other: Package | None = None

    def module(self, path: str) -> Module | None:
        """The parsed file, None where the release has none (or it is not valid Python)."""
        if path not in self.parsed:
            text = self.release.text(path)
            try:
                self.parsed[path] = Module(self, path.removeprefix(self.base), ast.parse(text)) if text else None
            except SyntaxError:
                self.parsed[path] = None
        return self.parsed[path]

    def named(self, dotted: str) -> Module | None:
        """The module of a dotted name."""
        stem = self.base + dotted.replace(".", "/")
        found = self.module(f"{stem}.py") or self.module(f"{stem}/__init__.py")
        if found is None and self.release.beside:
            if self.other is None:
                self.other = Package(self.release.beside)
            found = self.other.named(dotted)
        return found

    def find(self, module: Module, name: str, depth: int = 0) -> tuple[Module, ast.AST] | None:
        """Where a name leads: the module that defines it, and the class, function or expression."""
        if depth > DEPTH:
            return None
        for table in (module.classes, module.functions, module.values):
            if name in table:
                return module, table[name]
        if name in module.imports:
            dotted, inner = module.imports[name]
            source = self.named(dotted)
            if source and inner:
                return self.find(source, inner, depth + 1)
            return None
        for node in top_level(module.tree.body):
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                source = self.named(module.absolute(node))
                if source and source is not module and (found := self.find(source, name, depth + 1)):
                    return found
        return None

    def follow(self, module: Module, node: ast.expr) -> tuple[Module, ast.AST] | None:
        """Where a name or a dotted name leads."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                node = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                return None
        if isinstance(node, ast.Name):
            return self.find(module, node.id)
        if isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            head, _, rest = dotted.partition(".")
            if head in module.imports:
                home, inner = module.imports[head]
                full = f"{home}.{inner}" if inner else home
                stem, _, last = f"{full}.{rest}".rpartition(".")
                if source := self.named(stem):
                    return self.find(source, last)
            owner = self.follow(module, node.value)
            if owner and isinstance(owner[1], ast.ClassDef):
                inner_class = next(
                    (n for n in owner[1].body if isinstance(n, ast.ClassDef) and n.name == node.attr), None
                )
                if inner_class:
                    return owner[0], inner_class
        return None

    def lineage(self, module: Module, node: ast.ClassDef) -> list[tuple[Module, ast.ClassDef]]:
        """A class and its ancestors within the package, the class itself first (method resolution order, roughly)."""
        line = [(module, node)]
        for base in node.bases:
            found = self.follow(module, base.value if isinstance(base, ast.Subscript) else base)
            if found and isinstance(found[1], ast.ClassDef) and found[1] is not node:
                line += [pair for pair in self.lineage(found[0], found[1]) if pair not in line]
        return line

    def value(self, module: Module, node: ast.AST, depth: int = 0) -> Any:
        """The value of an expression of literals, constants of the package, class defaults and enum members.

        Raises `Unknown` for everything else.
        """
        if depth > DEPTH:
            raise Unknown(ast.dump(node))
        deeper = depth + 1
        if isinstance(node, ast.Constant):
            if isinstance(node.value, bytes | complex) or node.value is ...:
                raise Unknown(repr(node.value))
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
            inner = self.value(module, node.operand, deeper)
            return -inner if isinstance(node.op, ast.USub) else not inner
        if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            pair = self.value(module, node.left, deeper), self.value(module, node.right, deeper)
            try:
                result = ARITHMETIC[type(node.op)](*pair)
            except (TypeError, ArithmeticError) as error:
                raise Unknown(ast.unparse(node)) from error
            if result is None:
                raise Unknown(ast.unparse(node))
            return result
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return [item for part in node.elts for item in self.items(module, part, deeper)]
        if isinstance(node, ast.Dict):
            return self.mapping(module, node, deeper)
        if isinstance(node, ast.Call):
            return self.call(module, node, deeper)
        if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp):
            return self.comprehension(module, node, deeper)
        if isinstance(node, ast.Subscript):
            return self.subscript(module, node, deeper)
        if isinstance(node, ast.Name | ast.Attribute):
            return self.name_value(module, node, deeper)
        raise Unknown(ast.dump(node)[:80])

    def items(self, module: Module, node: ast.expr, depth: int) -> list[Any]:
        value = self.value(module, node.value if isinstance(node, ast.Starred) else node, depth)
        return list(value) if isinstance(node, ast.Starred) else [value]

    def mapping(self, module: Module, node: ast.Dict, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                found.update(self.value(module, value, depth))
                continue
            name = self.value(module, key, depth)
            if isinstance(name, list | dict):
                raise Unknown("key")
            try:
                found[name] = self.value(module, value, depth)
            except Unknown:
                found[name] = Unknown
        if depth <= 1 and Unknown in found.values():
            raise Unknown("value of a mapping")
        return found

    def subscript(self, module: Module, node: ast.Subscript, depth: int) -> Any:
        owner = self.value(module, node.value, depth)
        index = self.value(module, node.slice, depth)
        try:
            found = owner[index]
        except (KeyError, IndexError, TypeError) as error:
            raise Unknown(ast.unparse(node)) from error
        if found is Unknown:
            raise Unknown(ast.unparse(node))
        return found

    def call(self, module: Module, node: ast.Call, depth: int) -> Any:
        """Calls that only rearrange literals: list(...), get_args(Alias), X.keys(), field(default=...)."""
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in {"list", "tuple", "set", "sorted", "frozenset", "dict"}:
            if name == "dict":
                if node.args or any(k.arg is None for k in node.keywords):
                    raise Unknown("dict")
                return {k.arg: self.value(module, k.value, depth) for k in node.keywords}
            inner = self.value(module, node.args[0], depth) if node.args else []
            if not isinstance(inner, list | dict | str):
                raise Unknown(name)
            return sorted(map(str, inner)) if name in {"set", "frozenset"} else list(inner)
        if name in CONVERTERS and node.args:
            plain = self.value(module, node.args[0], depth)
            try:
                return CONVERTERS[name](plain)
            except (TypeError, ValueError) as error:
                raise Unknown(name) from error
        if name == "get_args" and node.args:
            return list(self.annotation(module, node.args[0]).get("c", ()))
        if name in {"keys", "values", "copy"} and isinstance(node.func, ast.Attribute):
            owner = self.value(module, node.func.value, depth)
            if isinstance(owner, dict):
                return {"keys": list(owner), "values": list(owner.values()), "copy": owner}[name]
            if name == "copy":
                return owner
        if name == "get_field" and len(node.args) == 2 and isinstance(node.args[1], ast.Constant):
            return self.class_default(module, node.args[0], str(node.args[1].value), depth)
        if name in {"field", "Field"}:
            record = self.field_call(module, node)
            if "d" in record:
                return record["d"]
        raise Unknown(name)

    def comprehension(
        self, module: Module, node: ast.ListComp | ast.GeneratorExp | ast.SetComp, depth: int
    ) -> list[Any]:
        """`[e.value for e in Enum]`, `[str(x) for x in names]` and the like."""
        only = node.generators[0]
        if len(node.generators) > 1 or only.ifs or not isinstance(only.target, ast.Name):
            raise Unknown("comprehension")
        members = self.enum_members(module, only.iter)
        if members is not None:
            wanted = ast.unparse(node.elt)
            variable = only.target.id
            if wanted in {f"{variable}.name", f"{variable}.name.lower()"}:
                return [k.lower() if wanted.endswith("lower()") else k for k in members]
            return list(members.values())
        values = self.value(module, only.iter, depth)
        if ast.unparse(node.elt) in {only.target.id, f"str({only.target.id})"}:
            return [str(v) for v in values] if isinstance(node.elt, ast.Call) else list(values)
        raise Unknown("comprehension")

    def name_value(self, module: Module, node: ast.Name | ast.Attribute, depth: int) -> Any:
        if isinstance(node, ast.Attribute):
            if node.attr == "value":
                return self.value(module, node.value, depth)
            owner = self.follow(module, node.value)
            if owner and isinstance(owner[1], ast.ClassDef):
                members = self.enum_members(module, node.value)
                if members and node.attr in members:
                    return members[node.attr]
                return self.class_default(module, node.value, node.attr, depth)
        found = self.follow(module, node)
        if found and isinstance(found[1], ast.expr):
            return self.value(found[0], found[1], depth)
        raise Unknown(ast.unparse(node))

    def class_default(self, module: Module, owner: ast.expr, name: str, depth: int) -> Any:
        """The default of a class's field."""
        found = self.follow(module, owner)
        if found and isinstance(found[1], ast.ClassDef):
            for home, node in self.lineage(found[0], found[1]):
                for statement in node.body:
                    if isinstance(statement, ast.AnnAssign | ast.Assign) and name in targets(statement):
                        if statement.value is None:
                            raise Unknown(name)
                        return self.value(home, statement.value, depth)
        raise Unknown(name)

    def enum_members(self, module: Module, node: ast.expr) -> dict[str, Any] | None:
        """The members of an Enum class, None where the name leads to something else."""
        found = self.follow(module, node)
        if not found or not isinstance(found[1], ast.ClassDef):
            return None
        line = self.lineage(found[0], found[1])
        bases = {ast.unparse(base).rpartition(".")[2] for _, cls in line for base in cls.bases}
        if not any("Enum" in base or base == "IntFlag" for base in bases):
            return None
        members: dict[str, Any] = {}
        for home, cls in line:
            for statement in cls.body:
                if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                    name = statement.targets[0].id
                    try:
                        value = self.value(home, statement.value)
                    except Unknown:
                        value = name.lower()
                    if not name.startswith("_"):
                        members[name] = value[0] if isinstance(value, list) and value else value
        if any(isinstance(v, str) and v.count(".") > 1 for v in members.values()):
            return {name: name for name in members}  # class paths, chosen by the member's name
        return members or None

    def annotation(self, module: Module, node: ast.expr | None, depth: int = 0) -> Record:
        """An annotation as {"t": "int|null", "c": [...], "ge": 0}: types joined by |, choices, bounds."""
        record: Record = {}
        types = self.types(module, node, record, depth) if node is not None else ["any"]
        if choices := record.get("c"):
            record["c"] = list(dict.fromkeys(choices))
        ordered = list(dict.fromkeys(types))
        if "null" in ordered:
            ordered = [t for t in ordered if t != "null"] + ["null"]
        record["t"] = "any" if "any" in ordered else "|".join(ordered)
        return record

    def types(self, module: Module, node: ast.expr, record: Record, depth: int) -> list[str]:
        if depth > DEPTH:
            return ["any"]
        deeper = depth + 1
        if isinstance(node, ast.Constant):
            if node.value is None:
                return ["null"]
            if isinstance(node.value, str):
                try:
                    return self.types(module, ast.parse(node.value, mode="eval").body, record, deeper)
                except SyntaxError:
                    return ["any"]
            return ["any"]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self.types(module, node.left, record, deeper) + self.types(module, node.right, record, deeper)
        if isinstance(node, ast.Subscript):
            return self.subscripted(module, node, record, deeper)
        if not isinstance(node, ast.Name | ast.Attribute):
            return ["any"]
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name in BUILTIN or name in SHAPES:
            if name.startswith("Positive"):
                record["gt"] = 0
            if name.startswith("NonNegative"):
                record["ge"] = 0
            return [BUILTIN.get(name) or SHAPES[name]]
        if name == "None":
            return ["null"]
        return self.followed(module, node, record, deeper)

    def followed(self, module: Module, node: ast.Name | ast.Attribute, record: Record, depth: int) -> list[str]:
        """The types of a name that leads to an enum, a class or an alias."""
        members = self.enum_members(module, node)
        if members is not None:
            record.setdefault("c", []).extend(members.values())
            return ["enum"]
        found = self.follow(module, node)
        if found and isinstance(found[1], ast.ClassDef):
            bases = {ast.unparse(b).rpartition(".")[2].partition("[")[0] for b in found[1].bases}
            return ["str"] if "str" in bases else ["dict"]
        if found and isinstance(found[1], ast.expr):
            return self.types(found[0], found[1], record, depth)
        return ["any"]

    def subscripted(self, module: Module, node: ast.Subscript, record: Record, depth: int) -> list[str]:
        name = ast.unparse(node.value).rpartition(".")[2]
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name == "Literal":
            values = self.literals(module, parts, depth)
            if values is None:
                return ["any"]
            record.setdefault("c", []).extend(v for v in values if v is not None)
            return ["enum"] + (["null"] if None in values else [])
        if name == "Union":
            return [t for part in parts for t in self.types(module, part, record, depth)]
        if name in WRAPPERS:
            if name in {"Annotated", "A"}:
                for extra in parts[1:]:
                    if isinstance(extra, ast.Call):
                        record.update({k: v for k, v in self.field_call(module, extra).items() if k != "d"})
            inner = self.types(module, parts[0], record, depth)
            return [*inner, "null"] if name == "Optional" else inner
        if name in SHAPES:
            return [SHAPES[name]]
        return ["any"]

    def literals(self, module: Module, parts: list[ast.expr], depth: int) -> list[Any] | None:
        """The values of a Literal, those of aliases within it included; None where one of them is out of reach."""
        values: list[Any] = []
        for part in parts:
            found = self.follow(module, part) if isinstance(part, ast.Name | ast.Attribute) else None
            if found and isinstance(found[1], ast.Subscript):
                inner = found[1].slice
                nested = self.literals(found[0], inner.elts if isinstance(inner, ast.Tuple) else [inner], depth + 1)
                if nested is None or depth > DEPTH:
                    return None
                values += nested
            else:
                try:
                    value = self.value(module, part, depth)
                except Unknown:
                    return None
                values += value if isinstance(value, list) else [value]
        return values

    def field_call(self, module: Module, node: ast.Call) -> Record:
        """`field(...)` of dataclasses or `Field(...)` of pydantic: default, bounds, aliases, deprecation, choices."""
        record: Record = {}
        name = ast.unparse(node.func).rpartition(".")[2]
        if name == "Field" and node.args:
            self.put_default(module, record, node.args[0])
        for keyword in node.keywords:
            self.field_keyword(module, record, keyword)
        return record

    def field_keyword(self, module: Module, record: Record, keyword: ast.keyword) -> None:
        node = keyword.value
        match keyword.arg:
            case "default":
                self.put_default(module, record, node)
            case "default_factory":
                empty: Any = {"list": [], "dict": {}, "set": [], "tuple": []}.get(ast.unparse(node))
                if empty is not None:
                    record["d"] = empty
                elif isinstance(node, ast.Lambda):
                    self.put_default(module, record, node.body)
                else:
                    record["has_default"] = True
            case "ge" | "gt" | "le" | "lt":
                with suppress(Unknown):
                    record[keyword.arg] = self.value(module, node)
            case "alias" | "validation_alias":
                record["a"] = strings(node)
            case "deprecated":
                record["message"] = " ".join(strings(node)) or "deprecated"
            case "new_param":
                record["to"] = next(iter(strings(node)), "")
            case "metadata" | "json_schema_extra":
                self.metadata(module, record, node)
            case "description" | "help":
                record["help"] = " ".join(strings(node))
            case "init":
                if isinstance(node, ast.Constant) and node.value is False:
                    record["no_init"] = True
            case _:
                pass

    def metadata(self, module: Module, record: Record, node: ast.expr) -> None:
        """`metadata={"help": ..., "choices": [...]}` of a dataclass field."""
        if not isinstance(node, ast.Dict):
            return
        for key, value in zip(node.keys, node.values, strict=True):
            label = key.value if isinstance(key, ast.Constant) else None
            if label == "choices":
                with suppress(Unknown):
                    record["c"] = self.value(module, value)
            elif label == "help":
                record["help"] = " ".join(strings(value))
            elif label in {"aliases", "arg_names"}:
                record["a"] = strings(value)
            elif label == "argparse_meta":  # Megatron-LM: arguments for `add_argument`, which win
                self.metadata(module, record, value)
            elif label == "new_param":
                record["to"] = next(iter(strings(value)), "")
            elif label == "deprecated" and isinstance(value, ast.Constant) and value.value:
                record["message"] = "deprecated"

    def put_default(self, module: Module, record: Record, node: ast.expr) -> None:
        if isinstance(node, ast.Constant) and node.value is ...:
            return
        try:
            record["d"] = self.value(module, node)
        except Unknown:
            record["has_default"] = True


def targets(statement: ast.AnnAssign | ast.Assign) -> list[str]:
    """The plain names that a statement assigns."""
    nodes = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return [node.id for node in nodes if isinstance(node, ast.Name)]


def strings(node: ast.AST) -> list[str]:
    """Every string literal within an expression, in order (adjacent parts of one message apart)."""
    return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
