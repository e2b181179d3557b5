"""Names of options that a tool's version does not know: mistyped, renamed, removed, not there yet."""

from functools import lru_cache

from advisor_mcp.linting.edits import advise, remove, rename
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules._options import (
    CHECKED,
    COMMAND_LINES,
    WHOLE_FLAGS,
    Named,
    named,
    scope_of,
    treatment,
    typo,
)
from advisor_mcp.linting.unit import Unit


@lru_cache(maxsize=8)  # four rules ask for the same unit in turn
def _missing(unit: Unit) -> tuple[Named, ...]:
    """Settings whose names the version in use does not have."""
    return tuple(f for f in named(unit) if f.option is None and not f.beyond and not _abbreviation(unit, f))


def _abbreviation(unit: Unit, found: Named) -> bool:
    if unit.tool not in (*COMMAND_LINES, "megatron-lm") or found.setting.syntax != "shell":
        return False
    written = found.setting.written
    if not written.startswith("--") or unit.tool in WHOLE_FLAGS:
        return False
    return any(len(t.expands(scope, written, version)) == 1 for t, scope, version in found.tables)


def _severity(unit: Unit, found: Named, *, close: bool) -> Severity:
    """error where the tool stops, warning where it goes on without the option, info where a script may have added it."""
    treated = treatment(unit, scope_of(found.setting))
    if treated == "refuses":
        return "error" if close or not found.assumed else "warning"  # another version may know it
    if treated == "ignores":
        return "warning" if close else "info"
    return "error" if close else "info"


@rule(
    "OP001", "unknown-option", tools=CHECKED, harm="ignored", causes=("unknown-option", "typo-option", "ds-unknown-key")
)
def unknown_option(unit: Unit, job: Job) -> Found:
    """Allow unknown-option.

    ## What it does
    Reports a name that no listed version of the tool has, with the nearest that it does have. The severity is what the tool
    makes of it: error where it stops, warning where it goes on without the setting, info where a script may have added it.

    ## Why is this bad?
    DeepSpeed ignores an unknown key at the top level: `zero_optimisation` leaves ZeRO at stage 0 and the job runs out of
    memory. Command lines stop with "unrecognized arguments".

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "bf16": {"enabled": true}, "zero_optimisation": {"stage": 3}}
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "bf16": {"enabled": true}, "zero_optimization": {"stage": 3}}
    ```

    ## Versions
    The tool's version in use, or the newest in the option table.

    ## References
    - The option tables, made from the tools' published packages (`python -m advisor_mcp.linting.options.extract`)
    - deepspeedai/DeepSpeed#774
    - vllm-project/vllm#46325
    """
    for found in _missing(unit):
        if found.history is not None:
            continue
        setting, closest = found.setting, found.closest
        treated = treatment(unit, scope_of(setting))
        if treated == "extends" and not (closest and typo(setting.written, closest)):
            continue
        if treated == "ignores" and "." in setting.name and closest is None:
            continue  # a dictionary that the tool hands on
        what = {
            "refuses": "and refuses it",
            "ignores": "and ignores it",
            "extends": "and no script is likely to add it",
        }[treated]
        near = f"; did you mean {closest!r}?" if closest else ""
        severity = _severity(unit, found, close=closest is not None)
        yield Problem(
            setting, f"{found.version} knows no option {setting.written!r} {what}{near}",
            rename(setting, closest) if closest else None, severity=severity,
        )  # fmt: skip


def _harm(unit: Unit, found: Named) -> Severity:
    """How bad a name of another version is: what the tool does with it, less where the version was only assumed."""
    extended = unit.tool in ("torchtitan", "megatron-lm")  # whose jobs often bring options of their own
    mild = found.assumed or extended or treatment(unit, scope_of(found.setting)) == "ignores"
    return "warning" if mild else "error"


@rule(
    "OP002",
    "renamed-option",
    tools=CHECKED,
    harm="crash",
    causes=("renamed-option", "best-model-strategy", "silent-truncation-1024"),
)
def renamed_option(unit: Unit, job: Job) -> Found:
    """Allow renamed-option.

    ## What it does
    Reports an option by a name that the tool's version in use no longer takes, and names the one that replaced it.

    ## Why is this bad?
    The tool stops ("unexpected keyword argument 'evaluation_strategy'") or drops the setting without a word.

    ## Example
    ```yaml train.yaml transformers=4.57.6
    output_dir: out
    evaluation_strategy: epoch
    per_device_train_batch_size: 4
    ```

    ## Use instead
    ```yaml train.yaml transformers=4.57.6
    output_dir: out
    eval_strategy: epoch
    per_device_train_batch_size: 4
    ```

    ## Versions
    As the tool's own source states the renaming.

    ## References
    - The option tables, made from the tools' published packages (`python -m advisor_mcp.linting.options.extract`)
    - huggingface/transformers#30190
    """
    for found in _missing(unit):
        history = found.history
        if history is None or _absent_yet(found) or not history[1].renamed_to:
            continue
        _, past = history
        said = f"{found.setting.written!r} is called {past.renamed_to!r}" + (
            f" since {past.until}" if past.until else ""
        )
        fix = (
            rename(found.setting, past.renamed_to)
            if past.renamed_to and "." not in past.renamed_to and " " not in past.renamed_to
            else advise(f"use {past.renamed_to}")
        )
        if past.renamed_to and past.renamed_to in unit:
            fix = remove(found.setting, why=f"{past.renamed_to} is set already")
        yield Problem(
            found.setting, f"{said}; {found.version} no longer takes the old name", fix, severity=_harm(unit, found)
        )


