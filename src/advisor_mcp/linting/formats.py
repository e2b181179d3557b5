"""What a lint run prints: for people, for other programs, for GitHub and for code scanning."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from advisor_mcp import __version__
from advisor_mcp.linting import edits
from advisor_mcp.linting.engine import Finding, Place, Report
from advisor_mcp.linting.rule import SEVERITIES, rules
from advisor_mcp.terminal import BOLD, DIM, RESET, without_controls

LONGEST_LINE = 160
_COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m", "info": "\x1b[36m"}


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON-ready objects."""
    return {
        "summary": summary(report),
        "findings": [finding_json(finding) for finding in report.findings],
        "not_checked": [
            {"file": item.file, "needs": item.needs, "rules": list(item.rules)} for item in report.not_checked
        ],
        "assumed": list(report.assumed),
        "files": list(report.files),
        "tools": dict(report.tools),
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    """One finding: rule, place, message, fix with its edits, further places, references."""
    place = finding.place
    found: dict[str, Any] = {
        "rule": finding.rule,
        "name": finding.name,
        "severity": finding.severity,
        "harm": finding.harm,
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "end_line": place.end_line,
        "end_column": place.end_column,
        "message": finding.message,
        "fix": None,
    }
    if finding.key:
        found["key"] = finding.key
    if finding.fix:
        found["fix"] = {
            "description": finding.fix.description,
            "safe": finding.fix.safe,
            "edits": [
                {
                    "file": edit.source.root.name,
                    **dict(zip(("start", "end"), edit.place, strict=True)),
                    "text": edit.text,
                }
                for edit in finding.fix.edits
            ],
        }
    found["causes"] = list(finding.causes)
    if finding.also:
        found["also"] = [_place_json(other) for other in finding.also]
    found["references"] = list(finding.references)
    return found


def _place_json(place: Place) -> dict[str, Any]:
    return {"file": place.file, "line": place.line, "column": place.column}


def summary(report: Report) -> str:
    """One sentence: how many files, what was found, what fixes itself, what was not checked."""
    counts = report.counts()
    said = ", ".join(_amount(counts[s], s) for s in SEVERITIES if counts[s]) or "nothing to report"
    fixable = sum(bool(f.fix and f.fix.edits and f.fix.safe) for f in report.findings)
    parts = [f"{_amount(len(report.files), 'file')} checked: {said}"]
    if fixable:
        parts.append(f"{fixable} of them fixed by --fix")
    if report.not_checked:
        needs = sorted({item.needs for item in report.not_checked if item.rules})
        parts.append(f"not everything could be checked ({'needs ' + ', '.join(needs) if needs else 'see the list'})")
    return "; ".join(parts) + "."


def _amount(count: int, noun: str) -> str:
    plural = noun if count == 1 or noun == "info" else noun + "s"
    return f"{count} {plural}"


# ---- text ----


def text(report: Report, *, styled: bool = False, full: bool = False) -> str:
    """Findings with their source line and a caret, then what could not be checked, then the summary.

    `full` adds to each finding where it is known from and the fix as a change of the file.
    """
    lines = [
        line for found in report.findings for line in (*_shown(found, styled), *(_behind(found) if full else ()), "")
    ]
    lines += _unchecked(report)
    return "\n".join([*lines, summary(report)])


def _behind(finding: Finding) -> Iterator[str]:
    yield from (f"      evidence: {reference}" for reference in finding.references)
    yield from (f"      {without_controls(line)}" for line in (diff_of(finding) or "").splitlines())


def _shown(finding: Finding, styled: bool) -> Iterator[str]:
    place = finding.place
    colour, bold, dim, reset = (_COLOURS[finding.severity], BOLD, DIM, RESET) if styled else ("", "", "", "")
    where = f"{without_controls(place.file)}:{place.line}:{place.column}"
    said = f"{colour}{finding.severity}{reset} {finding.rule} {without_controls(finding.message)}"
    yield f"{bold}{where}{reset}: {said}  {dim}[{finding.name}]{reset}"
    excerpt = _excerpt(finding)
    if excerpt:
        line, caret = excerpt
        gutter = f"{place.line:>5} | "
        yield f"{dim}{gutter}{reset}{line}"
        yield f"{' ' * (len(gutter) - 2)}| {colour}{caret}{reset}"
    for other in finding.also:
        if (other.file, other.line) != (place.file, place.line):
            yield f"      and: {without_controls(other.file)}:{other.line}:{other.column}"
    if finding.fix:
        mark = (
            " (--fix)" if finding.fix.safe and finding.fix.edits else " (--diff shows it)" if finding.fix.edits else ""
        )
        yield f"      fix: {without_controls(finding.fix.description)}{mark}"


def _excerpt(finding: Finding) -> tuple[str, str] | None:
    source = finding.source.root if finding.source else None
    if source is None or not source.text:
        return None
    place = finding.place
    raw = source.line(place.line)
    begin = max(0, place.column - 1 - LONGEST_LINE // 2) if len(raw) > LONGEST_LINE else 0
    line = raw[begin : begin + LONGEST_LINE]
    width = place.end_column - place.column if place.end_line == place.line else len(raw) - place.column + 1
    before = "".join("\t" if char == "\t" else " " for char in line[: place.column - 1 - begin])
    return without_controls(line).replace("\0", " "), before + "^" * max(1, min(width, LONGEST_LINE - len(before)))


def _unchecked(report: Report) -> Iterator[str]:
    by_need: dict[str, tuple[set[str], set[str]]] = {}
    for item in report.not_checked:
        files, ids = by_need.setdefault(item.needs, (set(), set()))
        files.add(item.file)
        ids.update(item.rules)
    for needs, (files, ids) in sorted(by_need.items()):
        shown = ", ".join(sorted(files)[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        rules_said = f" ({', '.join(sorted(ids)[:12])}{', ...' if len(ids) > 12 else ''})" if ids else ""
        yield f"not checked: needs {needs}{rules_said}{_how(needs)}: {without_controls(shown)}"
    if report.assumed:
        yield f"assumed: {'; '.join(report.assumed)} (--target TOOL=VERSION names yours)"
    if by_need or report.assumed:
        yield ""


_FLAGS = {
    "the model": "--model",
    "the world size": "--world-size",
    "the GPU": "--gpu",
    "the interconnect": "--interconnect",
}


def _how(needs: str) -> str:
    return next((f"; give {flag}" for fact, flag in _FLAGS.items() if needs.startswith(fact)), "")


def concise(report: Report) -> str:
    """A line for each finding, and the summary."""
    lines = [
        f"{without_controls(f.place.file)}:{f.place.line}:{f.place.column}: {f.severity} {f.rule} {without_controls(f.message)}"
        for f in report.findings
    ]
    return "\n".join([*lines, summary(report)])


def github(report: Report) -> str:
    """GitHub Actions' workflow commands: each finding becomes an annotation of its line."""
    levels = {"error": "error", "warning": "warning", "info": "notice"}
    return "\n".join(
        f"::{levels[f.severity]} file={_escaped(f.place.file, True)},line={f.place.line},col={f.place.column},"
        f"endLine={f.place.end_line},endColumn={f.place.end_column},title={_escaped(f'{f.rule} {f.name}', True)}::"
        f"{_escaped(f.message + (f' (fix: {f.fix.description})' if f.fix else ''))}"
        for f in report.findings
    )


def _escaped(value: str, is_property: bool = False) -> str:
    """Text as a workflow command takes it: docs.github.com, workflow commands for GitHub Actions."""
    value = value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return value.replace(":", "%3A").replace(",", "%2C") if is_property else value


def sarif(report: Report) -> dict[str, Any]:
    """SARIF 2.1.0 (OASIS), as code scanning takes it."""
    used = sorted({finding.rule for finding in report.findings})
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "advisor-mcp",
                        "version": __version__,
                        "rules": [_sarif_rule(id) for id in used],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_sarif_result(finding, used.index(finding.rule)) for finding in report.findings],
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "toolExecutionNotifications": [
                            {
                                "level": "note",
                                "message": {"text": f"not checked in {item.file}: needs {item.needs}"},
                            }
                            for item in report.not_checked
                        ],
                    }
                ],
            }
        ],
    }


