"""Files in, findings out: read, put together what belongs together, ask every rule, take away what was accepted."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from advisor_mcp import access
from advisor_mcp.errors import AdvisorError, UsageError, shown
from advisor_mcp.linting import edits, versions
from advisor_mcp.linting.documents import LAST_TITAN_WITH_TOML
from advisor_mcp.linting.job import Given, Job, together
from advisor_mcp.linting.recognise import SYNTAXES, Reading, read_file
from advisor_mcp.linting.rule import SEVERITIES, Harm, Problem, Rule, Severity, Skipped, rules, rules_for, span_of
from advisor_mcp.linting.source import LARGEST_BYTES, SourceFile, Span, Unreadable, decode, refuse_large
from advisor_mcp.linting.suppression import Settings, Suppressions, read_comments, read_settings
from advisor_mcp.linting.unit import Setting, Unit

MOST_FILES = 5_000
GENERAL = "OP"  # what the option tables say gives way to a rule that knows more of the same cause
FAULT = "a mend of the rule"
_log = logging.getLogger(__name__)
SKIPPED_FOLDERS = {
    ".git",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    ".mypy_cache",
    ".tox",
    "site-packages",
    ".ruff_cache",
}
LOCK_FILES = (
    "requirements.txt",
    "requirements.lock",
    "uv.lock",
    "poetry.lock",
    "environment.yml",
    "pyproject.toml",
    "constraints.txt",
)


@dataclass(frozen=True)
class Place:
    """A place in a file, from 1."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True)
class Finding:
    """One problem: the rule, where, what is wrong, and the fix where there is one."""

    rule: str
    name: str
    severity: Severity
    harm: Harm
    place: Place
    message: str
    key: str | None = None
    fix: edits.Fix | None = None
    also: tuple[Place, ...] = ()
    references: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    source: SourceFile | None = field(default=None, repr=False)

    @property
    def order(self) -> tuple[Any, ...]:
        """Files by name, then line, column and rule."""
        return (self.place.file, self.place.line, self.place.column, self.rule)


@dataclass(frozen=True, order=True)
class NotChecked:
    """A check that was not made, and why: it needs a fact, or the file could not be taken as a configuration."""

    file: str
    needs: str
    rules: tuple[str, ...] = ()


@dataclass
class Report:
    """What a lint run found, in a stable order. `assumed` says which version each tool was held against."""

    findings: list[Finding] = field(default_factory=list)
    not_checked: list[NotChecked] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    tools: dict[str, list[str]] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)
    texts: dict[str, SourceFile] = field(default_factory=dict, repr=False)

    def counts(self) -> dict[Severity, int]:
        """How many findings of each severity."""
        return {severity: sum(f.severity == severity for f in self.findings) for severity in SEVERITIES}


@dataclass(frozen=True)
class Options:
    """What to hold the files against and which rules to ask."""

    given: Given = field(default_factory=Given)
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


# ---- collecting ----


