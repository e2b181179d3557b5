"""Option tables: which options a tool has in which release, with type, default, choices, bounds and renames.

`table("vllm").option("serve", "tensor-parallel-size", "0.10.2")` answers from `data/<tool>.json`, which
`python -m advisor_mcp.linting.options.extract` writes from the tools' published packages. A table is read on first use.

Scopes, per tool:

- transformers: `TrainingArguments`, `Seq2SeqTrainingArguments`, `fsdp_config`, `accelerator_config`,
  `BitsAndBytesConfig`, `GPTQConfig`, `AwqConfig`, ... (quantisation classes)
- trl: `sft`, `dpo`, `grpo`, ... (the Config class without "Config", lower case), `model`, `script`, `script:grpo`, ...,
  `dataset_mixture`, `dataset_mixture.datasets`
- accelerate: `` (the YAML's top level), `fsdp_config`, `deepspeed_config`, `parallelism_config`, `megatron_lm_config`,
  `fp8_config`, `dynamo_config`, `mpirun_config`, `sagemaker`, `launch`
- deepspeed: `` (top level), `zero_optimization`, `zero_optimization.offload_optimizer`, `fp16`, ...,
  `scheduler.params:WarmupLR`, ..., `launcher`; a section without a scope takes keys that are not known here
- axolotl: `` (with the keys of all plugins), `datasets`, `trl`, `vllm`, `fsdp_config`, ...
- llamafactory: ``
- torchtune: `recipe:<name>` (keys that the recipe reads), `component:<dotted path as a user writes it>` (an option `**`:
  takes any further keyword)
- torchtitan: `training`, `parallelism`, `quantize.linear.float8`, ... (sections), ``; from 0.3 also the Python classes,
  `Trainer.Config`, `TrainingConfig`, ...
- megatron-lm: `` (flags), `extra` (flags that scripts of its repository add); megatron-core: `TransformerConfig`, ...;
  megatron-bridge: ``, `train`, `model`, ... (sections), `TrainingConfig`, ... (classes)
- peft: `lora`, `adalora`, ... (as trl)
- vllm: `serve`, `env`, and what a flag takes as JSON: `compilation_config`, `speculative_config`, ...; sglang: `serve`, `env`
- llama.cpp: `server`, `cli`, `env`; its releases are llama-cpp-python's
- torchrun: ``; nccl: `env`; pytorch: `env`

A scope may inherit another table's scope (`trl` `sft` that of transformers' `TrainingArguments`): its options are found
through it, in the release of the other tool that the given release asks for and that was current when it came out, or in
the one that `beside` names (`beside={"transformers": "4.57.6"}`).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final


class _NoDefault:
    """The default is unknown, or there is none."""

    def __repr__(self) -> str:
        return "NO_DEFAULT"

    def __bool__(self) -> bool:
        return False


NO_DEFAULT: Final = _NoDefault()
Beside = Mapping[str, str] | None
RANKS = {"dev": -4.0, "a": -3.0, "b": -2.0, "rc": -1.0, "post": 1.0}
LATEST = 9.0  # ranks a release above its post releases
ALIKE = 0.75  # difflib ratio from which a name counts as meant


@dataclass(frozen=True, slots=True)
class Option:
    """One option in one release.

    `type` joins bool, int, float, str, list, dict, enum, null and any by "|"; beside "enum" alone the `choices` are all
    there are, beside "enum|str" they are the usual ones. `nargs` is argparse's (0: a switch); None for one value, and
    for what is no flag. `spellings` are further flags with their dashes, or keys without. `default` is `NO_DEFAULT`
    where the source computes it.
    """

    name: str
    spellings: tuple[str, ...]
    type: str
    default: Any
    choices: tuple[Any, ...]
    minimum: float | None
    maximum: float | None
    minimum_exclusive: bool
    maximum_exclusive: bool
    nargs: int | str | None
    required: bool
    deprecated: str | None
    renamed_to: str | None


@dataclass(frozen=True, slots=True)
class History:
    """When a name existed: `since` the first listed release that has it (None: the oldest listed already had it),
    `until` the first listed release that lacks it again (None: the newest still has it)."""

    name: str
    since: str | None
    until: str | None
    renamed_to: str | None
    note: str | None


@dataclass(slots=True)
class _Scope:
    rows: Mapping[str, Mapping[str, Any]]
    aliases: Mapping[str, tuple[str, ...]]  # folded spelling to canonical names
    releases: dict[tuple[int, str | None], Mapping[str, Option]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """The options of one tool, over its listed releases (oldest first)."""

    tool: str
    versions: tuple[str, ...]
    dates: tuple[str, ...]
    source: str
    scopes: tuple[str, ...]
    _inherits: Mapping[str, str]
    _with: Mapping[str, list[str]]
    _raw: Mapping[str, Mapping[str, Mapping[str, Any]]]
    _read: dict[str, _Scope] = field(default_factory=dict)
    _at: dict[str | None, int] = field(default_factory=dict)

    @property
    def newest(self) -> str:
        return self.versions[-1]

    def at(self, version: str | None) -> int:
        """The index of the newest listed release not above `version`; None, "main" and the like mean the newest."""
        if version not in self._at:
            self._at[version] = self._index(_number(version) if version else None)
        return self._at[version]

    def _index(self, wanted: tuple[float, ...] | None) -> int:
        if wanted is None:
            return len(self.versions) - 1
        numbers = [_number(listed) or () for listed in self.versions]
        if not wanted[-1] and wanted not in numbers:  # "0.8.5" stands for its post releases too
            wanted = (*wanted[:-1], LATEST)
        return max((i for i, listed in enumerate(numbers) if listed <= wanted), default=0)

    def option(self, scope: str, name: str, version: str | None = None, *, beside: Beside = None) -> Option | None:
        """An option by its name or any spelling of it; None where that release does not have it."""
        options = self.options(scope, version, beside=beside)
        wanted = _bare(name)
        if wanted in options:
            return options[wanted]
        folded = _folded(name)
        named = self._scope(scope).aliases.get(folded, ())
        # a spelling of another release does not count
        found = next(
            (o for n in named if (o := options.get(n)) and folded in {_folded(s) for s in (o.name, *o.spellings)}), None
        )
        if found is None and (other := self._inherited(scope)):
            found = other[0].option(other[1], name, self._companion(other[0], version, beside))
        return found

    def options(self, scope: str, version: str | None = None, *, beside: Beside = None) -> Mapping[str, Option]:
        """The options of a scope in one release, inherited ones included, by canonical name."""
        read, index, other = self._scope(scope), self.at(version), self._inherited(scope)
        companion = self._companion(other[0], version, beside) if other else None
        if (index, companion) not in read.releases:
            own = {name: _option(name, record) for name, row in read.rows.items() if (record := _record(row, index))}
            inherited = other[0].options(other[1], companion) if other else {}
            read.releases[index, companion] = {**inherited, **own}
        return read.releases[index, companion]

    def history(self, scope: str, name: str) -> History | None:
        """When a name existed and what became of it; None for a name that no listed release has."""
        read = self._scope(scope)
        folded = _folded(name)
        named = sorted(set(read.aliases.get(folded, ())), key=lambda n: _folded(n) != folded)
        if named:
            return self._history(folded, {n: read.rows[n] for n in named})
        if other := self._inherited(scope):
            return other[0].history(other[1], name)
        return None

    def closest(self, scope: str, name: str, version: str | None = None, *, beside: Beside = None) -> str | None:
        """The option that a misspelt name most likely means, among those of that release, as it would be spelt."""
        wanted, known = _folded(name), {}
        for canonical, option in sorted(self.options(scope, version, beside=beside).items()):
            for spelling in (*option.spellings, canonical):
                known[_folded(spelling)] = _bare(spelling)
        near = difflib.get_close_matches(wanted, known, n=1, cutoff=ALIKE)
        return known[near[0]] if near else None

    def expands(self, scope: str, name: str, version: str | None = None) -> tuple[str, ...]:
        """The flags that begin with `name`: argparse takes an unambiguous beginning for the whole."""
        wanted = _folded(name)
        options = self.options(scope, version).values()
        spelt = {
            o.name: [_folded(s) for s in (o.name, *(s for s in o.spellings if s.startswith("--")))] for o in options
        }
        return tuple(sorted(n for n, known in spelt.items() if any(s.startswith(wanted) for s in known)))

    def inherits(self, scope: str) -> tuple[str, str] | None:
        """The tool and scope that a scope's options come from besides its own, None for most."""
        tool, _, inner = self._inherits.get(scope, "").partition(":")
        return (tool, inner) if tool else None

    def _scope(self, scope: str) -> _Scope:
        if scope not in self._read:
            if scope not in self._raw:
                raise LookupError(
                    f"{self.tool} has no scope {scope!r} in its option table; it has {_listed(self.scopes)}."
                )
            rows = self._raw[scope]
            aliases: dict[str, tuple[str, ...]] = {}
            for name, row in rows.items():
                for spelling in {_folded(s) for s in (name, *_all_spellings(row))}:
                    aliases[spelling] = (*aliases.get(spelling, ()), name)
            self._read[scope] = _Scope(rows, aliases)
        return self._read[scope]

    def _inherited(self, scope: str) -> tuple[Table, str] | None:
        reference = self.inherits(scope)
        return (table(reference[0]), reference[1]) if reference else None

    def _companion(self, other: Table, version: str | None, beside: Beside) -> str | None:
        """The release of another tool to read along with one of this tool's; None for the newest."""
        if other is self:
            return version
        if beside and other.tool in beside:
            return beside[other.tool]
        listed = self._with.get(other.tool)
        return listed[self.at(version)] if listed else None

    def _history(self, folded: str, rows: Mapping[str, Mapping[str, Any]]) -> History:
        """The releases in which one of `rows` (the option of that name first) goes by that name."""
        records = [{name: _record(row, index) for name, row in rows.items()} for index in range(len(self.versions))]
        having = [
            i for i, by_name in enumerate(records) if any(r and _goes_by(n, r, folded) for n, r in by_name.items())
        ]
        name, row = next(iter(rows.items()))
        last: Mapping[str, Any] = next((record for by_name in reversed(records) if (record := by_name[name])), {})
        return History(
            name=name,
            since=None if not having or having[0] == 0 else self.versions[having[0]],
            until=self.versions[having[-1] + 1] if having and having[-1] + 1 < len(self.versions) else None,
            renamed_to=next((r["to"] for by in reversed(records) if (r := by[name]) and "to" in r), None),
            note=row.get("gone") or last.get("dep"),
        )


