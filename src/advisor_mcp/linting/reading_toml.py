"""TOML with positions: the standard library says what it means, tree-sitter where each key stands."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from typing import Any

from advisor_mcp.linting.source import SourceFile, Utf8
from advisor_mcp.linting.tree import DEEPEST, Entry, IsTemplate, Malformed, Mapping, Node, Scalar, Sequence

_KEY = re.compile(r"^[^=\n#]*", re.MULTILINE)
_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)$")


def read_toml(source: SourceFile) -> Mapping:
    """The document. Raises `Malformed` or `IsTemplate`."""
    for key in _KEY.finditer(
        source.text
    ):  # before tomllib, whose time and memory grow with the square of a key's length
        if key.group().count(".") > DEEPEST:
            raise Malformed(f"is nested more than {DEEPEST} levels deep", key.start())
    try:
        meaning = tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        if "{{" in source.text:
            raise IsTemplate from None
        raise _malformed(source, str(error)) from None
    except RecursionError:
        raise Malformed(f"is nested more than {DEEPEST} levels deep") from None
    if _depth(meaning) > DEEPEST:
        raise Malformed(f"is nested more than {DEEPEST} levels deep")
    root = Mapping(source, 0, len(source.text))
    _Builder(source).fill(root, meaning)
    return root


def _depth(meaning: Any) -> int:
    """How deep tables and arrays stand in each other, counted up to one more than is allowed."""
    deepest, stack = 0, [(meaning, 0)]
    while stack and deepest <= DEEPEST:
        value, depth = stack.pop()
        deepest = max(deepest, depth)
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        stack += [(item, depth + 1) for item in inner]
    return deepest


def _malformed(source: SourceFile, message: str) -> Malformed:
    place = _PLACE.search(message)
    offset = source._starts[int(place[1]) - 1] + int(place[2]) - 1 if place else len(source.text)
    text = _PLACE.sub("", message).replace("(at end of document)", "").strip()
    return Malformed(f"is not valid TOML: {text[0].lower()}{text[1:]}", offset)


@cache
def _parser() -> Any:
    import tree_sitter_toml
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_toml.language()))


class _Builder:
    def __init__(self, source: SourceFile) -> None:
        self.source, self.utf8 = source, Utf8(source.text)
        self.at = self.utf8.at

    def fill(self, root: Mapping, meaning: dict[str, Any]) -> None:
        for syntax in _parser().parse(self.utf8.data).root_node.named_children:
            if syntax.type == "pair":
                self.pair(root, meaning, syntax)
            elif syntax.type in ("table", "table_array_element"):
                self.table(root, meaning, syntax)

    def table(self, root: Mapping, meaning: dict[str, Any], syntax: Any) -> None:
        key = next(child for child in syntax.named_children if child.type.endswith("key"))
        names = self.names(key)
        array = syntax.type == "table_array_element"
        target, inner = self.descend(root, meaning, names, key, append=array)
        for child in syntax.named_children:
            if child.type == "pair":
                self.pair(target, inner, child)
        target.end = self.at(syntax.end_byte)

    def descend(
        self, node: Mapping, meaning: Any, names: list[str], syntax: Any, append: bool = False
    ) -> tuple[Mapping, Any]:
        start, end = self.at(syntax.start_byte), self.at(syntax.end_byte)
        for place, name in enumerate(names):
            last = place == len(names) - 1
            meaning = meaning[name] if isinstance(meaning, dict) else {}
            found = node.get(name)
            key = Scalar(self.source, start, end, name, name)
            if isinstance(meaning, list):
                if not isinstance(found, Sequence):
                    found = Sequence(self.source, start, end)
                    node.entries.append(Entry(key, found))
                if (last and append) or not found.items:
                    found.items.append(Mapping(self.source, start, end))
                meaning = meaning[min(len(found.items), len(meaning)) - 1]
                inner = found.items[-1]
                node = inner if isinstance(inner, Mapping) else Mapping(self.source, start, end)
                continue
            if not isinstance(found, Mapping):
                found = Mapping(self.source, start, end)
                node.entries.append(Entry(key, found))
            node = found
        return node, meaning

    def names(self, key: Any) -> list[str]:
        if key.type == "dotted_key":
            return [name for child in key.named_children for name in self.names(child)]
        text = self.source.text[self.at(key.start_byte) : self.at(key.end_byte)]
        return [text[1:-1] if text[:1] in "\"'" else text]

    def pair(self, node: Mapping, meaning: Any, syntax: Any) -> None:
        key, value = syntax.named_children[0], syntax.named_children[1]
        names = self.names(key)
        if len(names) > 1:
            node, meaning = self.descend(node, meaning, names[:-1], key)
        start, end = self.at(key.start_byte), self.at(key.end_byte)
        found = meaning.get(names[-1]) if isinstance(meaning, dict) else None
        node.entries.append(Entry(Scalar(self.source, start, end, names[-1], names[-1]), self.value(value, found)))

    def value(self, syntax: Any, meaning: Any) -> Node:
        start, end = self.at(syntax.start_byte), self.at(syntax.end_byte)
        if syntax.type == "inline_table":
            table = Mapping(self.source, start, end, flow=True)
            for child in syntax.named_children:
                if child.type == "pair":
                    self.pair(table, meaning, child)
            return table
        if syntax.type == "array":
            children = [child for child in syntax.named_children if child.type != "comment"]
            values = meaning if isinstance(meaning, list) else [None] * len(children)
            return Sequence(
                self.source, start, end, [self.value(c, v) for c, v in zip(children, values, strict=False)], flow=True
            )
        text = self.source.text[start:end]
        return Scalar(
            self.source, start, end, meaning if isinstance(meaning, str) else text, meaning, isinstance(meaning, str)
        )
