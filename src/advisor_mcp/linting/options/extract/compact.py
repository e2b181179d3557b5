"""The tables as files: releases merged into spans and changes, one option a line, in a fixed order."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advisor_mcp.linting.options.extract.fields import Options
from advisor_mcp.linting.options.extract.reading import Record

DATA = Path(__file__).resolve().parents[1] / "data"
KEYS = ("t", "d", "c", "ge", "gt", "le", "lt", "n", "req", "a", "dep", "to")
LONGEST = 100  # characters of a default that is kept; longer ones say nothing to a linter


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The options of one release: scope to name to record."""

    version: str
    date: str
    scopes: dict[str, Options]
    inherits: dict[str, str] = field(default_factory=dict)  # scope to "tool:scope"
    requires: dict[str, str] = field(default_factory=dict)  # tool to the requirement that this release states


def write(tool: str, source: str, snapshots: list[Snapshot], path: Path) -> None:
    """One file of a tool's snapshots (oldest first)."""
    head: dict[str, Any] = {
        "tool": tool,
        "source": source,
        "versions": [s.version for s in snapshots],
        "dates": [s.date for s in snapshots],
    }
    if names := sorted({name for s in snapshots for name in s.requires}):
        head["with"] = {name: companions(name, snapshots, path.parent) for name in names}
    inherits = {scope: ref for s in snapshots for scope, ref in s.inherits.items()}
    if inherits:
        head["inherits"] = dict(sorted(inherits.items()))
    scopes = {
        scope: merged(scope, snapshots, inherited_rows(inherits.get(scope, ""), path.parent))
        for scope in sorted({scope for s in snapshots for scope in s.scopes})
    }
    lines = [f"{dumped(key)}: {dumped(value)}," for key, value in head.items()]
    body = []
    for scope, options in scopes.items():
        rows = ",\n".join(f"{dumped(name)}: {dumped(row)}" for name, row in options.items())
        body.append(f"{dumped(scope)}: {{\n{rows}\n}}")
    path.write_text("{\n" + "\n".join(lines) + '\n"scopes": {\n' + ",\n".join(body) + "\n}\n}\n", encoding="utf-8")


def written(tool: str, folder: Path) -> dict[str, Any]:
    """Another tool's file: the one beside the file being written, else the shipped one, else one that is empty."""
    for file in (folder / f"{tool}.json", DATA / f"{tool}.json"):
        if file.exists():
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return found
    return {"versions": [""], "dates": [""], "scopes": {}}


def inherited_rows(reference: str, folder: Path) -> Options:
    """The rows of the scope that a scope inherits, from the file written before."""
    tool, _, scope = reference.partition(":")
    rows: Options = written(tool, folder)["scopes"].get(scope, {}) if tool else {}
    return rows


def companions(tool: str, snapshots: list[Snapshot], folder: Path) -> list[str]:
    """The release of another tool to read along with each: the newest that was out by then and meets the requirement.

    For the newest release, whatever is out by now. Reads the other tool's file, which must have been written before.
    """
    other = written(tool, folder)
    chosen: list[str] = []
    for index, snapshot in enumerate(snapshots):
        newest = index == len(snapshots) - 1
        fitting = [v for v in other["versions"] if meets(v, snapshot.requires.get(tool, ""))] or other["versions"]
        out = [v for v in fitting if newest or other["dates"][other["versions"].index(v)] <= snapshot.date]
        chosen.append(out[-1] if out else fitting[0])
    return chosen


def meets(version: str, requirement: str) -> bool:
    """Whether a release meets a requirement of a package's metadata such as ">=4.56.2,<5,!=4.57.0"."""
    for operator, bound in re.findall(r"(==|!=|<=|>=|<|>|~=)\s*([\d.]+)", requirement):
        mine, given = number(version), number(bound)
        same = mine[: len(given)] == given if operator in {"==", "!="} else mine == given
        verdict = {
            "==": same,
            "!=": not same,
            "<=": mine <= given,
            ">=": mine >= given,
            "<": mine < given,
            ">": mine > given,
            "~=": mine >= given and mine[: len(given) - 1] == given[:-1],
        }
        if not verdict[operator]:
            return False
    return True


def number(version: str) -> list[int]:
    parts = [int(part) for part in re.findall(r"\d+", version.partition("+")[0])]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return parts