_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def _sarif_rule(id: str) -> dict[str, Any]:
    found = rules()[id]
    return {
        "id": id,
        "name": "".join(part.capitalize() for part in found.name.split("-")),
        "shortDescription": {"text": found.name},
        "fullDescription": {"text": " ".join(found.sections.get("What it does", found.name).split())},
        "help": {"text": found.page, "markdown": found.page},
        "defaultConfiguration": {"level": _LEVELS[found.severity]},
        "properties": {"tags": [*found.tools, found.harm]},
    }


def _sarif_result(finding: Finding, index: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": _sarif_location(finding.place)}],
    }
    if finding.also:
        result["relatedLocations"] = [{"physicalLocation": _sarif_location(place)} for place in finding.also]
    if finding.fix and finding.fix.edits:
        result["fixes"] = [
            {"description": {"text": finding.fix.description}, "artifactChanges": _sarif_changes(finding)}
        ]
    return result


def _sarif_location(place: Place) -> dict[str, Any]:
    region = {
        "startLine": place.line, "startColumn": place.column, "endLine": place.end_line, "endColumn": max(place.end_column, 1),
    }  # fmt: skip
    return {"artifactLocation": {"uri": _uri(place.file)}, "region": region}


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path.replace("\\", "/").removeprefix("./"), safe="/.-_~")


def _sarif_changes(finding: Finding) -> list[dict[str, Any]]:
    by_file: dict[str, list[dict[str, Any]]] = {}
    for edit in finding.fix.edits if finding.fix else ():
        start, end = edit.place
        change = {
            "deletedRegion": {"charOffset": start, "charLength": end - start},
            "insertedContent": {"text": edit.text},
        }
        by_file.setdefault(edit.source.root.name, []).append(change)
    return [{"artifactLocation": {"uri": _uri(name)}, "replacements": changes} for name, changes in by_file.items()]


def diff_of(finding: Finding) -> str | None:
    """The fix of one finding as a unified diff, where its edits are known."""
    if not (finding.fix and finding.fix.edits):
        return None
    by_file: dict[str, list[edits.Edit]] = {}
    for edit in finding.fix.edits:
        by_file.setdefault(edit.source.root.name, []).append(edit)
    roots = {name: changes[0].source.root.text for name, changes in by_file.items()}
    return edits.diff({name: (roots[name], edits.apply(roots[name], changes)) for name, changes in by_file.items()})


FORMATS: Mapping[str, Callable[[Report], str]] = {
    "text": text,
    "concise": concise,
    "json": lambda report: json.dumps(as_json(report), ensure_ascii=False, indent=2),
    "sarif": lambda report: json.dumps(sarif(report), ensure_ascii=False, indent=2),
    "github": github,
}
