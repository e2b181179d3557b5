"""Options out of classes and signatures: dataclass and pydantic fields, keyword arguments, deprecation messages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from advisor_mcp.linting.options.extract.reading import Module, Package, Record, Unknown, targets

Options = dict[str, Record]
INSTEAD = re.compile(
    r"(?:\buse|\busing|the use of|in favou?r of|(?:replaced|superseded) (?:by|with)|renamed to|moved to|switch to|\bset|alias (?:for|of))"
    r"\s+(?:the\s+|an?\s+|now\s+)?[`'\"*(\[]*(--?[A-Za-z][\w.-]*|[A-Za-z_][\w.]*\w)",
    re.IGNORECASE,
)
SUBJECT = re.compile(
    r"(?<!Passing )[`'\"]*(?:--)?\b([A-Za-z_][\w-]*)[`'\"=]*(?:\s+\(?(?:argument|option|parameter|flag|field|arg|setting|attribute)s?)?"
    r"\s+(?:is|was|are|has been|will be)\s+(?:now\s+|also\s+)?(?:deprecated|renamed|removed|no longer)",
    re.IGNORECASE,
)
STATED = re.compile(
    r"\W*(deprecated\b|(this|the|use of this)\b[^.]{0,40}\b(is|are|has been|was) (now )?deprecated)", re.IGNORECASE
)
REMOVAL = re.compile(r"removed (?:in|from|by|after|with)(?: [\w/-]+){0,3} v?(\d+(?:\.\d+)+)", re.IGNORECASE)
REFUSED = "no longer supported: stops with an error"
KINDS = {
    "has_default",
    "no_init",
    "help",
    "message",
    "mentions",
    "private",
}  # what is read but not kept


def class_fields(package: Package, module: Module, node: ast.ClassDef, stop: Iterable[str] = ()) -> Options:
    """The annotated fields of a class and its ancestors, an heir's field in place of its ancestor's.

    Ancestors named in `stop` (and theirs) are left out: their options are inherited by reference.
    """
    options: Options = {}
    for home, cls in reversed(package.lineage(module, node)):
        if cls.name not in stop:
            for statement in cls.body:
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    record = one_field(package, home, statement)
                    if record is None:
                        options.pop(statement.target.id, None)
                    elif not statement.target.id.startswith("_"):
                        options[statement.target.id] = record
                elif isinstance(statement, ast.Assign):
                    restated(package, home, statement, options)
            told(cls, options)
    return options


def told(node: ast.AST, options: Options) -> None:
    """Marks the options that a warning or an error within `node` calls deprecated, with the names it points to."""
    for text, raised in messages(node):
        match = SUBJECT.search(text)
        named = match and ("_" in match[1] or text[match.start(1) - 1 : match.start(1)] in {"`", "'", '"', "-"})
        subject = match[1].replace("-", "_") if match and named else ""
        if (
            subject in options
            and "both" not in text.lower()
            and not re.match(r"(passing|setting|using|the value)\b", text, re.IGNORECASE)
        ):
            found = deprecation(text)
            options[subject]["dep"] = max(options[subject].get("dep", ""), found["dep"], key=len)
            if raised:
                options[subject]["dep"] = REFUSED
            later = [name for name in found.get("mentions", []) if name.lstrip("-").replace("-", "_") != subject]
            if later:
                options[subject].setdefault("mentions", []).extend(later)
                options[subject]["and"] = bool(re.search(r"instead (and|with)\b|\bif you\b", text, re.IGNORECASE))


def messages(node: ast.AST) -> Iterator[tuple[str, bool]]:
    """The texts that a piece of code warns, logs or raises with, and whether it raises."""
    raised = {id(n.exc) for n in ast.walk(node) if isinstance(n, ast.Raise)}
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and call.args:
            name = ast.unparse(call.func).rpartition(".")[2]
            if name.startswith("warn") or name.endswith(("Error", "Warning", "deprecated")):
                yield text_of(call.args[0]), id(call) in raised


def text_of(node: ast.expr) -> str:
    """A message as written; what is filled in at run time becomes {}."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return text_of(node.func.value)
    return "{}"


def restated(package: Package, module: Module, statement: ast.Assign, options: Options) -> None:
    """A default that an heir gives anew without an annotation."""
    for name in targets(statement):
        if name in options:
            try:
                options[name] = {**options[name], "d": package.value(module, statement.value)}
            except Unknown:
                options[name].pop("d", None)


