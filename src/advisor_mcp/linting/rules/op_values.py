"""Values that an option does not take: choices, bounds, types that a quote or its absence changed."""

import difflib
import re
from typing import Any

from advisor_mcp.linting.edits import Fix, advise, quote, remove, rename, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.options import Option
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules._options import CHECKED, named, scope_of, treatment, typo
from advisor_mcp.linting.tree import Mapping, Scalar, Sequence
from advisor_mcp.linting.unit import Setting, Unit, as_number

# words that tools fill in themselves
FILLED_IN = {"auto", "none", "null", ""}
_NORWAY = {"no", "off", "yes", "on", "n", "y"}


def _types(option: Option) -> set[str]:
    return {
        part.strip() for part in re.split(r"[|]", option.type or "") if part.strip() and part.strip().lower() != "none"
    }


@rule("OP010", "unknown-choice", tools=CHECKED, harm="crash", causes=("unknown-choice", "invalid-choice", "comm-dtype"))
def unknown_choice(unit: Unit, job: Job) -> Found:
    """Allow unknown-choice.

    ## What it does
    Reports a value that is none of those an option takes in the version in use.

    ## Why is this bad?
    The tool stops: "invalid choice", or "is not a valid IntervalStrategy".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --dtype bf16
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --dtype bfloat16
    ```

    ## Versions
    The tool's version in use, or the newest in the option table.

    ## References
    - The option tables, made from the tools' published packages (`python -m advisor_mcp.linting.options.extract`)
    """
    for found in named(unit):
        option, setting = found.option, found.setting
        if unit.tool == "axolotl" and "." in setting.name:
            continue  # a union of models: the choices are those of one of them
        if (
            option is None
            or not option.choices
            or not isinstance(setting.value, str | int)
            or isinstance(setting.value, bool)
        ):
            continue
        choices = {str(choice) for choice in option.choices}
        value = str(setting.value)
        if (
            value in choices
            or value.lower() in {c.lower() for c in choices}
            or value.lower() in FILLED_IN
            or _open_ended(option, value)
        ):
            continue
        near = next(iter(difflib.get_close_matches(value.lower(), sorted(choices), 1, 0.5)), None)
        by_number = all(isinstance(choice, int) for choice in option.choices) and as_number(value) is None
        extended = treatment(unit, scope_of(setting)) == "extends" and unit.tool != "llamafactory"
        if by_number or (extended and not (near and typo(value, near))):
            continue  # an enumeration that is named by its members, or a script that knows more
        listed = ", ".join(sorted(choices)[:12]) + (", ..." if len(choices) > 12 else "")
        message = f"{setting.shown} is none of {listed}" + (f"; did you mean {near!r}?" if near else "")
        yield Problem(setting, message, set_value(setting, near) if near else None)


def _open_ended(option: Option, value: str) -> bool:
    """Whether the option takes other values beside its choices: several of them, numbers, a JSON object."""
    types = _types(option)
    if option.nargs in ("+", "*") or "list" in types:
        return all(part in {str(c) for c in option.choices} for part in re.split(r"[\s,]+", value)) or "," in value
    return bool(types & {"str", "dict"}) or (bool(types & {"int", "float"}) and as_number(value) is not None)


@rule("OP011", "out-of-bounds", tools=CHECKED, harm="crash", causes=("gpu-mem-util-range", "out-of-range"))
def out_of_bounds(unit: Unit, job: Job) -> Found:
    """Allow out-of-bounds.

    ## What it does
    Reports a number outside the limits that the tool's own declaration of the option gives.

    ## Why is this bad?
    The tool stops: "Input should be less than or equal to 1". A share written in percent is the usual case.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --kv-cache-metrics-sample 20
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --kv-cache-metrics-sample 0.2
    ```

    ## Versions
    The tool's version in use, or the newest in the option table.

    ## References
    - The option tables, made from the tools' published packages (`python -m advisor_mcp.linting.options.extract`)
    """
    for found in named(unit):
        option, setting = found.option, found.setting
        value = as_number(setting.value)
        if option is None or value is None or isinstance(setting.value, bool):
            continue
        said = _beyond(option, value)
        if said:
            yield Problem(setting, f"{setting.shown} must be {said}", _percent(option, setting, value))


