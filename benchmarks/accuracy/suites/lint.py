"""Documented bad configurations that must be caught for their cause, and real good ones that must be left in peace."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from advisor_mcp.linting import edits, formats
from advisor_mcp.linting.engine import Finding, Options, Report, lint_text
from advisor_mcp.linting.job import Given
from advisor_mcp.linting.rule import rules
from benchmarks.accuracy.cases import Case, Outcome

# a row's context in the linter's own arguments; whatever else it holds is taken as fields of the model's configuration
_FACTS = ("world_size", "gpu", "gpus_per_node", "interconnect")
_PACKAGES = (
    "transformers", "trl", "accelerate", "deepspeed", "axolotl", "llamafactory", "torchtune", "torchtitan", "vllm", "sglang", "peft",
    "torch", "megatron-core", "core", "megatron-lm", "megatron-bridge", "tensorrt-llm", "nccl",
)  # fmt: skip
_ALIASES = {"core": "megatron-core"}


def targets(version: str | None, tool: str) -> dict[str, str]:
    """The version that a row is for: ``transformers<5`` means the last below it, ``vllm 0.7-0.19`` the upper end."""
    found: dict[str, str] = {}
    text = (version or "").lower()
    for match in re.finditer(
        r"([a-z][a-z-]*)?\s*(<=?|>=?|==?)?\s*[v~]?(\d+(?:\.\d+)+|\d+(?=[\s)(,]|$))(?:\s*(?:-|\.\.)\s*<?(\d+(?:\.\d+)+))?",
        text,
    ):
        name = _ALIASES.get(match[1] or "", match[1] or "")
        if name not in _PACKAGES:
            if match[1] or not re.match(r"\d+\.\d", match[3]):
                continue
            name = tool
        low = match[3]
        range_below = f"{low} .. <" in text
        if match[2] in (">", ">="):
            continue  # the newest is one of them
        picked = match[4] or low
        found.setdefault(name, _below(picked) if match[2] == "<" or range_below else picked)
    return found


def _below(version: str) -> str:
    """A version just below: ``5`` gives ``4.99``, ``2.9`` gives ``2.8``."""
    major, _, rest = version.partition(".")
    minor = int(rest.split(".")[0]) if rest else 0
    return f"{major}.{minor - 1}.99" if minor else f"{int(major) - 1}.99"


def given(row: Mapping[str, Any]) -> Given:
    """A row's context as the linter's arguments."""
    context = dict(row.get("context") or {})
    facts = {name: context.pop(name) for name in _FACTS if context.get(name) is not None}
    context.pop("launcher", None)
    capability = context.pop("compute_capability", None)
    if "gpu" not in facts and capability:
        facts["gpu"] = f"sm_{capability}"
    named = {name: str(context.pop(name)) for name in ("torch",) if name in context}
    model: Any = context.pop("model", None)
    if isinstance(context.get("model_dtype"), str):
        context["torch_dtype"] = context.pop("model_dtype")
    if context or model:
        model = {**context, **({"_name_or_path": model} if model else {})}
    tool = str(row.get("tool", "")).split("+")[0]
    return Given(model=model, targets={**targets(row.get("version"), tool), **named}, **facts)


def texts(row: Mapping[str, Any]) -> dict[str, str]:
    """A row's files by name; a launcher that its context names is a script of its own."""
    found = {row["file"]: row["snippet"], **(row.get("extra_files") or {})}
    launcher = (row.get("context") or {}).get("launcher")
    if launcher:
        found["launch.sh"] = re.sub(r"\S+\.(ya?ml|json)\b", row["file"], launcher) + "\n"
    return found


def on_the_key(row: Mapping[str, Any], finding: Finding) -> bool:
    """Whether the words that the finding stands on are named by the row's error, cause or fix."""
    source = finding.source
    if source is None or finding.place.file not in texts(row):
        return False
    line = source.root.line(finding.place.line)
    words = line[
        finding.place.column - 1 : finding.place.end_column - 1
        if finding.place.end_line == finding.place.line
        else None
    ]
    said = _plain(" ".join(str(row.get(key)) for key in ("error", "cause", "fix")))
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", _plain(words)) if len(part) > 1]
    return any(part in said for part in parts) or _plain(words) in said


def _plain(text: str) -> str:
    return text.lower().replace("-", "_").replace("--", "")


def after_fix(row: Mapping[str, Any], report: Report, finding: Finding) -> list[Finding] | None:
    """What is left of a finding's rule once the row's own corrected text, or else the fixes of its findings, are in place."""
    changed = dict(texts(row))
    if row.get("fixed"):
        changed[row["file"]] = row["fixed"]
    elif finding.fix and finding.fix.edits:
        fixes = [f.fix for f in report.findings if f.rule == finding.rule and f.fix]
        for name in changed:
            own = [edit for fix in fixes for edit in fix.edits if edit.source.root.name == name]
            changed[name] = edits.apply(changed[name], own)
    else:
        return None
    return [f for f in lint_text(changed, Options(given(row))).findings if f.rule == finding.rule]


def caught(row: Mapping[str, Any], report: Report) -> Finding | None:
    """The finding for the row's cause, one that stands on the offending key before any other."""
    known = rules()
    found = [f for f in report.findings if row["rule"] in known[f.rule].causes]
    return next((f for f in found if on_the_key(row, f)), found[0] if found else None)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.strip())


