"""Writes every generated file of the repository: `python docs/generate.py`, or `--check` to fail where one has drifted."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from advisor_mcp import catalogue, cli, connecting, content, flags
from advisor_mcp.catalogue import ToolEntry
from advisor_mcp.declaration import Example
from advisor_mcp.findings import Family
from advisor_mcp.gpus.fleet.evidence import FLEET
from advisor_mcp.gpus.health import GPUS
from advisor_mcp.knowledge import measurements
from advisor_mcp.linting.rule import INDEX, Rule, made_index, rules
from advisor_mcp.tracing.families import GATES, JOB, TIMELINE
from advisor_mcp.tracing.record_families import COMPILING, MEMORY

ROOT = Path(__file__).resolve().parents[1]
CATALOGUE = ROOT / "tools" / catalogue.SNAPSHOT
SNAPSHOTS = ROOT / "tests" / "snapshots"
REFERENCE = ROOT / "docs" / "tools.md"
RULES = ROOT / "docs" / "rules.md"
FINDINGS = ROOT / "docs" / "findings.md"
RULE_INDEX = ROOT / "src" / "advisor_mcp" / "linting" / "rules" / INDEX
SAMPLES = ROOT / "clients" / "configs"
README = ROOT / "README.md"
COMMON_FIELDS = ("summary", "assumptions", "warnings", "sources", "next_measurement", "derivation", "omitted")
LONGEST_OUTPUT = 4_000
_BLOCK = re.compile(r"<!-- (?P<what>output|summary): (?P<command>.+?) -->\n(?P<old>.*?)<!-- /output -->", re.DOTALL)
_HEAD = """# Tools

Made by `python docs/generate.py` from the declarations in `tools/`. Every tool is served over MCP under its name, runs on
the command line under its command, and is called from Python as `advisor_mcp.call(name, **arguments)`.
"""
_COMMON = """
## Fields of every answer

| field | type | meaning |
|---|---|---|
"""


def generated() -> dict[Path, str]:
    """Every generated file and what it should hold, made from the declarations as they are now."""
    described = catalogue.snapshot(content.built_in())
    files = {CATALOGUE: _json(described, sort_keys=False)}
    files |= {SNAPSHOTS / f"{tool['name']}.json": _json(tool, sort_keys=True) for tool in described["tools"]}
    files |= {SAMPLES / name: text for name, text in connecting.sample_files().items()}
    files[REFERENCE] = reference()
    files[RULES] = rule_list()
    files[FINDINGS] = finding_pages()
    files[RULE_INDEX] = _json(made_index(), sort_keys=True)
    if README.exists():
        files[README] = with_outputs(README.read_text(encoding="utf-8"))
    return files


def left_over(files: Mapping[Path, str]) -> list[Path]:
    """The files of tools and clients that are no more, given those that are generated."""
    return [path for folder in (SNAPSHOTS, SAMPLES) for path in sorted(folder.glob("*.*")) if path not in files]


def _json(value: Any, sort_keys: bool) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=sort_keys) + "\n"


def reference() -> str:
    """The tool reference as Markdown: per tool its arguments, its answer and its examples with what they print."""
    served = catalogue.build()
    by_toolset = sorted(served.tools.values(), key=lambda entry: (entry.toolset, entry.name))
    contents = [f"- [{e.name}](#{e.name}) ({e.toolset}): {e.title}" for e in by_toolset]
    pages = [_page(entry, served.declaration(entry.name).examples) for entry in by_toolset]
    shared = next(iter(by_toolset)).output_schema if by_toolset else {}
    return "\n".join([_HEAD, *contents, "", *pages]) + _common_fields(shared)


_RULES_HEAD = """# Rules of the linter

Made by `python docs/generate.py` from the rules in `src/advisor_mcp/linting/rules/`. `advisor-mcp rule ID` prints a rule's
page: what it does, why that is bad, an example, what to use instead, the versions it holds for, and its references.
"""


def rule_list() -> str:
    """The rules of the linter as tables, one for each prefix."""
    groups: dict[str, list[Rule]] = {}
    for rule in rules().values():
        groups.setdefault(rule.id.rstrip("0123456789"), []).append(rule)
    parts = [_RULES_HEAD]
    for prefix, found in groups.items():
        parts.append(f"## {prefix}\n\n| rule | name | severity | harm | what it does |\n|---|---|---|---|---|")
        parts += [
            f"| {r.id} | {r.name} | {r.severity} | {r.harm} | {_first_sentence(r.sections['What it does'])} |"
            for r in found
        ]
        parts.append("")
    return "\n".join(parts)


_FINDINGS_HEAD = """# Findings on traces and GPUs

