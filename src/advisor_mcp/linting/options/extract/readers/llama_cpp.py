"""llama.cpp: the options of its programs, read from `common/arg.cpp` as llama-cpp-python's source distribution holds it.

The releases are llama-cpp-python's; its change log names the llama.cpp commit of each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from advisor_mcp.linting.options.extract.arguments import canonical
from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.fields import INSTEAD, REFUSED, Options
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Record

SOURCE = "vendor/llama.cpp/common/arg.cpp"
PROGRAMS = {"server": {"SERVER", "COMMON"}, "cli": {"MAIN", "CLI", "COMPLETION", "COMMON"}}
LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
HEAD = re.compile(r"\s*\{([^{}]*)\}\s*,?\s*(?:\{([^{}]*)\}\s*,)?\s*(?:\"([^\"]*)\"\s*,)?")
TAKES = re.compile(r"\[[^\]]*\]\s*\(([^)]*)\)")
KINDS = {"int": "int", "bool": "bool", "std::string": "str"}


def read(release: Release) -> Snapshot:
    scopes: dict[str, Options] = {name: {} for name in (*PROGRAMS, "env")}
    for call, chain in declarations(release.text(SOURCE)):
        flags, record = option(call)
        if not flags:
            continue
        name = canonical(flags)
        spellings = [flag for flag in flags if canonical([flag]) != name]
        examples = set(re.findall(r"LLAMA_EXAMPLE_(\w+)", in_call(chain, "set_examples"))) or {"COMMON"}
        excluded = set(re.findall(r"LLAMA_EXAMPLE_(\w+)", in_call(chain, "set_excludes")))
        full = {**record, "a": spellings} if spellings else record
        for program, accepted in PROGRAMS.items():
            if examples & accepted and not excluded & (accepted - {"COMMON"}):
                scopes[program].setdefault(name, full)
        for variable in LITERAL.findall(in_call(chain, "set_env")):
            scopes["env"][variable] = {"t": record["t"]}
    return Snapshot(release.version, release.date, scopes)


def declarations(text: str) -> Iterator[tuple[str, str]]:
    """The arguments of each `common_arg(...)`, and the calls chained to it."""
    for match in re.finditer(r"add_opt\(\s*common_arg\(", text):
        end = closing(text, match.end())
        yield text[match.end() : end], text[end + 1 : closing(text, end + 1)]


def closing(text: str, start: int) -> int:
    """The place of the parenthesis that closes the one opened before `start`, strings and comments skipped."""
    depth, at = 1, start
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|//[^\n]*|[()]', text[start:]):
        at = start + token.start()
        if token[0] == "(":
            depth += 1
        elif token[0] == ")":
            depth -= 1
            if depth == 0:
                return at
    return at


def option(call: str) -> tuple[list[str], Record]:
    """The flags of one declaration and what the handler takes: nothing, a number, a text, or two texts."""
    head = HEAD.match(call)
    if not head:
        return [], {}
    flags = [*LITERAL.findall(head[1]), *LITERAL.findall(head[2] or "")]
    # brackets of the help text are no lambda; blanked, so that places stay
    bare = LITERAL.sub(lambda literal: " " * len(literal[0]), call)
    handler = TAKES.search(bare, head.end())
    taken = [part.strip() for part in handler[1].split(",")][1:] if handler else []
    kinds = [next((kind for name, kind in KINDS.items() if name in part), "str") for part in taken]
    record: Record = {"t": kinds[0] if kinds else "bool"}
    if not kinds or (kinds == ["bool"] and head[2] is not None):
        record.update(t="bool", n=0)
    elif len(kinds) > 1:
        record.update(t="list", n=len(kinds))
    help_text = " ".join(LITERAL.findall(call[head.end() : handler.start() if handler else len(call)]))
    if "has been removed" in help_text or "arg_removed(" in call:
        record["dep"] = REFUSED
    elif re.search(r"deprecated", help_text, re.IGNORECASE):
        record["dep"] = "deprecated"
    if "dep" in record and (names := [n for n in INSTEAD.findall(help_text) if not n.endswith("-")]):
        record["mentions"] = names
    return flags, record


def in_call(chain: str, name: str) -> str:
    """The arguments of a chained call, "" where there is none."""
    match = re.search(rf"\.{name}\(", chain)
    return chain[match.end() : closing(chain, match.end())] if match else ""