def cases(data: Path) -> Iterator[Case]:
    """A case for each bad row (measured: its cause) and for each good file (measured: no errors)."""
    for row in _rows(data / "lint" / "bad.jsonl"):
        yield Case(row["id"], f"bad {row['tool']}", "lint_config", {"row": row}, "", row["rule"], basis="bad")
    for row in _rows(data / "lint" / "good.jsonl"):
        yield Case(
            row["id"],
            f"good {row['tool']}",
            "lint_config",
            {"row": row, "path": data / "lint" / row["file"]},
            "",
            0,
            basis="good",
        )


def run(case: Case) -> Outcome:
    """Lint a case's files with what the row states; `predicted` is the report."""
    row = case.arguments["row"]
    if case.basis == "bad":
        return Outcome(case, lint_text(texts(row), Options(given(row))))
    path: Path = case.arguments["path"]
    stated = targets(row.get("version"), row["tool"])
    return Outcome(
        case,
        lint_text(
            {path.name.split("__")[-1] if path.suffix else path.name: path.read_bytes()}, Options(Given(targets=stated))
        ),
    )


def row(outcome: Outcome) -> dict[str, Any]:
    """What `--json` prints of a case: the whole report, and whether it is right (the cause caught; no error)."""
    case, made = outcome.case, outcome.predicted
    hit = caught(case.arguments["row"], made) if case.basis == "bad" else None
    right = hit is not None if case.basis == "bad" else all(f.severity != "error" for f in made.findings)
    return {
        "id": case.id,
        "group": case.group,
        "predicted": formats.as_json(made),
        "measured": case.measured,
        "caught_by": hit.rule if hit else None,
        "exact": right,
    }


def report(outcomes: Sequence[Outcome], excluded: Counter[str]) -> Iterator[str]:
    """Per tool what was caught and what was reported on good files, what was missed, and the two figures last."""
    bad = [o for o in outcomes if o.case.basis == "bad"]
    good = [o for o in outcomes if o.case.basis == "good"]
    hits = {o.case.id: caught(o.case.arguments["row"], o.predicted) for o in bad}
    yield from _bad_lines(bad, hits)
    yield from _good_lines(good)
    placed = sum(1 for o in bad if (f := hits[o.case.id]) and on_the_key(o.case.arguments["row"], f))
    fixed = [
        left
        for o in bad
        if (f := hits[o.case.id]) and (left := after_fix(o.case.arguments["row"], o.predicted, f)) is not None
    ]
    caught_count = sum(f is not None for f in hits.values())
    errors = sum(1 for o in good if any(f.severity == "error" for f in o.predicted.findings))
    warnings = sum(f.severity == "warning" for o in good for f in o.predicted.findings)
    by_letter = {
        letter: [hits[o.case.id] is not None for o in bad if o.case.arguments["row"].get("confidence") == letter]
        for letter in "ABC"
    }
    yield (
        f"lint bad: n={len(bad)} caught={caught_count} ({_share(caught_count, len(bad))}) on_key={placed} "
        + " ".join(f"{letter}={sum(found)}/{len(found)}" for letter, found in by_letter.items())
        + f" with_edits={len(fixed)} gone_after_fix={sum(not left for left in fixed)}"
    )
    each = warnings / max(len(good), 1)
    yield f"lint good: n={len(good)} files_with_errors={errors} ({_share(errors, len(good))}) warnings_a_file={each:.3f}"
    exact = caught_count + len(good) - errors
    share = 100 * caught_count / len(bad) if bad else 0.0
    yield f"lint: n={len(outcomes)} exact={exact} median=-% p90=-% covered={share:.1f}% excluded={sum(excluded.values())}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"


def _bad_lines(bad: Sequence[Outcome], hits: Mapping[str, Finding | None]) -> Iterator[str]:
    groups: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for outcome in bad:
        own = bool(outcome.case.arguments["row"].get("reproduced_offline"))
        groups[outcome.case.group].append((hits[outcome.case.id] is not None, own))
    for name, found in sorted(groups.items()):
        caught_, own_ = (sum(part) for part in zip(*found, strict=True))
        yield f"  {name:<28} n={len(found):<4} caught={caught_:<4} by_the_tools_own_validator={own_}"
    for outcome in bad:
        row = outcome.case.arguments["row"]
        hit = hits[outcome.case.id]
        if hit is None:
            yield f"  missed {row['id']} {row['tool']} {row['rule']}: said {[f.rule for f in outcome.predicted.findings]}"
        elif not on_the_key(row, hit):
            yield f"  elsewhere {row['id']} {row['rule']}: {hit.rule} at line {hit.place.line}, column {hit.place.column}"


def _good_lines(good: Sequence[Outcome]) -> Iterator[str]:
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in good:
        groups[outcome.case.group].append(outcome)
    for name, found in sorted(groups.items()):
        severities = Counter(f.severity for o in found for f in o.predicted.findings)
        errors = sum(any(f.severity == "error" for f in o.predicted.findings) for o in found)
        own = [v["outcome"] for o in found if (v := o.case.arguments["row"].get("own_validator"))]
        said = f"files_with_errors={errors} warnings={severities['warning']} infos={severities['info']}"
        theirs = f" own_validator_errors={own.count('error')}/{len(own)}" if own else ""
        yield f"  {name:<28} n={len(found):<4} {said}{theirs}"
    for outcome in good:
        for finding in outcome.predicted.findings:
            if finding.severity != "info":
                where = f"{finding.place.file}:{finding.place.line}"
                yield f"  {finding.severity} {outcome.case.id} {finding.rule} {where} {finding.message[:150]}"