Made by `python docs/generate.py` from the pages of the findings, one file each. An answer with detail="full" carries the same
words. What a finding can save is a bound, never more than the exposed part; a trust gate comes before the findings and lowers
or withholds what it touches.
"""
_FAMILIES: tuple[tuple[str, Family[Any]], ...] = (
    ("Trust gates of a trace", GATES),
    ("One device of a trace", TIMELINE),
    ("Several ranks of a job", JOB),
    ("Device memory", MEMORY),
    ("Compilation", COMPILING),
    ("GPUs of this machine", GPUS),
    ("A fleet", FLEET),
)


def finding_pages() -> str:
    """Every finding's page, by what it is made on."""
    parts = [_FINDINGS_HEAD]
    for title, family in _FAMILIES:
        parts.append(f"## {title}\n")
        for name, kind in family.kinds().items():
            head, _, rest = kind.page.partition("\n## ")
            parts.append(f"### {name}\n\n{head.strip()}\n")
            parts += [f"**{section}**:{_listed(text)}\n" for section, text in kind.sections.items()] if rest else []
    return "\n".join(parts)


def _listed(text: str) -> str:
    return "\n\n" + text if text.startswith("- ") else f" {text}"


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.!?]) ", " ".join(text.split()), maxsplit=1)[0].replace("|", "\\|")


def _page(entry: ToolEntry, examples: Sequence[Example]) -> str:
    parts = [
        f"## {entry.name}",
        f"{entry.description}",
        f"{entry.title}; toolset `{entry.toolset}`; command `{flags.PROGRAM} {entry.command}`; {_hints(entry)}.",
        "| argument | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(_arguments(entry)),
        *(["| on the command line | meaning |\n|---|---|\n" + "\n".join(views)] if (views := _views(entry)) else []),
        "| answer | type | meaning |\n|---|---|---|\n" + "\n".join(_fields(entry.output_schema)),
        *(_example(entry, example) for example in examples),
    ]
    return "\n\n".join(parts) + "\n"


def _views(entry: ToolEntry) -> list[str]:
    return [_row(f"`{spelled}`", said) for spelled, said in flags.view_rows(entry)]


def _hints(entry: ToolEntry) -> str:
    says = {"readOnlyHint": "reads only", "idempotentHint": "repeatable", "openWorldHint": "looks outside this machine"}
    return ", ".join(text for hint, text in says.items() if entry.annotations[hint]) or "writes"


def _arguments(entry: ToolEntry) -> Iterator[str]:
    properties = entry.input_schema.get("properties", {})
    required = entry.input_schema.get("required", ())
    described = {flag.name: flag.description for flag in flags.flags(entry)}
    for name, part in properties.items():
        default = "required" if name in required else _code(part["default"]) if part.get("default") is not None else ""
        yield _row(f"`{name}`", _type(part, entry.input_schema), default, described[name])


def _fields(schema: Mapping[str, Any], prefix: str = "", seen: tuple[str, ...] = ()) -> Iterator[str]:
    definitions = schema.get("$defs", {})
    node = definitions[seen[-1]] if seen else schema
    for name, part in node.get("properties", {}).items():
        if prefix == "" and name in COMMON_FIELDS:
            continue
        inner = _definition(part)
        meaning = part.get("description") or definitions.get(inner, {}).get("description", "")
        yield _row(f"`{prefix}{name}`", _type(part, schema), meaning)
        if inner and inner not in seen:
            listed = "[]" if "array" in json.dumps(part) else ""
            yield from _fields(schema, f"{prefix}{name}{listed}.", (*seen, inner))


def _definition(part: Mapping[str, Any]) -> str | None:
    found = re.search(r'"#/\$defs/(\w+)"', json.dumps(part))
    return found[1] if found else None