@cache
def tools() -> tuple[str, ...]:
    """The tools that have an option table."""
    return tuple(
        sorted(
            p.name.removesuffix(".json") for p in files(__name__).joinpath("data").iterdir() if p.name.endswith(".json")
        )
    )


@cache
def table(tool: str) -> Table:
    """The option table of a tool. Raises LookupError, with a sentence, for a tool that has none."""
    path = files(__name__).joinpath("data", f"{tool}.json")
    if tool not in tools():
        raise LookupError(f"There is no option table for {tool!r}; there are tables for {_listed(tools())}.")
    raw = json.loads(path.read_text(encoding="utf-8"))
    return Table(
        tool=raw["tool"],
        versions=tuple(raw["versions"]),
        dates=tuple(raw["dates"]),
        source=raw["source"],
        scopes=tuple(raw["scopes"]),
        _inherits=raw.get("inherits", {}),
        _with=raw.get("with", {}),
        _raw=raw["scopes"],
    )


def _listed(names: tuple[str, ...]) -> str:
    shown = [name or '""' for name in names[:20]]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


@cache
def _number(version: str) -> tuple[float, ...] | None:
    """A release number to compare by: "4.57.6", "v0.8.5.post1" (above 0.8.5), "1.0rc2" (below 1.0); None: no number."""
    match = re.match(r"\s*[vV]?(\d+(?:\.\d+)*)(.*)", version)
    if not match:
        return None
    parts = [float(p) for p in match[1].split(".")][:5]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    tail = re.match(r"[.\-_]?(post|dev|rc|a|b)\D*(\d*)", match[2], re.IGNORECASE)
    rank = RANKS[tail[1].lower()] + float(tail[2] or 0) / 1000 if tail else 0.0
    return (*parts, *([0.0] * (6 - len(parts))), rank)


