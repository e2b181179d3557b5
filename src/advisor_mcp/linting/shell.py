"""Shell scripts, parsed and never run: the commands a script holds, with what its own assignments make of their words."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from advisor_mcp.linting.source import SourceFile, Span, Utf8, line_start
from advisor_mcp.linting.words import HOLE, Piece, Text, Word, joined, split, word

MOST_WORDS = 5_000
MOST_PIECES = 2_000
LONGEST_VALUE = 200_000
DEEPEST_SYNTAX = 300
ESCAPED = re.compile(r"\\(\n|.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Variable:
    """What a name holds at some point of a script: a text, or the words of an array."""

    name: Span
    value: Text
    words: tuple[Word, ...] | None = None
    exported: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A here-document, as a text of its own; `target` is the file it is written to, where the script says so."""

    source: SourceFile
    target: str | None


@dataclass(frozen=True, slots=True)
class Command:
    """One simple command: its words, the variables it sees, and whether it stands inside a condition or loop."""

    words: tuple[Word, ...]
    span: Span
    env: dict[str, Variable]
    conditional: bool = False


@dataclass(slots=True)
class Script:
    """What was read of a script."""

    source: SourceFile
    commands: list[Command] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    comments: list[Span] = field(default_factory=list)
    exports: dict[str, Variable] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)


def read_shell(source: SourceFile) -> Script:
    """Every command of a script in order. Nothing is expanded but what the script itself assigns, nothing is run."""
    reader = _Reader(source)
    reader.run(reader.root, 0)
    reader.script.variables = reader.vars
    reader.script.exports = {name: v for name, v in reader.vars.items() if v.exported}
    return reader.script


@cache
def _parser() -> Any:
    import tree_sitter_bash
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_bash.language()))


_BRANCHES = {"if_statement", "case_statement", "while_statement", "for_statement", "c_style_for_statement"}
_DECLARES = {"export", "declare", "typeset", "readonly", "local"}
_DEFAULT = {":-", "-", ":=", "="}


