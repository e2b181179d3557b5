"""Megatron's options under one name, wherever Megatron-LM, Megatron-Bridge and NeMo write them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps

from advisor_mcp.linting.concepts import MEGATRON
from advisor_mcp.linting.edits import Fix, add_after, advise, both, remove
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Check, Found, Harm, Problem, Severity, rule
from advisor_mcp.linting.unit import LARGEST_SIZE, Setting, Unit, as_number, as_truth, as_whole

_SECTIONS = {
    "megatron-bridge": (
        "model.", "train.", "optimizer.", "ddp.", "checkpoint.", "scheduler.", "dist.", "mixed_precision.", "dataset.",
        "comm_overlap.", "validation.", "",
    ),
    "nemo": ("model.", "trainer.", "model.optim.", "model.data.", "model.optim.sched.", ""),
}  # fmt: skip
_OTHER_NAMES = {
    "num_experts": "num_moe_experts",
    "decoder_first_pipeline_num_layers": "num_layers_in_first_pipeline_stage",
    "decoder_last_pipeline_num_layers": "num_layers_in_last_pipeline_stage",
    "num_virtual_stages_per_pipeline_rank": "virtual_pipeline_model_parallel_size",
    "fp8_format": "fp8",
    "recompute_granularity": "activations_checkpoint_granularity",
    "recompute_method": "activations_checkpoint_method",
    "recompute_num_layers": "activations_checkpoint_num_layers",
    "seq_length": "encoder_seq_length",
}
LM = ("megatron-lm",)
# Options that only forks take: their own checks differ from upstream's.
_FORKS = ("deepspeed", "deepspeed_config", "zero_stage", "DDP_impl", "ds_config", "deepspeed_activation_checkpointing")


def find(unit: Unit, *names: str) -> Setting | None:
    """The first of these options that is set to something, by Megatron-LM's names."""
    for name in names:
        for written in _written(unit, name):
            found = unit.settings.get(written)
            if found is not None and found.value is not None:
                return found
    return None


def _written(unit: Unit, name: str) -> list[str]:
    names = [name, *([_OTHER_NAMES[name]] if name in _OTHER_NAMES else [])]
    return [section + one for one in names for section in _SECTIONS.get(unit.tool, ("",))]


def number(unit: Unit, name: str, default: float | None = None) -> int | float | None:
    """The number an option holds; `default` where it is not set, None where it is not known."""
    found = find(unit, name)
    return default if found is None else as_number(found.value)


def whole(unit: Unit, name: str, default: int | None = None) -> int | None:
    """A number that must be whole."""
    return as_whole(number(unit, name, default))


def size(unit: Unit, name: str) -> int | None:
    """A parallel size: 1 where nothing can have set it, None where a recipe or an unseen argument may have, or it is absurd."""
    found = whole(unit, name, 1 if complete(unit) else None)
    return found if found is not None and 1 <= found <= LARGEST_SIZE else None


def on(unit: Unit, *names: str) -> bool:
    """Whether any of these switches is known to be on."""
    return any(
        as_truth(found.value) is True
        for found in (find(unit, name) for name in names)
        if found is not None and found.known
    )


def switch(unit: Unit, *names: str) -> Setting | None:
    """The first of these switches that is on."""
    return next((find(unit, name) for name in names if on(unit, name)), None)


def off(unit: Unit, name: str) -> bool:
    """Whether a switch that may come from elsewhere is known to be off."""
    found = find(unit, name)
    return complete(unit) if found is None else found.known and as_truth(found.value) is False


def text(unit: Unit, name: str, default: str | None = None) -> str | None:
    """The word an option holds; `default` where it is not set, None where it is not known."""
    found = find(unit, name)
    if found is None:
        return default
    return str(found.value) if found.known and not isinstance(found.value, dict | list) else None


def missing(unit: Unit, *names: str) -> bool:
    """Whether none of these options can have been set."""
    return complete(unit) and not any(find(unit, name) for name in names)


def complete(unit: Unit) -> bool:
    """Whether the unit shows every option: no recipe below it, no arguments that cannot be seen."""
    return not unit.open and unit.tool != "megatron-bridge" and "yaml_cfg" not in unit and "config_file" not in unit


def said(setting: Setting) -> str:
    """An option and its value as a message names them."""
    return setting.shown if setting.value is not True else setting.written


def add(beside: Setting, name: str, value: object = None) -> Fix:
    """Add an option beside another one of the same section."""
    flag = "--" + name.replace("_", "-")
    if beside.syntax == "shell":
        return add_after(beside, flag, value)
    return add_after(beside, flag if beside.written.startswith("-") else name, True if value is None else value)


def needs(unit: Unit, wanting: str, wanted: str, why: str, value: object = None) -> Found:
    """`wanting` is on, `wanted` is not: the finding stands on the former."""
    here = switch(unit, wanting)
    if here is not None and off(unit, wanted):
        fix = add(here, wanted, value) if find(unit, wanted) is None else advise(f"turn on {flag(unit, wanted)}")
        yield Problem(here, f"{said(here)} needs {flag(unit, wanted)}: {why}", fix)


def excludes(unit: Unit, kept: str, dropped: str, why: str) -> Found:
    """Two switches that must not both be on; the second is the one to drop."""
    first, second = switch(unit, kept), switch(unit, dropped)
    if first is not None and second is not None:
        yield Problem(second, f"{said(second)} cannot be used with {said(first)}: {why}", remove(second), (first,))


def flag(unit: Unit, name: str) -> str:
    """How the tool's users write an option."""
    return "--" + name.replace("_", "-") if unit.tool == "megatron-lm" else name


def moved(setting: Setting, *more: Setting) -> Fix:
    """Remove several options."""
    return both(*(remove(one) for one in (setting, *more)))


def environment_is_known(unit: Unit) -> bool:
    """Whether the file that starts it shows the environment: no other script is read first, no file of variables."""
    body = unit.source.root.text
    sourced = re.search(r"^\s*(source|\.)\s+\S|--env-file|--container-env|bash -l|\bmodule load\b", body, re.MULTILINE)
    return not sourced and unit.container is None


def megatron_rule(
    id: str,
    name: str,
    *,
    harm: Harm,
    severity: Severity = "error",
    causes: tuple[str, ...],
    tools: tuple[str, ...] = MEGATRON,
) -> Callable[[Check], Check]:
    """A rule on upstream Megatron's options; scripts of forks that take options of their own are left out."""

    def register(check: Check) -> Check:
        @wraps(check)
        def guarded(unit: Unit, job: Job) -> Found:
            if not any(mark in unit for mark in _FORKS):
                yield from check(unit, job)

        return rule(id, name, tools=tools, harm=harm, severity=severity, causes=causes)(guarded)

    return register