def _type(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A schema in words: ``integer, at least 1``; ``bf16 or fp16``; ``list of object``."""
    if "$ref" in part:
        inner = schema["$defs"][part["$ref"].rpartition("/")[2]]
        return _type(inner, schema) if "enum" in inner or "const" in inner else "object"
    if "anyOf" in part:
        return " or ".join(dict.fromkeys(_type(each, schema) for each in part["anyOf"] if each.get("type") != "null"))
    if choices := part.get("enum") or ([part["const"]] if "const" in part else None):
        return ", ".join(_code(choice) for choice in choices)
    if part.get("type") == "array":
        return _list_type(part, schema)
    if part.get("type") == "object" and isinstance(part.get("additionalProperties"), dict):
        return f"object of {_type(part['additionalProperties'], schema)}"
    return str(part.get("type", "any")) + _bounds(part)


def _list_type(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "prefixItems" in part:
        return "[" + ", ".join(_type(each, schema) for each in part["prefixItems"]) + "]"
    return f"list of {_type(part.get('items', {}), schema)}"


def _bounds(part: Mapping[str, Any]) -> str:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return "".join(f", {text} {part[key]:,}" for key, text in words.items() if key in part)


def _code(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _example(entry: ToolEntry, example: Example) -> str:
    command = shlex.join(flags.command_line(entry, example.arguments))
    if example.needs:
        return f"**{example.question}**\n\n```console\n$ {command}\n```\n\nWhat it prints depends on {example.needs}."
    return f"**{example.question}**\n\n{shown_output(command)}"


def _common_fields(schema: Mapping[str, Any]) -> str:
    properties = schema.get("properties", {})
    rows = [
        _row(f"`{name}`", _type(properties[name], schema), properties[name].get("description", ""))
        for name in COMMON_FIELDS
        if name in properties
    ]
    return _COMMON + "\n".join(rows) + "\n"


def shown_output(command: str) -> str:
    """A command and what it prints, as a fenced block; it is run in this process."""
    printed = output_of(command).rstrip()
    if len(printed) > LONGEST_OUTPUT:
        printed = printed[:LONGEST_OUTPUT].rpartition("\n")[0] + "\n..."
    fence = "````" if "```" in printed else "```"
    return f"{fence}console\n$ {command}\n{printed}\n{fence}"


def output_of(command: str) -> str:
    """What an `advisor-mcp` command prints; raises `RuntimeError` for another program and for a command that fails."""
    program, *words = shlex.split(command)
    out, err = io.StringIO(), io.StringIO()
    if program != flags.PROGRAM:
        raise RuntimeError(f"only {flags.PROGRAM} commands can be shown, not {command!r}")
    theirs = os.environ.pop(content.VARIABLE, None)
    try:
        with redirect_stdout(out), redirect_stderr(err), measurements.ignored():
            code = cli.main(words)
    finally:
        if theirs is not None:
            os.environ[content.VARIABLE] = theirs
    if code not in (cli.ANSWERED, cli.FINDINGS):
        raise RuntimeError(f"{command!r} failed with {code}: {err.getvalue().strip() or out.getvalue().strip()}")
    return out.getvalue()


def with_outputs(text: str) -> str:
    """The text with every block between ``<!-- output: COMMAND -->`` and ``<!-- /output -->`` made anew.

    ``<!-- summary: COMMAND -->`` in its place quotes the first line that the command prints.
    """

    def made(block: re.Match[str]) -> str:
        command, what = block["command"], block["what"]
        # an answer's first line is its summary
        shown = f"> {output_of(command).splitlines()[0]}" if what == "summary" else shown_output(command)
        return f"<!-- {what}: {command} -->\n{shown}\n<!-- /output -->"

    return _BLOCK.sub(made, text)


def drifted() -> list[str]:
    """A sentence for each generated file that does not hold what it should."""
    found, files = [], generated()
    for path, wanted in files.items():
        name = path.relative_to(ROOT)
        if not path.exists():
            found.append(f"{name} is missing: run `python docs/generate.py`")
        elif (held := path.read_text(encoding="utf-8")) != wanted:
            found.append(f"{name} has drifted at line {_first_difference(held, wanted)}: run `python docs/generate.py`")
    return found + [f"{path.relative_to(ROOT)} is of no tool or client: delete it" for path in left_over(files)]


def _first_difference(held: str, wanted: str) -> int:
    pairs = zip(held.splitlines(), wanted.splitlines(), strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
    return 1 + (min(len(held.splitlines()), len(wanted.splitlines())) if same is None else same)


def main(argv: Sequence[str]) -> int:
    """Write the generated files, or with `--check` print what has drifted and return 1."""
    if "--check" in argv:
        problems = drifted()
        print("\n".join(problems) if problems else "every generated file is up to date")
        return 1 if problems else 0
    # the catalogue first: the reference and the README's commands are answered from it
    CATALOGUE.write_text(_json(catalogue.snapshot(content.built_in()), sort_keys=False), encoding="utf-8")
    files = generated()
    for path, text in files.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    for path in left_over(files):
        path.unlink()
        print(f"deleted {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