class _Reader:
    def __init__(self, source: SourceFile) -> None:
        self.source, utf8 = source, Utf8(source.text)
        self.at = utf8.at
        self.root = _parser().parse(utf8.data).root_node
        self.script = Script(source)
        self.vars: dict[str, Variable] = {}
        self.depth_of_branches = 0
        self.words = 0

    # ---- places ----

    def span(self, node: Any) -> Span:
        return Span(self.source, self.at(node.start_byte), self.at(node.end_byte))

    def piece(self, node: Any) -> Piece:
        span = self.span(node)
        return Piece(span.text, self.source, span.start, span.end)

    def hole(self, node: Any) -> Piece:
        span = self.span(node)
        return Piece(HOLE, self.source, span.start, span.end)

    # ---- statements ----

    def run(self, node: Any, depth: int) -> None:
        if depth > DEEPEST_SYNTAX:
            return
        kind = node.type
        if kind == "comment":
            self.script.comments.append(self.span(node))
        elif kind == "command":
            self.command(node)
        elif kind == "variable_assignment":
            self.assign(node)
        elif kind == "declaration_command":
            self.declare(node)
        elif kind == "unset_command":
            for child in node.named_children:
                self.vars.pop(self.span(child).text, None)
        elif kind == "redirected_statement":
            self.redirected(node, depth)
        elif kind in _BRANCHES:
            self.branch(node, depth)
        elif kind == "function_definition":
            self.isolated(node.child_by_field_name("body"), depth)
        elif kind in ("subshell", "command_substitution"):
            self.isolated_children(node, depth)
        else:
            for child in node.children:
                self.run(child, depth + 1)

    def isolated(self, node: Any, depth: int) -> None:
        kept = dict(self.vars)
        self.depth_of_branches += 1
        if node is not None:
            self.run(node, depth + 1)
        self.depth_of_branches -= 1
        self.vars = kept

    def isolated_children(self, node: Any, depth: int) -> None:
        kept = dict(self.vars)
        for child in node.children:
            self.run(child, depth + 1)
        self.vars = kept

    def branch(self, node: Any, depth: int) -> None:
        """Read every branch from the same start; afterwards a name is known where all of them agree."""
        before, outcomes = dict(self.vars), list[dict[str, Variable]]()
        self.depth_of_branches += 1
        if node.type in ("for_statement", "c_style_for_statement") and (name := node.child_by_field_name("variable")):
            before[self.span(name).text] = Variable(self.span(name), (self.hole(name),))
        groups: list[list[Any]] = [[]]
        for child in node.children:
            if child.type in ("elif_clause", "else_clause", "case_item"):
                groups.append([child])
            else:
                groups[-1].append(child)
        for group in groups:
            self.vars = dict(before)
            for child in group:
                for inner in child.children if child.type in ("elif_clause", "else_clause", "case_item") else [child]:
                    self.run(inner, depth + 1)
            outcomes.append(self.vars)
        self.depth_of_branches -= 1
        complete = any(group and group[0].type == "else_clause" for group in groups)
        self.vars = _merged(outcomes if complete else [before, *outcomes])

    def redirected(self, node: Any, depth: int) -> None:
        target, bodies = None, list[Any]()
        for child in node.children:
            if child.type == "heredoc_redirect":
                bodies += [c for c in child.children if c.type == "heredoc_body"]
                files = [c for c in child.children if c.type == "file_redirect"]
                raw = any(self.span(c).text[:1] in "'\"\\" for c in child.children if c.type == "heredoc_start")
                bodies = [(body, raw) for body in bodies if not isinstance(body, tuple)]
                target = next((self.destination(f) for f in files if ">" in self.span(f).text[:2]), target)
                for inner in child.children:
                    if inner.type in ("pipeline", "command", "list"):
                        self.run(inner, depth + 1)
            elif child.type == "file_redirect":
                if self.span(child).text.lstrip("0123456789").startswith(">") and not self.span(child).text.startswith(
                    "2"
                ):
                    target = self.destination(child)
            else:
                self.run(child, depth + 1)
        for body, raw in bodies:
            self.script.documents.append(Document(self.document(body, raw, target), target))

    def destination(self, node: Any) -> str | None:
        found = node.child_by_field_name("destination")
        if found is None:
            return None
        text = "".join(w.text for w in self.words_of(found))
        return text.replace(HOLE, "_") or None

    def document(self, node: Any, raw: bool, target: str | None) -> SourceFile:
        span = self.span(node)
        pieces = (self.piece(node),) if raw else self.expanded(span.start, span.end)
        text, offsets = "", list[int]()
        for piece in pieces:
            exact = piece.end - piece.start == len(piece.text) and piece.source is self.source
            shown = "__unknown__" if piece.is_hole else piece.text
            if piece.is_hole and not _inside_quotes(text):
                shown = '"__unknown__"'
            offsets += [
                piece.start + i if exact and not piece.is_hole else self._outside(piece, span)
                for i in range(len(shown))
            ]
            text += shown
        return self.source.embedded(text, offsets, target)

    def _outside(self, piece: Piece, span: Span) -> int:
        return piece.start if piece.source is self.source and span.start <= piece.start <= span.end else span.start

    _VARIABLE = re.compile(r"\\[$`\\]|\$\{(\w+)(:?[-=]([^}]*))?\}|\$(\w+)|\$\([^)]*\)|`[^`]*`")

    def expanded(self, start: int, end: int) -> Text:
        """The pieces of a stretch of text in which `$NAME` and `${NAME:-default}` stand for values."""
        found, at = list[Piece](), start
        for match in self._VARIABLE.finditer(self.source.text, start, end):
            if match.start() > at:
                found.append(Piece(self.source.text[at : match.start()], self.source, at, match.start()))
            at = match.end()
            name = match[1] or match[4]
            if match.group().startswith("\\"):
                found.append(Piece(match.group()[1:], self.source, match.start() + 1, match.end()))
            elif name and name in self.vars and self.vars[name].words is None:
                found += self.vars[name].value
            elif name and match[2]:
                inner = match.start(3)
                found.append(Piece(match[3], self.source, inner, inner + len(match[3])))
            else:
                found.append(Piece(HOLE, self.source, match.start(), match.end()))
        if at < end:
            found.append(Piece(self.source.text[at:end], self.source, at, end))
        return tuple(piece for piece in found if piece.text)

    # ---- variables ----

    def declare(self, node: Any) -> None:
        keyword = node.children[0].type if node.children else ""
        flags = [self.span(c).text for c in node.children if c.type == "word"]
        exported = keyword == "export" or any("x" in f for f in flags if f.startswith("-"))
        for child in node.named_children:
            if child.type == "variable_assignment":
                self.assign(child, exported)
            elif child.type == "variable_name" and exported:
                name = self.span(child).text
                if name in self.vars:
                    self.vars[name] = replace(self.vars[name], exported=True)
            elif (
                child.type in ("string", "concatenation", "word", "raw_string")
                and exported
                and "=" in self.span(child).text
            ):
                self.assign_text(child)

    def assign_text(self, node: Any) -> None:
        for item in self.words_of(node):
            name, equals, _ = item.text.partition("=")
            if equals and name.isidentifier():
                value = dropped(item.pieces, len(name) + 1)
                self.vars[name] = Variable(item.span, value, exported=True)

    def assign(self, node: Any, exported: bool = False, into: dict[str, Variable] | None = None) -> None:
        target = self.vars if into is None else into
        place = node.child_by_field_name("name")
        value = node.child_by_field_name("value")
        if place is None or place.type == "subscript":
            return
        name, span = self.span(place).text, self.span(place)
        old = target.get(name) or self.vars.get(name)
        appends = any(child.type == "+=" for child in node.children)
        exported = exported or bool(old and old.exported) or into is not None
        if value is not None and value.type == "array":
            words = tuple(w for child in value.named_children if child.type != "comment" for w in self.words_of(child))
            before = (old.words or ()) if appends and old else ()
            held = (*before, *words)
            if len(held) > MOST_WORDS:
                held = (word((self.hole(place),), False, span),)
            target[name] = Variable(span, (), held, exported)
            self.script.comments += [self.span(c) for c in value.named_children if c.type == "comment"]
            return
        text = self.text_of(value) if value is not None else ()
        if appends and old and old.words is None:
            text = (*old.value, *text)
        if len(text) > MOST_PIECES or sum(len(piece.text) for piece in text) > LONGEST_VALUE:
            text = (self.hole(place),)  # it doubles itself, or is no option of anything
        target[name] = Variable(span, text, None, exported)

    # ---- words ----

    def command(self, node: Any) -> None:
        local = dict[str, Variable]()
        words = list[Word]()
        for child in node.children:
            if child.type == "variable_assignment":
                self.assign(child, into=local)
            elif child.type == "command_name":
                for inner in child.children:
                    words += self.words_of(inner)
            elif child.type in ("file_redirect", "herestring_redirect", "heredoc_redirect") or not child.is_named:
                continue
            else:
                words += self.words_of(child)
        self.words += len(words)
        if not words or self.words > MOST_WORDS:
            return
        seen = self.vars | local
        self.script.commands.append(Command(tuple(words), self.span(node), seen, self.depth_of_branches > 0))

    def words_of(self, node: Any) -> list[Word]:
        span = self.span(node)
        if node.type in ("simple_expansion", "expansion"):
            array = self.array(node)
            if array is not None:
                return list(array)
            text = self.text_of(node)
            if text and all(p.is_hole for p in text):
                return [word(text, False, span)]
            return list(split(text, span))
        if node.type == "string":
            inner = [c for c in node.named_children if c.type in ("simple_expansion", "expansion")]
            if len(inner) == 1 and self.span(node).text == f'"{self.span(inner[0]).text}"':
                array = self.array(inner[0])
                if array is not None:
                    return list(array)
                if "@" in self.span(inner[0]).text:
                    return [word((self.hole(inner[0]),), False, span)]
        text = self.text_of(node)
        quoted = node.type in ("string", "raw_string", "ansi_c_string", "concatenation")
        return [Word(text, span if not text else word(text, quoted, span).span, quoted)]

    def array(self, node: Any) -> tuple[Word, ...] | None:
        """The words of `${NAME[@]}`, where the script says what they are."""
        subscript = next((c for c in node.named_children if c.type == "subscript"), None)
        if subscript is None or not self.span(subscript).text.endswith(("[@]", "[*]")):
            return None
        held = self.vars.get(self.span(subscript.child_by_field_name("name")).text)
        if held is None:
            return (word((self.hole(node),), False, self.span(node)),)
        return held.words if held.words is not None else tuple(split(held.value, self.span(node)))

    def text_of(self, node: Any) -> Text:
        kind = node.type
        if kind == "raw_string":
            span = self.span(node)
            return _literal(Piece(span.text[1:-1], self.source, span.start + 1, span.end - 1))
        if kind == "string":
            return self.inside(node, self.at(node.start_byte) + 1, self.at(node.end_byte) - 1, True)
        if kind == "concatenation":
            return tuple(piece for child in node.children for piece in self.text_of(child))
        if kind == "simple_expansion":
            return self.variable(node, self.span(node).text[1:])
        if kind == "expansion":
            return self.expansion(node)
        if kind == "arithmetic_expansion":
            return self.arithmetic(node)
        if kind in ("command_substitution", "process_substitution"):
            return (self.hole(node),)
        if kind == "ansi_c_string":
            span = self.span(node)
            return (Piece(span.text[2:-1], self.source, span.start + 2, span.end - 1),)
        return _unescaped(self.piece(node), quoted=False)

    def inside(self, node: Any, start: int, end: int, quoted: bool) -> Text:
        found, at = list[Piece](), start
        for child in node.named_children:
            if child.type == "string_content":
                continue
            here = self.span(child)
            if here.start > at:
                found += _unescaped(Piece(self.source.text[at : here.start], self.source, at, here.start), quoted)
            found += self.text_of(child)
            at = here.end
        if at < end:
            found += _unescaped(Piece(self.source.text[at:end], self.source, at, end), quoted)
        return tuple(found)

    def variable(self, node: Any, name: str) -> Text:
        held = self.vars.get(name)
        if held is None:
            return (self.hole(node),)
        if held.words is not None:
            return held.words[0].pieces if held.words else ()
        return held.value

    def expansion(self, node: Any) -> Text:
        inner = self.span(node).text[2:-1]
        match = re.match(r"(\w+)(.*)", inner, re.DOTALL)
        if not match:
            return (self.hole(node),)
        name, rest = match[1], match[2]
        if not rest:
            return self.variable(node, name)
        held = self.vars.get(name)
        sign = next((s for s in (":-", ":=", "-", "=") if rest.startswith(s)), None)
        if sign is None:
            return (self.hole(node),)
        if held is not None and held.words is None and (held.value or ":" not in sign):
            return held.value
        start = self.at(node.start_byte) + 2 + len(name) + len(sign)
        value = self.default(start, self.at(node.end_byte) - 1)
        if "=" in sign:
            self.vars[name] = Variable(self.span(node), value)
        return value

    def default(self, start: int, end: int) -> Text:
        written = self.source.text[start:end]
        if len(written) > 1 and written[0] == written[-1] and written[0] in "\"'":
            start, end = start + 1, end - 1
        return self.expanded(start, end)

    def arithmetic(self, node: Any) -> Text:
        span = self.span(node)
        inner = span.text.removeprefix("$").strip("([]) \n") if span.text.startswith("$((") else span.text
        body = re.sub(r"\$?\{?([A-Za-z_]\w*)\}?", lambda m: self._number(m[1]), span.text[3:-2]) if inner else ""
        value = _calculated(body)
        return (Piece(str(value), self.source, span.start, span.end),) if value is not None else (self.hole(node),)

    def _number(self, name: str) -> str:
        held = self.vars.get(name)
        text = joined(held.value).strip() if held and held.words is None else ""
        return text if text.lstrip("-").isdigit() else HOLE


