"""Environment variables that Python source reads, found by the calls that read them."""

from __future__ import annotations

import ast
import re

from advisor_mcp.linting.options.extract.fields import Options
from advisor_mcp.linting.options.extract.reading import Module, Package, Record, Unknown

READERS = re.compile(
    r"(^|\.)(getenv|environ\.(get|pop|setdefault)|_?get_(bool|int|float|str)?_?env(_var|_flag)?|env_\w+)$"
)


def reads(package: Package, pattern: str, name: re.Pattern[str]) -> Options:
    """The variables whose name matches, read anywhere in the files that match a glob pattern."""
    found: Options = {}
    for path in package.release.files(pattern):
        if not name.search(package.release.text(path)):
            continue
        module = package.module(path)
        for node in ast.walk(module.tree) if module else ():
            if module and isinstance(node, ast.Call) and node.args and READERS.search(ast.unparse(node.func)):
                note(package, module, node.args[0], node.args[1:2], name, found)
            elif module and isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"):
                note(package, module, node.slice, [], name, found)
            elif module and isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]).endswith("environ"):
                note(package, module, node.left, [], name, found)
    return found


def note(
    package: Package, module: Module, node: ast.expr, default: list[ast.expr], name: re.Pattern[str], found: Options
) -> None:
    """Adds one variable, with the default that the call passes."""
    try:
        variable = package.value(module, node)
    except Unknown:
        return
    if not isinstance(variable, str) or not name.fullmatch(variable):
        return
    record: Record = {}
    if default:
        package.put_default(module, record, default[0])
    record.pop("has_default", None)
    known = found.setdefault(variable, record)
    if "d" not in known and "d" in record:
        known["d"] = record["d"]