def collect(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """The files to read, with the name to show: those named, and those of folders that could be configurations."""
    seen = set[Path]()
    for given in paths:
        if given.is_dir():
            for path in sorted(_walk(given)):
                if path not in seen:
                    seen.add(path)
                    yield path, str(path)
        elif given not in seen:
            seen.add(given)
            yield given, str(given)


def _walk(folder: Path) -> Iterator[Path]:
    count = 0
    stack = [folder]
    while stack:
        here = stack.pop()
        try:
            entries = sorted(here.iterdir())
        except OSError:
            continue
        for path in entries:
            if path.is_symlink():
                continue
            if path.is_dir():
                if path.name not in SKIPPED_FOLDERS:
                    stack.append(path)
            elif path.suffix.lower() in SYNTAXES and path.is_file():
                count += 1
                if count > MOST_FILES:
                    return
                yield path


def lint_named(
    said: Sequence[str], options: Options, *, instead: str = "", progress: Callable[[int, int], None] | None = None
) -> Report:
    """Lint files and folders by their paths as a caller wrote them.

    Raises `UsageError` for a path that this call may not read, that is not there (`instead` ends that sentence), or that
    cannot be read.
    """
    paths = [access.readable(path) for path in said]
    try:
        for path, written in zip(paths, said, strict=True):
            if not path.exists():
                raise UsageError(f"there is no file or folder {shown(written, 300)}{instead}")
        return lint_paths(paths, options, progress)
    except OSError as error:
        where = shown(str(error.filename), 300) if error.filename and access.anywhere() else "a file"
        raise UsageError(f"cannot read {where}: {(error.strerror or 'it is not usable').lower()}") from None


def lint_paths(paths: Sequence[Path], options: Options, progress: Callable[[int, int], None] | None = None) -> Report:
    """Lint files and folders; each folder that was named is taken as one job. Raises `OSError` for a file that is not there."""
    report = Report()
    for path in paths:
        folder = path if path.is_dir() else path.parent
        sources, unreadable = list[SourceFile](), list[tuple[str, Unreadable]]()
        found = list(collect([path]))
        for index, (file, name) in enumerate(found):
            if progress:
                progress(index, len(found))
            try:
                sources.append(_load(file, name))
            except Unreadable as error:
                unreadable.append((name, error))
        _lint(sources, unreadable, options, read_settings(folder.resolve()), folder, report, named=not path.is_dir())
    return _finished(report)


def _load(path: Path, name: str) -> SourceFile:
    refuse_large(path.stat().st_size)
    with path.open("rb") as file:
        return decode(name, file.read(LARGEST_BYTES + 1), path)  # a device has no size and may have no end


def lint_text(texts: Mapping[str, str | bytes], options: Options) -> Report:
    """Lint texts by name, taken as one job."""
    report = Report()
    sources, unreadable = list[SourceFile](), list[tuple[str, Unreadable]]()
    for name, text in texts.items():
        try:
            sources.append(decode(name, text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text))
        except Unreadable as error:
            unreadable.append((name, error))
    _lint(sources, unreadable, options, Settings(), None, report, named=True)
    return _finished(report)


# ---- linting ----


def _lint(
    sources: Sequence[SourceFile], unreadable: Sequence[tuple[str, Unreadable]], options: Options, settings: Settings,
    folder: Path | None, report: Report, *, named: bool,
) -> None:  # fmt: skip
    targets = {**lock_targets(folder), **settings.targets, **options.given.targets}
    given = replace(options.given, targets=targets)
    readings = [read_file(source) for source in sources]
    chosen = selected(options, {unit.tool for reading in readings for unit in reading.units})
    for name, error in unreadable:
        _add_plain(report, chosen, "CF002", SourceFile(name, ""), 0, f"the file {error.message}")
    units: list[Unit] = []
    models = [reading.model for reading in readings if reading.model]
    if given.model is None and len(models) == 1:
        given = replace(given, model=models[0])
    for reading in readings:
        _note_file(reading, report, chosen, named)
        units += reading.units
    for unit in units:
        _set_target(unit, targets)
        report.assumed += _assumption(unit)
        if unit.tool not in report.tools.setdefault(unit.source.root.name, []):
            report.tools[unit.source.root.name].append(unit.tool)
    suppressions = {id(source): read_comments(source) for source in sources}
    jobs = together(units, given, folder, {source.name: source for source in sources})
    found, skipped = _ask(jobs, chosen.values())
    for finding in _distinct(found):
        source = finding.source
        accepted = source is not None and suppressions[id(source.root)].covers(
            finding.rule, finding.name, finding.place.line
        )
        if not accepted and not settings.covers(finding.place.file, finding.key or "", finding.rule, finding.name):
            report.findings.append(finding)
    report.not_checked += [NotChecked(file, needs, tuple(sorted(ids))) for (file, needs), ids in skipped.items()]
    for source in sources:
        _unused(report, chosen, source, suppressions[id(source)], partial=bool(options.select or options.ignore))


def _ask(jobs: Iterable[Job], chosen: Iterable[Rule]) -> tuple[list[Finding], dict[tuple[str, str], set[str]]]:
    """What every rule says of every unit: findings, and by file and missing fact the rules that could not be asked."""
    by_tool: dict[str, list[Rule]] = {}
    for rule in chosen:
        for tool in rule.tools:
            by_tool.setdefault(tool, []).append(rule)
    found: list[Finding] = []
    skipped: dict[tuple[str, str], set[str]] = {}
    for job in jobs:
        for unit in job.units:
            for rule in (*by_tool.get(unit.tool, ()), *by_tool.get("*", ())):
                for problem in _asked(rule, unit, job):
                    if isinstance(problem, Skipped):
                        skipped.setdefault((unit.source.root.name, problem.needs), set()).add(rule.id)
                    else:
                        found.append(_finding(rule, problem))
    return found, skipped


def _asked(rule: Rule, unit: Unit, job: Job) -> list[Problem | Skipped]:
    """What a rule says of a unit; a fault of the rule's own does not cost the findings of the others."""
    try:
        return list(rule.check(unit, job))
    except AdvisorError:
        raise
    except Exception as fault:
        _log.exception("rule %s failed", rule.id)
        return [Skipped(f"{FAULT} {rule.id} ({type(fault).__name__}), a fault of its own")]


def selected(options: Options, tools: Iterable[str] | None = None) -> dict[str, Rule]:
    """The rules to ask: those that `select` names by id, prefix or name (all without it), less those of `ignore`.

    With `tools` only the rules that units of these tools are held against are loaded.
    """
    known = rules() if tools is None else rules_for(tools)

    def named(rule: Rule, words: Iterable[str]) -> bool:
        return any(rule.id.startswith(word.upper()) or rule.name == word for word in words if word)

    return {
        id: rule
        for id, rule in known.items()
        if (not options.select or named(rule, options.select)) and not named(rule, options.ignore)
    }


def _note_file(reading: Reading, report: Report, chosen: Mapping[str, Rule], named: bool) -> None:
    source = reading.source
    if reading.malformed:
        report.files.append(source.name)
        report.texts[source.name] = source
        message = f"the file {reading.malformed.message}"
        severity: Severity | None = None
        if reading.units and all(unit.tool == "deepspeed" for unit in reading.units):
            message += "; DeepSpeed's own reader (Hjson) takes it, transformers' and accelerate's do not"
            severity = "warning"
        _add_plain(report, chosen, "CF001", source, reading.malformed.offset, message, severity)
    elif reading.template:
        report.files.append(source.name)
        report.not_checked.append(
            NotChecked(source.name, "a file in place of the template: its fields are not filled in")
        )
    elif reading.units:
        report.files.append(source.name)
        report.texts[source.name] = source
    elif named and reading.model is None:
        report.not_checked.append(
            NotChecked(source.name, "a configuration that is known: no training or serving tool was recognised")
        )


def _add_plain(
    report: Report,
    chosen: Mapping[str, Rule],
    id: str,
    source: SourceFile,
    offset: int,
    message: str,
    severity: Severity | None = None,
) -> None:
    if id in chosen:
        span = Span(source, offset, min(offset + 1, len(source.text)))
        report.findings.append(_finding(chosen[id], Problem(span, message, severity=severity)))
        report.texts.setdefault(source.name, source)
        if source.name not in report.files:
            report.files.append(source.name)


def _unused(
    report: Report, chosen: Mapping[str, Rule], source: SourceFile, suppressions: Suppressions, *, partial: bool
) -> None:
    for ignore in suppressions.comments:
        where = Span(source, ignore.offset, ignore.offset + 1)
        if not ignore.reason and "CF004" in chosen:
            report.findings.append(
                _finding(chosen["CF004"], Problem(where, "the ignore comment gives no reason; write why after it"))
            )
        if not ignore.used and "CF003" in chosen and not partial:
            named = ", ".join(sorted(ignore.rules)) or "any rule"
            report.findings.append(
                _finding(
                    chosen["CF003"], Problem(where, f"nothing here is found by {named}; remove the ignore comment")
                )
            )


def _finding(rule: Rule, problem: Problem) -> Finding:
    span = problem.span
    setting = problem.at if isinstance(problem.at, Setting) else None
    return Finding(
        rule.id,
        rule.name,
        problem.severity or rule.severity,
        rule.harm,
        place_of(span),
        problem.message,
        setting.name if setting else None,
        problem.fix,
        tuple(place_of(span_of(other)) for other in problem.also),
        rule.references,
        rule.causes,
        span.source,
    )


def place_of(span: Span) -> Place:
    """A span as lines and columns of its root file."""
    line, column = span.source.position(span.start)
    end_line, end_column = span.source.position(max(span.end - 1, span.start))
    return Place(span.source.root.name, line, column, end_line, end_column + 1)


def _distinct(found: Iterable[Finding]) -> list[Finding]:
    """One finding for one rule at one place, and of several rules that cover the same cause there the most specific."""
    kept: dict[tuple[str, int, int], list[Finding]] = {}
    for finding in sorted(found, key=lambda f: (f.rule.startswith(GENERAL), SEVERITIES.index(f.severity), f.order)):
        here = kept.setdefault((finding.place.file, finding.place.line, finding.place.column), [])
        if not any(_covers(other, finding) for other in here):
            here.append(finding)
    return [finding for here in kept.values() for finding in here]


def _covers(one: Finding, other: Finding) -> bool:
    """Whether a finding at the same place says all that another one does."""
    specific = other.rule.startswith(GENERAL) and one.severity == "error" and not one.rule.startswith(GENERAL)
    return one.rule == other.rule or specific or bool(set(one.causes) & set(other.causes))


def _finished(report: Report) -> Report:
    report.findings.sort(key=lambda finding: finding.order)
    report.not_checked = sorted(set(report.not_checked))
    report.assumed = sorted(set(report.assumed))
    return report


# ---- versions ----

_PACKAGES = (
    "transformers", "vllm", "sglang", "deepspeed", "axolotl", "trl", "accelerate", "llamafactory", "torchtune", "torchtitan",
    "peft", "megatron-core", "torch",
)  # fmt: skip
TARGET_NAMES: Mapping[str, tuple[str, ...]] = {
    "hf_trainer": ("transformers", "hf_trainer"),
    "trl": ("trl",),
    "megatron-lm": ("megatron-lm", "megatron-core"),
    "accelerate_launch": ("accelerate",),
    "deepspeed_launcher": ("deepspeed",),
    "torchrun": ("torch", "pytorch", "torchrun"),
    "env": ("torch", "pytorch"),
}


def _assumption(unit: Unit) -> list[str]:
    """What is said of a tool whose version nobody named: that the newest one is taken."""
    known = unit.table
    if known is None or unit.target:
        last = unit.tool == "torchtitan" and unit.target == LAST_TITAN_WITH_TOML
        return [f"torchtitan {unit.target}, the last version that reads TOML"] if last else []
    return [f"{known.tool} {known.newest}, the newest listed, as no version is named"]


def _set_target(unit: Unit, targets: Mapping[str, str]) -> None:
    unit.targets = dict(targets)
    for name in TARGET_NAMES.get(unit.tool, (unit.tool,)):
        if name in targets:
            unit.target = targets[name]
            return


def lock_targets(folder: Path | None) -> dict[str, str]:
    """Versions that a lock or requirements file of the folder pins exactly."""
    found: dict[str, str] = {}
    for name in LOCK_FILES:
        path = folder / name if folder else None
        try:
            if path is None or path.stat().st_size > LARGEST_BYTES:
                continue
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        for package in _PACKAGES:
            pinned = re.search(
                rf'^\s*["\']?{re.escape(package)}(?:\[[^\]]*\])?\s*={{2,3}}\s*([\w.]+)',
                text,
                re.MULTILINE | re.IGNORECASE,
            )
            locked = re.search(rf'^name = "{re.escape(package)}"\nversion = "([^"]+)"', text, re.MULTILINE)
            version = (pinned or locked)[1] if pinned or locked else ""  # type: ignore[index]
            if version and versions.parse(version):
                found.setdefault(package, version)
    return found


def fixed(report: Report, *, unsafe: bool = False) -> dict[str, tuple[str, str]]:
    """Each file's text before and after the fixes of its findings; only safe ones unless `unsafe`."""
    by_file: dict[str, list[edits.Edit]] = {}
    for finding in report.findings:
        if finding.fix and finding.fix.edits and (finding.fix.safe or unsafe):
            for edit in finding.fix.edits:
                by_file.setdefault(edit.source.root.name, []).append(edit)
    texts = {name: changes[0].source.root.text for name, changes in by_file.items()}
    return {name: (texts[name], edits.apply(texts[name], changes)) for name, changes in by_file.items()}