def _literal(piece: Piece) -> Text:
    return (piece,) if piece.text else ()


def _unescaped(piece: Piece, quoted: bool) -> Text:
    """A piece with its backslashes read: a line that goes on is joined, in quotes only `$`, a quote or itself is escaped."""
    if "\\" not in piece.text:
        return _literal(piece)
    found, at = list[Piece](), 0
    for match in ESCAPED.finditer(piece.text):
        if quoted and match[1] not in '$`"\\\n':
            continue
        if match.start() > at:
            start = piece.start + at
            found.append(Piece(piece.text[at : match.start()], piece.source, start, piece.start + match.start()))
        if match[1] != "\n":
            start = piece.start + match.start() + 1
            found.append(Piece(match[1], piece.source, start, start + 1))
        at = match.end()
    if at < len(piece.text):
        found.append(Piece(piece.text[at:], piece.source, piece.start + at, piece.end))
    return tuple(found)


def dropped(text: Text, count: int) -> Text:
    """The text without its first `count` characters."""
    found = list[Piece]()
    for piece in text:
        if count >= len(piece.text):
            count -= len(piece.text)
            continue
        exact = piece.end - piece.start == len(piece.text)
        found.append(Piece(piece.text[count:], piece.source, piece.start + count if exact else piece.start, piece.end))
        count = 0
    return tuple(found)