def _absent_yet(found: Named) -> bool:
    """Whether the name is of a later version than the one in use."""
    history = found.history
    if history is None:
        return False
    known, past = history
    version = next((v for t, _, v in found.tables if t is known), None)
    return past.since is not None and known.at(version) < known.at(past.since)


@rule("OP003", "removed-option", tools=CHECKED, harm="crash", causes=("removed-option", "removed-v5", "env-removed"))
def removed_option(unit: Unit, job: Job) -> Found:
    """Allow removed-option.

    ## What it does
    Reports an option that earlier versions of the tool had and the version in use has not.

    ## Why is this bad?
    A command line stops with "unrecognized arguments", a configuration with an unexpected keyword, or the setting is
    dropped without a word.

    ## Example
    ```yaml train.yaml transformers=5.23.0
    output_dir: out
    overwrite_output_dir: true
    per_device_train_batch_size: 4
    ```

    ## Use instead
    ```yaml train.yaml transformers=5.23.0
    output_dir: out
    per_device_train_batch_size: 4
    ```

    ## Versions
    From the first listed version that lacks it.

    ## References
    - The option tables, made from the tools' published packages (`python -m advisor_mcp.linting.options.extract`)
    - vllm-project/vllm#18538
    """
    for found in _missing(unit):
        history = found.history
        if history is None or _absent_yet(found) or history[1].renamed_to:
            continue
        _, past = history
        note = f" ({past.note})" if past.note else ""
        when = f" with {past.until}" if past.until else ""
        closest = found.closest
        near = f"; the nearest that is left is {closest!r}" if closest else ""
        yield Problem(
            found.setting, f"{found.setting.written!r} was removed{when}; {found.version} does not take it{note}{near}",
            remove(found.setting), severity=_harm(unit, found),
        )  # fmt: skip


@rule("OP004", "option-of-a-later-version", tools=CHECKED, harm="crash", causes=("option-too-new",))
def option_of_a_later_version(unit: Unit, job: Job) -> Found:
    """Allow option-of-a-later-version.

    ## What it does
    Reports an option that exists only in versions later than the one in use (of a pinned image, a lock file or `--target`).

    ## Why is this bad?
    The older version stops with "unrecognized arguments" or ignores the setting.

    ## Example
    ```bash serve.sh vllm=0.8.5
    vllm serve Qwen/Qwen3-8B --async-scheduling
    ```

    ## Use instead
    ```bash serve.sh vllm=0.12.0
    vllm serve Qwen/Qwen3-8B --async-scheduling
    ```

    ## Versions
    Before the first listed version that has it.

    ## References
    - The option tables, made from the tools' published packages (`python -m advisor_mcp.linting.options.extract`)
    - vllm-project/vllm#27347
    """
    for found in _missing(unit):
        history = found.history
        if history is None or not _absent_yet(found):
            continue
        _, past = history
        message = f"{found.setting.written!r} exists from {past.since} on, and this is held against {found.version}"
        yield Problem(
            found.setting, message, advise(f"use {past.since} or later, or leave it out"), severity=_harm(unit, found)
        )


@rule("OP005", "single-dash-option", tools=(*COMMAND_LINES, "megatron-lm"), harm="crash", causes=("typo-option",))
def single_dash_option(unit: Unit, job: Job) -> Found:
    """Allow single-dash-option.

    ## What it does
    Reports a long option that is written with one dash.

    ## Why is this bad?
    The parser takes it for a bundle of one-letter options, or refuses it: "unrecognized arguments".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B -max-model-len 32768
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --max-model-len 32768
    ```

    ## Versions
    All; not for tools whose long options have one dash.

    ## References
    - vllm-project/vllm#46325
    """
    for setting in unit.settings.values():
        written = setting.written
        if setting.syntax != "shell" or not written.startswith("-") or written.startswith("--") or len(written) < 4:
            continue
        option = unit.option(setting.name)
        if option is None or written in option.spellings:
            continue
        if any(spelling.startswith("--") for spelling in option.spellings) or not option.spellings:
            yield Problem(
                setting, f"{written!r} has one dash, and the option is '-{written}'", rename(setting, f"-{written}")
            )


@rule("OP006", "ambiguous-option", tools=("vllm", "sglang", "megatron-lm"), harm="crash", causes=("ambiguous-option",))
def ambiguous_option(unit: Unit, job: Job) -> Found:
    """Allow ambiguous-option.

    ## What it does
    Reports a shortened flag that may stand for several options of the version in use.

    ## Why is this bad?
    argparse accepts a shortened flag only while one option begins with it. A later version adds a second one, and the same
    command line stops: "ambiguous option".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --max-num 64
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --max-num-seqs 64
    ```

    ## Versions
    The tool's version in use, or the newest in the option table.

    ## References
    - Python documentation, argparse, "Argument abbreviations (prefix matching)"
    """
    known = unit.table
    if known is None or unit.scope not in known.scopes:
        return
    for setting in unit.settings.values():
        if setting.syntax != "shell" or "." in setting.name or not setting.written.startswith("--"):
            continue
        if known.option(unit.scope, setting.written, unit.target) is not None:
            continue
        matches = known.expands(unit.scope, setting.written, unit.target)
        if len(matches) > 1 and known.history(unit.scope, setting.written) is None:
            shown = ", ".join("--" + match.lstrip("-").replace("_", "-") for match in matches[:4])
            yield Problem(
                setting,
                f"{setting.written!r} may stand for {shown}{' and more' if len(matches) > 4 else ''}",
                advise("write the option in full"),
            )
