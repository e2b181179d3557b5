"""YAML with positions, composed from libyaml's events: bounded in depth and size, aliases shared and never expanded."""

from __future__ import annotations

import re
from typing import Any

import yaml

from advisor_mcp.linting.source import SourceFile
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

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_resolver = yaml.SafeLoader("")
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_INTERPOLATION = re.compile(r"\$\{[^}]*\}|\$[A-Z_][A-Z0-9_]*|<[A-Z][A-Z0-9_ -]*>")
MERGE = "<<"


def read_yaml(source: SourceFile) -> list[Node]:
    """Every document of the text. Raises `Malformed`, or `IsTemplate` where template marks are what breaks it."""
    try:
        return _Composer(source).documents()
    except (yaml.YAMLError, Malformed, RecursionError) as error:
        if _TEMPLATE.search(source.text):
            raise IsTemplate from None
        if isinstance(error, Malformed):
            raise
        raise _malformed(error) from None


def _malformed(error: Exception) -> Malformed:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or "it is nested too deeply"
    return Malformed(f"is not valid YAML: {problem}", mark.index if mark else 0)


class _Composer:
    def __init__(self, source: SourceFile) -> None:
        self.source = source
        self.anchors: dict[str, Node] = {}
        self.count = 0

    def documents(self) -> list[Node]:
        found: list[Node] = []
        # a stack of open collections; a mapping waits for the key of its next value
        stack: list[tuple[Mapping | Sequence, list[Scalar | None]]] = []
        for event in yaml.parse(self.source.text, Loader=_Loader):
            node: Node | None = None
            if isinstance(event, yaml.ScalarEvent):
                node = self._scalar(event)
            elif isinstance(event, yaml.AliasEvent):
                node = self._alias(event, [item[0] for item in stack])
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                opened = self._collection(event)
                stack.append((opened, [None]))
                if len(stack) > DEEPEST:
                    raise Malformed(f"is nested more than {DEEPEST} levels deep", opened.start)
                continue
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                node, _ = stack.pop()
                node.end = event.end_mark.index if event.end_mark else node.start
            elif isinstance(event, yaml.DocumentStartEvent):
                self.anchors = {}
            if node is None:
                continue
            if stack:
                self._attach(stack[-1], node)
            else:
                found.append(node)
        return found

    def _counted(self, offset: int) -> None:
        self.count += 1
        if self.count > MOST_NODES:
            raise Malformed(f"has more than {MOST_NODES:,} values, which no configuration has", offset)

    def _scalar(self, event: Any) -> Scalar:
        start, end = event.start_mark.index, event.end_mark.index
        self._counted(start)
        value = event.value if event.style else _resolved(event)
        node = Scalar(self.source, start, end, event.value, _known(value), quoted=bool(event.style))
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def _collection(self, event: Any) -> Mapping | Sequence:
        start = event.start_mark.index
        self._counted(start)
        kind = Mapping if isinstance(event, yaml.MappingStartEvent) else Sequence
        node = kind(self.source, start, start, flow=bool(event.flow_style))
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, opened: list[Mapping | Sequence]) -> Node:
        self._counted(event.start_mark.index)
        node = self.anchors.get(event.anchor)
        if node is None:
            raise Malformed(f"uses the alias *{event.anchor}, which nothing defines before it", event.start_mark.index)
        if any(node is one for one in opened):
            raise Malformed(f"holds itself through the alias *{event.anchor}", event.start_mark.index)
        self.count += _size(node)  # what is shared is walked once for every use
        self._counted(event.start_mark.index)
        return node

    def _attach(self, top: tuple[Mapping | Sequence, list[Scalar | None]], node: Node) -> None:
        parent, waiting = top
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif waiting[0] is None:
            waiting[0] = node if isinstance(node, Scalar) else Scalar(node.source, node.start, node.end, "?", "?")
        else:
            key, waiting[0] = waiting[0], None
            if key.text == MERGE and not key.quoted:
                _merge(parent, node)
            else:
                parent.entries.append(Entry(key, node))


def _size(node: Node) -> int:
    if isinstance(node, Mapping):
        return 1 + sum(_size(entry.value) for entry in node.entries)
    return 1 + sum(_size(item) for item in node.items) if isinstance(node, Sequence) else 1


def _merge(parent: Mapping, node: Node) -> None:
    """`<<: *base`: the base's entries come first, so that the mapping's own override them."""
    for part in node.items if isinstance(node, Sequence) else [node]:
        if isinstance(part, Mapping):
            parent.entries[:0] = part.entries


def _resolved(event: Any) -> Any:
    tag = event.tag or _resolver.resolve(yaml.ScalarNode, event.value, (True, False))  # type: ignore[no-untyped-call]
    if tag in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value", "tag:yaml.org,2002:str"):
        return event.value
    try:
        node = yaml.ScalarNode(tag, event.value)
        return _resolver.construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError):
        return event.value


def _known(value: Any) -> Any:
    if isinstance(value, str) and (_TEMPLATE.search(value) or _INTERPOLATION.fullmatch(value)):
        return UNKNOWN
    return value