def _merged(outcomes: list[dict[str, Variable]]) -> dict[str, Variable]:
    merged = dict[str, Variable]()
    for name in {name for outcome in outcomes for name in outcome}:
        held = [outcome.get(name) for outcome in outcomes]
        some = next(v for v in held if v is not None)
        if all(v is not None and _same(v, some) for v in held):
            merged[name] = some
        else:
            span = some.name
            hole = Piece(HOLE, span.source, span.start, span.end)
            exported = any(v is not None and v.exported for v in held)
            words = (word((hole,), False, span),) if any(v is not None and v.words is not None for v in held) else None
            merged[name] = Variable(span, () if words else (hole,), words, exported)
    return merged


def _same(one: Variable, other: Variable) -> bool:
    if (one.words is None) != (other.words is None):
        return False
    if one.words is not None and other.words is not None:
        return [w.text for w in one.words] == [w.text for w in other.words]
    return joined(one.value) == joined(other.value) and HOLE not in joined(one.value)


def _inside_quotes(text: str) -> bool:
    line = text[line_start(text, len(text)) :]
    return (line.count('"') - line.count('\\"')) % 2 == 1


_OPERATORS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: int(a / b) if b else 0,
    ast.Mod: lambda a, b: a % b if b else 0,
}


def _calculated(text: str) -> int | None:
    """The value of `+ - * / %` on whole numbers, or None for anything else."""
    if HOLE in text or len(text) > 200:
        return None
    try:
        return _evaluated(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _evaluated(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        value = _OPERATORS[type(node.op)](_evaluated(node.left), _evaluated(node.right))
        if abs(value) < 2**63:
            return value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluated(node.operand)
    raise ValueError(type(node).__name__)