def _beyond(option: Option, value: float) -> str:
    low, high = option.minimum, option.maximum
    if low is not None and (value < low or (option.minimum_exclusive and value == low)):
        return f"{'above' if option.minimum_exclusive else 'at least'} {low:g}"
    if high is not None and (value > high or (option.maximum_exclusive and value == high)):
        return f"{'below' if option.maximum_exclusive else 'at most'} {high:g}"
    return ""


def _percent(option: Option, setting: Setting, value: float) -> Fix | None:
    return (
        set_value(setting, value / 100, why="a share, not percent")
        if option.maximum == 1 and 1 < value <= 100
        else None
    )


@rule(
    "OP012",
    "number-in-quotes",
    tools=("deepspeed", "hf_trainer", "trl", "accelerate"),
    harm="crash",
    causes=("string-number", "string-bool"),
)
def number_in_quotes(unit: Unit, job: Job) -> Found:
    """Allow number-in-quotes.

    ## What it does
    Reports a number or a truth value that is written as text where the option takes no text.

    ## Why is this bad?
    A JSON text "false" is not empty and therefore true, and "8" is not 8: DeepSpeed turns both precisions on, transformers
    refuses to match "8" with 8.

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "bf16": {"enabled": "true"}, "zero_optimization": {"stage": 2}}
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "bf16": {"enabled": true}, "zero_optimization": {"stage": 2}}
    ```

    ## Versions
    All. The word "auto" and texts that the tool converts itself (rates such as "2e-5" for transformers) are not reported.

    ## References
    - hiyouga/LlamaFactory#3493
    - hiyouga/LlamaFactory#1116
    """
    for found in named(unit):
        option, setting = found.option, found.setting
        if (
            option is None
            or setting.syntax == "shell"
            or not isinstance(setting.node, Scalar)
            or not setting.node.quoted
        ):
            continue
        if not isinstance(setting.value, str) or setting.value.lower() in FILLED_IN:
            continue
        meant = _meant(option, setting.value, unit.tool)
        if meant is not None:
            yield Problem(
                setting,
                f"{setting.shown} is text; the option takes {option.type}",
                set_value(setting, meant, safe=True),
            )


def _meant(option: Option, text: str, tool: str) -> Any:
    types = _types(option)
    boolean = types == {"bool"} or (not types and isinstance(option.default, bool))
    whole = (types <= {"int", "float"} and bool(types)) or (not types and type(option.default) in (int, float))
    if boolean and text.lower() in ("true", "false"):
        # accelerate's own reader takes these words, and writes them itself
        return None if tool == "accelerate" else text.lower() == "true"
    if whole and tool != "accelerate" and (number := as_number(text)) is not None:
        return None if types == {"float"} and tool in ("hf_trainer", "trl") else number
    return None


@rule(
    "OP013",
    "unquoted-no",
    tools=("hf_trainer", "trl", "llamafactory", "axolotl", "accelerate"),
    harm="crash",
    causes=("unquoted-no", "yaml-bool", "norway"),
)
def unquoted_no(unit: Unit, job: Job) -> Found:
    """Allow unquoted-no.

    ## What it does
    Reports `no`, `off`, `yes` or `on` without quotes in YAML where the option takes a word.

    ## Why is this bad?
    YAML 1.1 reads them as false and true: "False is not a valid IntervalStrategy".

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    eval_strategy: no
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    eval_strategy: "no"
    ```

    ## Versions
    All whose reader follows YAML 1.1 (PyYAML). accelerate reads its own `downcast_bf16: no` correctly.

    ## References
    - YAML 1.1, https://yaml.org/type/bool.html
    - PyYAML, resolver.py
    """
    for found in named(unit):
        option, setting, node = found.option, found.setting, found.setting.node
        if (
            option is None
            or setting.syntax != "yaml"
            or not isinstance(node, Scalar)
            or node.quoted
            or not isinstance(node.value, bool)
        ):
            continue
        choices = {str(choice).lower() for choice in option.choices}
        if node.text.lower() in _NORWAY and (node.text.lower() in choices or _interval(setting)):
            yield Problem(
                setting,
                f"{setting.shown} without quotes is {str(node.value).lower()} in YAML, and the option takes the word",
                quote(setting),
            )