def one_field(package: Package, module: Module, statement: ast.AnnAssign) -> Record | None:
    """One annotated assignment of a class body as a record; None for a class variable or `init=False`."""
    written = ast.unparse(statement.annotation)
    if written.startswith(("ClassVar", "typing.ClassVar", "'ClassVar", "PrivateAttr")):
        return None
    record = package.annotation(module, statement.annotation)
    value = statement.value
    if isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] in {"field", "Field"}:
        extra = package.field_call(module, value)
        if extra.get("no_init"):
            return None
        record.update(extra)
    elif value is not None:
        package.put_default(module, record, value)
    return finish(record)


def finish(record: Record) -> Record:
    """Required or not, deprecated or not; what only served to decide that is dropped."""
    if "d" not in record and not record.get("has_default"):
        record["req"] = True
    help_text = str(record.get("help", ""))
    if "message" not in record and STATED.match(help_text):
        record["message"] = help_text
    if message := record.get("message"):
        record.update(deprecation(str(message)))
    return {key: value for key, value in record.items() if key not in KINDS or key == "mentions"}


def deprecation(message: str) -> Record:
    """What a deprecation message says, as facts: the release of its removal, and the names it points to."""
    removal = REMOVAL.search(message)
    note = f"deprecated, to be removed in {removal[1]}" if removal else "deprecated"
    if message == "refused":
        note = REFUSED
    found: Record = {"dep": note}
    if re.search(r"\bdefault\b", message):
        found["and"] = True  # "x is now the default, use y for the old way" is no rename
    names = [name.rstrip(".-") for name in INSTEAD.findall(message)]
    return {**found, "mentions": names} if names else found


def signature(package: Package, module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Options:
    """The named arguments of a function, `self`, `cls`, `*args` and `**kwargs` left out."""
    spec = node.args
    named = [*spec.posonlyargs, *spec.args]
    if named and named[0].arg in {"self", "cls"}:
        named = named[1:]
    offset = (
        len(spec.posonlyargs) + len(spec.args) - len(spec.defaults) - (len(spec.posonlyargs + spec.args) - len(named))
    )
    pairs: list[tuple[ast.arg, ast.expr | None]] = [
        (arg, spec.defaults[i - offset] if i >= offset else None) for i, arg in enumerate(named)
    ]
    pairs += list(zip(spec.kwonlyargs, spec.kw_defaults, strict=True))
    options: Options = {}
    for arg, default in pairs:
        record = package.annotation(module, arg.annotation)
        if default is not None:
            record["has_default"] = True
            package.put_default(module, record, default)
        options[arg.arg] = finish(record)
    return options


def init_options(package: Package, module: Module, node: ast.ClassDef) -> Options:
    """The arguments of a class's `__init__` (the nearest one in its lineage), or its fields where it has none."""
    for home, cls in package.lineage(module, node):
        for statement in cls.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                return signature(package, home, statement)
    return class_fields(package, module, node)


def class_named(package: Package, path: str, name: str) -> tuple[Module, ast.ClassDef] | None:
    """A class of one file, or the class that the file imports under that name."""
    module = package.module(path)
    found = package.find(module, name) if module else None
    return (found[0], found[1]) if found and isinstance(found[1], ast.ClassDef) else None


def classes_within(
    package: Package, module: Module, annotation: ast.expr, depth: int = 0
) -> list[tuple[Module, ast.ClassDef]]:
    """The package's own classes that an annotation names, through aliases, unions and lists; enums left out."""
    found: list[tuple[Module, ast.ClassDef]] = []
    for part in ast.walk(annotation):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part is not annotation:
            continue
        target = package.follow(module, part) if isinstance(part, ast.Name | ast.Attribute | ast.Constant) else None
        if target and isinstance(target[1], ast.ClassDef) and isinstance(part, ast.expr):
            if package.enum_members(module, part) is None and (target[0], target[1]) not in found:
                found.append((target[0], target[1]))
        elif target and isinstance(target[1], ast.expr) and depth < 4:
            found += [pair for pair in classes_within(package, target[0], target[1], depth + 1) if pair not in found]
    return found


def nested(
    package: Package, module: Module, node: ast.ClassDef, prefix: str = "", seen: tuple[str, ...] = ()
) -> dict[str, Options]:
    """The scopes below a class: for each field that holds another class, that class's fields, by dotted path."""
    scopes: dict[str, Options] = {}
    for home, cls in reversed(package.lineage(module, node)):
        for statement in cls.body:
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                continue
            path = f"{prefix}.{statement.target.id}" if prefix else statement.target.id
            for inner_home, inner in classes_within(package, home, statement.annotation):
                if inner.name not in seen and (options := class_fields(package, inner_home, inner)):
                    scopes.setdefault(path, {}).update({k: v for k, v in options.items() if k not in scopes[path]})
                    scopes.update(nested(package, inner_home, inner, path, (*seen, inner.name)))
    return scopes