def requirement(metadata: str, name: str) -> str:
    """What a package's metadata requires of another, optional extras apart."""
    for line in re.findall(rf"^Requires-Dist: {re.escape(name)}\b(?!-)(.*)$", metadata, re.MULTILINE | re.IGNORECASE):
        if "extra ==" not in line:
            return str(line).partition(";")[0].strip(" ()")
    return ""


def dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def merged(scope: str, snapshots: list[Snapshot], inherited: Options) -> dict[str, Record]:
    """Name to row: the record of its first release, the spans that have it, and what later releases changed."""
    per_release = [s.scopes.get(scope, {}) for s in snapshots]
    names = sorted({name for options in per_release for name in options})
    return {name: row(name, per_release, inherited) for name in names}


def row(name: str, per_release: list[Options], inherited: Options) -> Record:
    """`in`: [from, until, from, ...] as indices of the version list; `x`: changes by index; `gone`: why it ended."""
    spans: list[int] = []
    changes: dict[str, Record] = {}
    first: Record = {}
    current: Record = {}
    gone = ""
    for index, options in enumerate(per_release):
        gone = options.get(name, {}).get("gone", gone)
        present = "gone" not in options.get(name, {"gone": ""})
        if present != bool(len(spans) % 2):
            spans.append(index)
        if not present:
            continue
        record = kept(options[name], {**inherited, **options})
        if not first:
            first = current = record
        elif record != current:
            if made := change(current, record):
                changes[str(index)] = made
            current = record
    result = dict(first)
    if spans != [0]:
        result["in"] = spans
    if changes:
        result["x"] = changes
    if gone:
        result["gone"] = gone
    return result


def change(before: Record, after: Record) -> Record:
    """What a release changed: new values by key, `-` keys dropped, `c+` and `c-` choices that came and went."""
    made = {key: after[key] for key in KEYS if differs(key, after, before)}
    if "c" in made and "c" in before:
        came = [c for c in after["c"] if c not in before["c"]]
        went = [c for c in before["c"] if c not in after["c"]]
        if len(came) + len(went) < len(after["c"]):
            del made["c"]
            made.update({key: value for key, value in (("c+", came), ("c-", went)) if value})
    if dropped := [key for key in KEYS if key in before and key not in after]:
        made["-"] = dropped
    return made


def differs(key: str, record: Record, current: Record) -> bool:
    """Whether a key's value changed (1 and True, 0 and 0.0 are not the same default)."""
    return key in record and (key not in current or dumped(record[key]) != dumped(current[key]))


def kept(record: Record, siblings: Options) -> Record:
    """The keys of a record that the file holds; `to` only where the named option exists beside it."""
    result = {k: record[k] for k in KEYS if k in record and (k == "d" or not empty(record[k]))}
    if "d" in result and (not plain(result["d"]) or len(dumped(result["d"])) > LONGEST):
        del result["d"]
    if "c" in result:
        result["c"] = [c for c in result["c"] if isinstance(c, str | int | float | bool)]
    if result.get("t") == "any" or ("enum" in str(result.get("t")) and not result.get("c")):
        del result["t"]
    point_on(record, result, siblings)
    return result


def point_on(record: Record, result: Record, siblings: Options) -> None:
    """`to` where the deprecation message names one option beside this one that takes the same values, else a note."""
    result.pop("to", None)
    for mention in [record["to"]] if "to" in record else record.get("mentions", ()):
        target = mention.lstrip("-").replace("-", "_")
        other = siblings.get(target)
        if other is None or other is record or "gone" in other or not result.get("dep"):
            continue
        same = "t" not in record or kinds(other) == kinds(record) or {*kinds(other), *kinds(record)} == {"int", "float"}
        turned = target.startswith(("enable_", "no_"))
        if same and not turned and not record.get("and"):
            result["to"] = target
        else:
            result["dep"] = f"{result['dep']}, use {target}"
        return


def kinds(record: Record) -> set[str]:
    """The types that a record takes, None apart."""
    return set(str(record.get("t", "any")).split("|")) - {"null"}


def empty(value: Any) -> bool:
    """Whether a value says nothing (0 does)."""
    return value is False or value is None or value == "" or value == []


def plain(value: Any) -> bool:
    """Whether a default can be written as JSON."""
    if isinstance(value, list):
        return all(map(plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and plain(v) for k, v in value.items())
    return value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and abs(value) < 1e300)
