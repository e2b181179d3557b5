"""Configurations written in Python (torchtitan): calls of `...Config(...)` read from the syntax tree, never imported."""

from __future__ import annotations

import ast
import re
from typing import Any

from advisor_mcp.linting.source import SourceFile, Utf8
from advisor_mcp.linting.tree import UNKNOWN, Entry, Malformed, Mapping, Node, Scalar, Sequence
from advisor_mcp.linting.unit import Unit, from_tree


def python_units(source: SourceFile) -> list[Unit]:
    """A torchtitan unit for each outermost `Trainer.Config(...)` or `JobConfig(...)` call. Raises `Malformed`."""
    if "torchtitan" not in source.text and "Trainer.Config" not in source.text:
        return []
    try:
        module = ast.parse(source.text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        offset = source._starts[line - 1] if line and line <= len(source._starts) else 0
        raise Malformed(f"is not valid Python: {getattr(error, 'msg', 'it is nested too deeply')}", offset) from None
    reader = _Reader(source)
    return [from_tree("torchtitan", tree, "python") for tree in reader.configs(module)]


class _Reader:
    def __init__(self, source: SourceFile) -> None:
        self.source, self.utf8 = source, Utf8(source.text)
        # a lone carriage return ends a line too, as it does for the parser
        self.lines = [0, *(end.end() for end in re.finditer(rb"\r\n?|\n", self.utf8.data))]

    def configs(self, module: ast.Module) -> list[Mapping]:
        found: list[Mapping] = []
        stack: list[ast.AST] = [module]
        while stack:
            node = stack.pop()
            if isinstance(node, ast.Call) and self.name(node.func) in ("Trainer.Config", "JobConfig"):
                mapping = self.call(node, 0)
                if mapping.entries:
                    found.append(mapping)
                continue
            stack += list(ast.iter_child_nodes(node))
        return sorted(found, key=lambda mapping: mapping.start)

    def name(self, node: ast.expr) -> str:
        if isinstance(node, ast.Attribute):
            return f"{self.name(node.value)}.{node.attr}"
        return node.id if isinstance(node, ast.Name) else ""

    def at(self, line: int, column: int) -> int:
        return self.utf8.at(self.lines[line - 1] + column)

    def span(self, node: ast.expr | ast.keyword) -> tuple[int, int]:
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
        return self.at(node.lineno, node.col_offset), self.at(end_line, end_column)

    def call(self, node: ast.Call, depth: int) -> Mapping:
        start, end = self.span(node)
        mapping = Mapping(self.source, start, end, flow=True)
        for keyword in node.keywords:
            if keyword.arg:
                begin, _ = self.span(keyword)
                key = Scalar(self.source, begin, begin + len(keyword.arg), keyword.arg, keyword.arg)
                mapping.entries.append(Entry(key, self.value(keyword.value, depth + 1)))
        return mapping

    def value(self, node: ast.expr, depth: int) -> Node:
        start, end = self.span(node)
        if isinstance(node, ast.Call) and depth < 20 and node.keywords:
            return self.call(node, depth)
        if isinstance(node, ast.List | ast.Tuple) and depth < 20:
            return Sequence(self.source, start, end, [self.value(item, depth + 1) for item in node.elts], flow=True)
        try:
            value: Any = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            value = UNKNOWN
        text = value if isinstance(value, str) else self.source.text[start:end]
        if isinstance(value, dict | set | bytes | complex):
            value = UNKNOWN
        return Scalar(self.source, start, end, text, value, isinstance(value, str))
