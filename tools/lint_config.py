"""lint_config: what will crash, waste or silently spoil a run, found in its configuration files before it starts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from advisor_mcp import access, arguments
from advisor_mcp.declaration import Example, Progress, Tool
from advisor_mcp.errors import UsageError
from advisor_mcp.linting import formats
from advisor_mcp.linting.engine import Finding, Options, Report, lint_named, lint_text
from advisor_mcp.linting.job import Given, checked, targets
from advisor_mcp.results import Answer, Row


class FindingRow(Row):
    rule: str
    name: str
    severity: str = Field(description="error: it will fail; warning: harm; info: probably unintended")
    file: str
    line: int
    column: int
    message: str
    harm: str
    fix: str | None = None
    diff: str | None = Field(default=None, description="The fix as a change of the file, detail=full")
    causes: list[str] = Field(default_factory=list, description="Names of the causes of failure it covers, detail=full")
    evidence: list[str] = Field(default_factory=list, description="Threads and sources; the page of a rule has all")


class NotCheckedRow(Row):
    file: str
    needs: str
    rules: list[str] = Field(default_factory=list)


class LintAnswer(Answer):
    findings: list[FindingRow]
    not_checked: list[NotCheckedRow] = Field(
        default_factory=list, description="What the answer could not look at, and why"
    )
    files: list[str]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def lint_config(
    config: Annotated[
        list[str] | None,
        BeforeValidator(_as_list),
        Field(description="Paths of files or folders, or a configuration's own text"),
    ] = None,
    files: Annotated[dict[str, str] | None, Field(description="Texts by file name, taken as one job")] = None,
    model: arguments.Model | None = None,
    gpu: arguments.Gpu | None = None,
    world_size: Annotated[arguments.Count | None, Field(description="Processes of the job, one a GPU")] = None,
    gpus_per_node: Annotated[arguments.Count | None, Field(description="GPUs of one node")] = None,
    interconnect: Annotated[str | None, Field(description="What joins the nodes, e.g. infiniband, 100gbe")] = None,
    target: Annotated[
        list[str] | None, BeforeValidator(_as_list), Field(description="TOOL=VERSION, e.g. vllm=0.12")
    ] = None,
    detail: arguments.Detail = "brief",
    progress: Progress | None = None,
) -> LintAnswer:
    """Find what will fail, waste or spoil a run in its configuration files. Reads DeepSpeed, Hugging Face, TRL, Axolotl,
    LLaMA-Factory, accelerate, torchtune, torchtitan, Megatron, vLLM, SGLang, TensorRT-LLM, llama.cpp, Slurm, torchrun,
    Kubernetes, compose, environment variables. Findings name place, harm, fix, evidence. Nothing is executed.
    """
    given = Given(model, gpu, gpus_per_node, world_size, interconnect, targets(target or []))
    options = Options(checked(given))
    report = _report(config or [], files or {}, options, progress)
    return LintAnswer(
        summary=formats.summary(report),
        findings=[_row(finding, detail == "full") for finding in report.findings],
        not_checked=[NotCheckedRow(file=n.file, needs=n.needs, rules=list(n.rules)) for n in report.not_checked],
        files=report.files,
        assumptions=report.assumed,
    )


def _report(config: list[str], files: Mapping[str, str], options: Options, progress: Progress | None) -> Report:
    if bool(config) == bool(files):
        raise UsageError("give either config (paths or a text) or files (texts by name)")
    if files:
        return lint_text(files, options)
    if any(_is_text(text) for text in config):
        names = ["<config>"] if len(config) == 1 else [f"<config {place + 1}>" for place in range(len(config))]
        return lint_text(dict(zip(names, config, strict=True)), options)
    instead = "; a configuration's text may be given instead"
    return lint_named(config, options, instead=instead, progress=progress.report if progress else None)


def _is_text(given: str) -> bool:
    """Whether it is a configuration rather than the path of one: several lines, an object, or a command with options."""
    text = given.strip()
    return "\n" in text or text.startswith("{") or (" -" in text and not access.paths_allowed()) or " --" in text


def _threads_first(references: Sequence[str]) -> list[str]:
    """Threads of users before sources and documents."""
    return sorted(references, key=lambda reference: not re.match(r"[\w.-]+/[\w.-]+#\d", reference))


def _row(finding: Finding, full: bool) -> FindingRow:
    place = finding.place
    return FindingRow(
        rule=finding.rule,
        name=finding.name,
        severity=finding.severity,
        file=place.file,
        line=place.line,
        column=place.column,
        message=finding.message,
        harm=finding.harm,
        fix=finding.fix.description if finding.fix else None,
        diff=formats.diff_of(finding) if full else None,
        causes=list(finding.causes) if full else [],
        evidence=list(finding.references if full else _threads_first(finding.references)[:2]),
    )


TOOL = Tool(
    function=lint_config,
    title="Configuration linter",
    toolset="config",
    cli_name="lint",
    positional=("config",),
    examples=(
        Example(
            question="Will this DeepSpeed configuration start on 8 GPUs?",
            arguments={
                "files": {
                    "ds_config.json": '{"train_batch_size": 256, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 4}'
                },
                "world_size": 8,
            },
            answer={"findings.0.rule": "DS001", "findings.0.line": 1},
        ),
    ),
)