def _bare(name: str) -> str:
    return name.lstrip("-")


def _folded(name: str) -> str:
    return _bare(name).replace("-", "_")


def _goes_by(name: str, record: Mapping[str, Any], folded: str) -> bool:
    return _folded(name) == folded or any(_folded(s) == folded for s in record.get("a", ()))


def _all_spellings(row: Mapping[str, Any]) -> list[str]:
    return [*row.get("a", ()), *(s for change in row.get("x", {}).values() for s in change.get("a", ()) or ())]


def _record(row: Mapping[str, Any], index: int) -> dict[str, Any] | None:
    """A row as of one release; None where that release lacks it."""
    spans: list[int] = row.get("in", [0])
    if sum(1 for edge in spans if edge <= index) % 2 == 0:
        return None
    record = {key: value for key, value in row.items() if key not in {"in", "x", "gone"}}
    for at, change in row.get("x", {}).items():
        if int(at) <= index:
            record.update({key: value for key, value in change.items() if key not in {"-", "c+", "c-"}})
            if "c+" in change or "c-" in change:
                record["c"] = [c for c in record["c"] if c not in change.get("c-", ())] + change.get("c+", [])
            for key in change.get("-", ()):
                record.pop(key, None)
    return record or {"t": "any"}


def _option(name: str, record: Mapping[str, Any]) -> Option:
    return Option(
        name=name,
        spellings=tuple(record.get("a", ())),
        type=record.get("t", "any"),
        default=record.get("d", NO_DEFAULT),
        choices=tuple(record.get("c", ())),
        minimum=record.get("ge", record.get("gt")),
        maximum=record.get("le", record.get("lt")),
        minimum_exclusive="gt" in record,
        maximum_exclusive="lt" in record,
        nargs=record.get("n"),
        required=record.get("req", False),
        deprecated=record.get("dep"),
        renamed_to=record.get("to"),
    )
