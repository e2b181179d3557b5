"""`advisor-mcp lint PATH...` and `advisor-mcp rule ID`: what the command line has beyond the tool `lint_config`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advisor_mcp import terminal
from advisor_mcp.errors import UsageError, nearest, shown
from advisor_mcp.flags import PROGRAM, Parser
from advisor_mcp.linting import edits, formats
from advisor_mcp.linting.engine import Options, Report, fixed, lint_named, lint_text
from advisor_mcp.linting.job import Given, checked, targets
from advisor_mcp.linting.pages import page
from advisor_mcp.linting.rule import SEVERITIES, Rule, rules

CLEAN, FINDINGS = 0, 1
_EXAMPLES = """examples:
  advisor-mcp lint ds_config.json train.yaml --world-size 8
  advisor-mcp lint . --target vllm=0.12 --gpu h100-sxm
  advisor-mcp lint serve.sh --model Qwen/Qwen3-32B --format json
  advisor-mcp lint configs/ --fix
  cat job.sbatch | advisor-mcp lint - --name job.sbatch

exit codes: 0 clean, 1 findings at or above --fail-on, 2 wrong usage, 4 internal"""


def _parser() -> Parser:
    import argparse

    parser = Parser(
        f"{PROGRAM} lint",
        description="Find what will crash, waste or silently spoil a training or serving run, without running anything.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="files, or folders (each is one job); - for standard input"
    )
    parser.add_argument(
        "--model", help="the model: a known name, a path to its config.json, or its configuration as JSON"
    )
    parser.add_argument("--gpu", help="the GPU it runs on, e.g. h100-sxm")
    parser.add_argument("--world-size", type=_count, metavar="N", help="processes of the job, one a GPU")
    parser.add_argument("--gpus-per-node", type=_count, metavar="N", help="GPUs of one node")
    parser.add_argument("--interconnect", help="what joins the nodes, e.g. infiniband, 100gbe")
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="TOOL=VERSION",
        help="the version to hold files against (repeatable)",
    )
    parser.add_argument(
        "--select",
        action="append",
        default=[],
        metavar="RULES",
        help="only these rules: ids, prefixes or names, with commas",
    )
    parser.add_argument("--ignore", action="append", default=[], metavar="RULES", help="not these rules")
    parser.add_argument(
        "--fail-on",
        choices=[*SEVERITIES, "never"],
        default="warning",
        help="exit with 1 from this severity on (default: warning)",
    )
    parser.add_argument(
        "--format", choices=list(formats.FORMATS), default="text", help="how to print findings (default: text)"
    )
    parser.add_argument("--json", dest="as_json", action="store_true", help="the same as --format json")
    parser.add_argument("--fix", action="store_true", help="apply the safe fixes; nothing else in a file changes")
    parser.add_argument(
        "--unsafe-fixes", action="store_true", help="with --fix or --diff: also fixes that change what is asked for"
    )
    parser.add_argument("--diff", action="store_true", help="show the fixes as a diff and change nothing")
    parser.add_argument(
        "--files", metavar="JSON", help="texts by file name as a JSON object, in place of paths; one job"
    )
    parser.add_argument(
        "--detail", choices=["brief", "full"], default="brief", help="full adds each finding's evidence and the change"
    )
    parser.add_argument("--name", default="", help="with -: the file name to take standard input for")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or not 0 < int(text[:9]) < 2**24:
        raise UsageError(f"{shown(text)} is not a number of processes; give a whole number from 1")
    return int(text)


def lint(given: Sequence[str]) -> int:
    """Run `lint` and return its exit code."""
    parser = _parser()
    if "-h" in given or "--help" in given:
        print(parser.format_help(), end="")
        return CLEAN
    asked = parser.parse_strictly(given)
    if bool(asked.paths) == bool(asked.files):
        raise UsageError(f"name the files or folders to lint; see '{PROGRAM} lint --help'")
    options = Options(_given(asked), _words(asked.select), _words(asked.ignore))
    report = _report(asked, options)
    if asked.fix or asked.diff:
        _mend(report, asked)
        if asked.fix and not asked.diff:
            report = _report(asked, options)
    _print(report, "json" if asked.as_json else asked.format, quiet=asked.diff, full=asked.detail == "full")
    return exit_code(report, asked.fail_on)


def _given(asked: Any) -> Given:
    model: Any = asked.model
    if model is not None and model.lstrip().startswith("{"):
        try:
            model = json.loads(model)
        except ValueError:
            raise UsageError("--model starts like JSON but is none; give a name, a path or a JSON object") from None
    said = targets(asked.target)
    return checked(Given(model, asked.gpu, asked.gpus_per_node, asked.world_size, asked.interconnect, said))


def _words(said: Sequence[str]) -> tuple[str, ...]:
    """Rule ids, prefixes and names; raises `UsageError` for a word that is none of them."""
    words = tuple(part.strip() for text in said for part in text.split(",") if part.strip())
    if not words:
        return ()  # nothing to hold against the rules, which take a while to import
    known = rules()
    names = {rule.name for rule in known.values()}
    for word in words:
        if word not in names and not any(id.startswith(word.upper()) for id in known):
            raise UsageError(f"unknown rule {shown(word)}{nearest(word, [*known, *names])}; '{PROGRAM} rule' lists all")
    return words


def _texts(said: str) -> dict[str, str]:
    try:
        found = json.loads(said)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise UsageError("--files must be a JSON object of texts by file name")
    return found


def _report(asked: Any, options: Options) -> Report:
    if asked.files:
        return lint_text(_texts(asked.files), options)
    if asked.paths == ["-"]:
        raw = sys.stdin.buffer.read() if sys.stdin else b""
        return lint_text({asked.name or "<stdin>": raw}, options)
    return lint_named(asked.paths, options)


def _mend(report: Report, asked: Any) -> None:
    changed = {
        name: texts
        for name, texts in fixed(report, unsafe=asked.unsafe_fixes or (asked.diff and not asked.fix)).items()
        if texts[0] != texts[1]
    }
    if asked.diff:
        print(edits.diff(changed), end="")
        return
    for name, (_, after) in changed.items():
        path = Path(name)
        if path.is_file():
            path.write_bytes(after.encode(report.texts[name].encoding))
    print(f"{PROGRAM}: fixed {len(changed)} file{'' if len(changed) == 1 else 's'}", file=sys.stderr)


def _print(report: Report, form: str, *, quiet: bool, full: bool) -> None:
    if quiet and form == "text":
        print(formats.summary(report), file=sys.stderr)
    elif form == "text":
        print(formats.text(report, styled=terminal.is_styled(sys.stdout, os.environ), full=full))
    else:
        shown_text = formats.FORMATS[form](report)
        if shown_text:
            print(shown_text)


def exit_code(report: Report, fail_on: str) -> int:
    """1 where a finding is at least as severe as `fail_on`."""
    if fail_on == "never":
        return CLEAN
    worst = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    return FINDINGS if any(finding.severity in worst for finding in report.findings) else CLEAN


def rule(given: Sequence[str]) -> int:
    """Run `rule`: print a rule's page, or the list of all rules."""
    parser = Parser(f"{PROGRAM} rule", description="Explain a rule of the linter, or list all rules.")
    parser.add_argument("id", nargs="?", metavar="RULE", help="its id or name, e.g. DS001")
    parser.add_argument("--json", action="store_true", help="print JSON")
    if "-h" in given or "--help" in given:
        print(parser.format_help(), end="")
        return CLEAN
    asked = parser.parse_strictly(given)
    known = rules()
    if asked.id is None:
        print(
            json.dumps([_described(one) for one in known.values()], indent=2) if asked.json else _listed(known.values())
        )
        return CLEAN
    found = known.get(asked.id.upper()) or next((one for one in known.values() if one.name == asked.id), None)
    if found is None:
        names = [*known, *(one.name for one in known.values())]
        raise UsageError(f"unknown rule {shown(asked.id)}{nearest(asked.id, names)}; '{PROGRAM} rule' lists all")
    text = page(found)
    if asked.json:
        print(json.dumps({**_described(found), "page": text}, ensure_ascii=False, indent=2))
    else:
        print(terminal.render(text, 100) if terminal.is_styled(sys.stdout, os.environ) else text, end="")
    return CLEAN


def _described(found: Rule) -> dict[str, Any]:
    return {
        "id": found.id, "name": found.name, "severity": found.severity, "harm": found.harm, "tools": list(found.tools),
        "causes": list(found.causes),
    }  # fmt: skip


def _listed(found: Any) -> str:
    return "\n".join(f"{one.id:<7} {one.severity:<8} {one.name}" for one in found)
