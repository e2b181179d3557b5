"""JSON with positions: the standard library says whether it is valid, tree-sitter where each part stands."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from advisor_mcp.linting.source import SourceFile, Utf8, line_start
from advisor_mcp.linting.tree import (
    DEEPEST,
    MOST_NODES,
    UNKNOWN,
    Entry,
    IsTemplate,
    Malformed,
    Mapping,
    Node,
    Scalar,
    Sequence,
)

PLACEHOLDER = "__unknown__"
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\$\{?\w+\}?|\b[A-Z][A-Z0-9_]{3,}\b")
_COMMENT = re.compile(r"^\s*(//|/\*|#)", re.MULTILINE)


def read_json(source: SourceFile) -> Node:
    """The document. Raises `Malformed`, or `IsTemplate` where unfilled fields are what breaks it."""
    try:
        json.loads(source.text)
    except RecursionError:
        raise Malformed(f"is nested more than {DEEPEST} levels deep") from None
    except json.JSONDecodeError as error:
        if _is_template(source.text, error.pos):
            raise IsTemplate from None
        said = (
            "has a comment, which JSON does not allow"
            if _COMMENT.match(source.text, line_start(source.text, error.pos))
            else f"is not valid JSON: {error.msg[0].lower()}{error.msg[1:]}"
        )
        raise Malformed(said, error.pos, _tolerantly(source)) from None
    except ValueError:  # a number of more digits than the interpreter converts
        raise Malformed("holds a number of thousands of digits") from None
    return _Builder(source, source.text).document()


_LOOSE = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/|#[^\n]*', re.DOTALL)
_LAST_COMMA = re.compile(r'"(?:[^"\\\n]|\\.)*"|,(?=\s*[}\]])')


def _tolerantly(source: SourceFile) -> Node | None:
    """The document once comments and last commas are blanked, as Hjson's readers take it; None where that is not enough."""

    def blank(found: re.Match[str]) -> str:
        text = found.group()
        return text if text.startswith('"') else "".join("\n" if char == "\n" else " " for char in text)

    text = _LAST_COMMA.sub(blank, _LOOSE.sub(blank, source.text))
    try:
        json.loads(text)
        return _Builder(source, text).document()
    except (ValueError, RecursionError, Malformed):
        return None


def _is_template(text: str, at: int) -> bool:
    found = _TEMPLATE.match(text, at)
    return bool(found) and found.group() not in ("NULL", "TRUE", "FALSE", "None") if found else False


@cache
def _parser() -> Any:
    import tree_sitter_json
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_json.language()))


class _Builder:
    def __init__(self, source: SourceFile, text: str) -> None:
        self.source, self.utf8, self.count = source, Utf8(text), 0
        self.at = self.utf8.at

    def document(self) -> Node:
        root = _parser().parse(self.utf8.data).root_node
        values = [child for child in root.named_children if child.type != "comment"]
        if not values:
            raise Malformed("is empty")
        return self.node(values[0], 0)

    def node(self, syntax: Any, depth: int) -> Node:
        self.count += 1
        start, end = self.at(syntax.start_byte), self.at(syntax.end_byte)
        if depth > DEEPEST:
            raise Malformed(f"is nested more than {DEEPEST} levels deep", start)
        if self.count > MOST_NODES:
            raise Malformed(f"has more than {MOST_NODES:,} values, which no configuration has", start)
        if syntax.type == "object":
            entries = [
                Entry(
                    self.scalar(pair.child_by_field_name("key")),
                    self.node(pair.child_by_field_name("value"), depth + 1),
                )
                for pair in syntax.named_children
                if pair.type == "pair"
            ]
            return Mapping(self.source, start, end, entries, flow=True)
        if syntax.type == "array":
            items = [self.node(child, depth + 1) for child in syntax.named_children if child.type != "comment"]
            return Sequence(self.source, start, end, items, flow=True)
        return self.scalar(syntax)

    def scalar(self, syntax: Any) -> Scalar:
        start, end = self.at(syntax.start_byte), self.at(syntax.end_byte)
        written = self.source.text[start:end]
        value = json.loads(written)
        quoted = isinstance(value, str)
        text = value if quoted else written
        return Scalar(self.source, start, end, text, UNKNOWN if PLACEHOLDER in text else value, quoted)