def _interval(setting: Setting) -> bool:
    return setting.name in ("eval_strategy", "evaluation_strategy", "save_strategy", "logging_strategy")


UNIQUE = ("deepspeed", "torchtune", "llamafactory")  # whose readers refuse a repeated key


@rule("OP014", "repeated-key", tools=("*",), harm="ignored", severity="warning", causes=("duplicate-key",))
def repeated_key(unit: Unit, job: Job) -> Found:
    """Allow repeated-key.

    ## What it does
    Reports a key that stands twice in the same mapping with different values.

    ## Why is this bad?
    Readers keep the last one without a word; whoever edits the first one changes nothing.

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    learning_rate: 1.0e-5
    learning_rate: 2.0e-5
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    learning_rate: 2.0e-5
    ```

    ## Versions
    All. DeepSpeed and OmegaConf (torchtune, LLaMA-Factory) refuse the file, which is then an error.

    ## References
    - YAML 1.2.2, section 3.2.1.3: keys of a mapping are unique
    - deepspeed 0.19.8, deepspeed/runtime/config_utils.py, dict_raise_error_on_duplicate_keys
    """
    if unit.tree is None or unit.tool == "env":
        return
    stack: list[object] = [unit.tree]
    while stack:
        node = stack.pop()
        if isinstance(node, Sequence):
            stack += node.items
        elif isinstance(node, Mapping):
            seen: dict[str, Any] = {}
            for entry in node.entries:
                stack.append(entry.value)
                other = seen.get(entry.name)
                if other is not None and other.key.start != entry.key.start and other.value is not entry.value:
                    first = Setting(
                        entry.name,
                        None,
                        other.key.span,
                        other.value.span,
                        entry.name,
                        _syntax(unit),
                        other.value,
                        node,
                        other,
                    )
                    yield Problem(
                        first,
                        f"{entry.name!r} stands here and again in line {entry.key.span.line}; "
                        + ("the tool refuses the file" if unit.tool in UNIQUE else "only the last one counts"),
                        remove(first, safe=False),
                        (entry.key.span,),
                        "error" if unit.tool in UNIQUE else None,
                    )
                seen[entry.name] = entry


def _syntax(unit: Unit) -> Any:
    return next((setting.syntax for setting in unit.settings.values()), "yaml")


@rule(
    "OP015",
    "deprecated-option",
    tools=CHECKED,
    harm="deprecated",
    severity="info",
    causes=("deprecated-option", "renamed-option"),
)
def deprecated_option(unit: Unit, job: Job) -> Found:
    """Allow deprecated-option.

    ## What it does
    Reports an option that the version in use still takes and says it will drop.

    ## Why is this bad?
    The next update of the tool stops the job.

    ## Example
    ```yaml train.yaml transformers=4.46.3
    output_dir: out
    evaluation_strategy: epoch
    per_device_train_batch_size: 4
    ```

    ## Use instead
    ```yaml train.yaml transformers=4.46.3
    output_dir: out
    eval_strategy: epoch
    per_device_train_batch_size: 4
    ```

    ## Versions
    As the tool's own source marks it.

    ## References
    - The option tables, made from the tools' published packages (`python -m advisor_mcp.linting.options.extract`)
    """
    for found in named(unit):
        option, setting = found.option, found.setting
        if option is None or not option.deprecated:
            continue
        to = option.renamed_to
        fix = (
            rename(setting, to)
            if to and to not in unit and "." not in to and " " not in to
            else advise(f"use {to}")
            if to
            else remove(setting)
        )
        yield Problem(
            setting,
            f"{setting.written!r} is deprecated" + (f" in favour of {to!r}" if to else f": {option.deprecated[:160]}"),
            fix,
            severity=_dead(option, assumed=found.assumed),
        )


def _dead(option: Option, *, assumed: bool) -> Severity | None:
    """How bad an option is that the tool still knows by name, only to stop with an error."""
    if not option.deprecated or "stops with an error" not in option.deprecated:
        return None
    return "warning" if assumed else "error"
