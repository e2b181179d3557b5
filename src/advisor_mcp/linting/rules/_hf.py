"""What the rules on transformers' Trainer, DeepSpeed, accelerate, PEFT and TRL share."""

from __future__ import annotations

from collections.abc import Iterable

from advisor_mcp.linting import versions
from advisor_mcp.linting.concepts import HF_FAMILY, TRAINERS
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rules import _ft
from advisor_mcp.linting.rules._ft import used
from advisor_mcp.linting.unit import Setting, Unit, as_number


def transformers(unit: Unit) -> versions.Version | None:
    """The version of transformers that was named for a unit, or None."""
    return unit.package("transformers") or (unit.version if unit.tool == "hf_trainer" else None)


def transformers_since(unit: Unit, version: str) -> bool:
    """Whether transformers is this version or later; the newest is meant where none is named."""
    named = transformers(unit)
    return named is None or named >= (versions.parse(version) or ())


def named_before(unit: Unit, package: str, version: str) -> bool:
    """Whether a version older than this one was named for a package."""
    named = transformers(unit) if package == "transformers" else unit.package(package)
    return named is not None and named < (versions.parse(version) or ())


def named_since(unit: Unit, package: str, version: str) -> bool:
    """Whether this version or a later one was named for a package."""
    named = transformers(unit) if package == "transformers" else unit.package(package)
    return named is not None and named >= (versions.parse(version) or ())


def lower(unit: Unit, name: str, default: str | None = None) -> str | None:
    """A text setting in small letters."""
    text = unit.text(name, default)
    return None if text is None else text.lower()


def trainer_of(unit: Unit, job: Job) -> Unit | None:
    """The one unit of the job that holds TrainingArguments."""
    if unit.tool in HF_FAMILY:
        return unit
    if unit.launcher is not None and unit.launcher.tool in HF_FAMILY:
        return unit.launcher
    return job.other(*HF_FAMILY)


def accelerated(unit: Unit, job: Job, *tools: str) -> list[Unit]:
    """accelerate's files and launch lines that a unit runs under: its own launch where it has one, none beside torchrun."""
    own = unit.launcher
    if own is not None and own.tool in ("torchrun", "deepspeed_launcher"):
        return []
    found = job.others(*(tools or ("accelerate", "accelerate_launch")))
    if own is None or own.tool != "accelerate_launch":
        return found
    named = (own.text("config_file") or "").rsplit("/", 1)[-1]
    beside = [other for other in found if other.tool == "accelerate"]
    matching = [other for other in beside if other.source.root.name.endswith(named)] if named else []
    return [*([own] if own in found else []), *(matching or beside)]


def integrated(unit: Unit, job: Job) -> bool:
    """Whether a DeepSpeed file is read by transformers or accelerate, which fill in what is ``auto``."""
    if (unit.launcher is not None and unit.launcher.tool in TRAINERS) or job.others(
        *TRAINERS, "accelerate", "accelerate_launch"
    ):
        return True
    return any(setting.value == "auto" for setting in unit.settings.values())


def deepspeed_of(unit: Unit, job: Job) -> Unit | None:
    """The DeepSpeed configuration that a trainer's unit is run with, where exactly one is at hand."""
    own = [other for other in job.others("deepspeed") if other.launcher is unit]
    if own:
        return own[0]
    return job.other("deepspeed") if used(unit, "deepspeed") or accelerated(unit, job) else None


def zero_stage(unit: Unit, job: Job) -> int | None:
    """The ZeRO stage that a unit runs under: 0 without DeepSpeed, None where it is not known."""
    if unit.tool == "deepspeed":
        return unit.whole("zero_optimization.stage", 0)
    if unit.tool == "accelerate":
        return accelerate_stage(unit)
    stage = _ft.zero_stage(unit, job)
    launched = [
        accelerate_stage(other) if other.tool == "accelerate" else other.whole("zero_stage", 0)
        for other in accelerated(unit, job)
    ]
    return stage or next((found for found in launched if found), stage)


def accelerate_stage(unit: Unit) -> int | None:
    """The ZeRO stage of an accelerate configuration: 2 where DeepSpeed is on and nothing else is said."""
    if unit.text("distributed_type") != "DEEPSPEED":
        return 0
    if used(unit, "deepspeed_config.deepspeed_config_file"):
        return None
    return unit.whole("deepspeed_config.zero_stage", 2)


def fsdp_of(unit: Unit, job: Job) -> Setting | None:
    """The setting that turns FSDP on for a trainer's unit: its own, or that of accelerate."""
    found = used(unit, "fsdp")
    if found is not None:
        return found
    for other in accelerated(unit, job):
        if other.text("distributed_type") == "FSDP":
            return other["distributed_type"]
        if other.tool == "accelerate_launch" and (switch := other.on("use_fsdp")) is not None:
            return switch
    return None


def fsdp_version(unit: Unit, job: Job) -> int | None:
    """The version of FSDP that a unit runs under; accelerate's default is 1, transformers 5 takes 2."""
    for other in (unit, *accelerated(unit, job, "accelerate")):
        for name in ("fsdp_config.fsdp_version", "fsdp_config.version"):
            if name in other:
                return other.whole(name)
    own = unit.tool in HF_FAMILY and used(unit, "fsdp") is not None
    return 2 if own and transformers_since(unit, "5.0") else 1


def launched_fsdp(unit: Unit) -> int | None:
    """The version of FSDP that an accelerate file or launch line turns on; 0 where it does not."""
    if unit.tool == "accelerate_launch":
        return unit.whole("fsdp_version", 1) if unit.truth("use_fsdp", False) else 0
    if unit.text("distributed_type") != "FSDP":
        return 0
    setting = unit.setting("fsdp_config.fsdp_version", "fsdp_config.version")
    return 1 if setting is None else unit.whole(setting.name)


def adapter(unit: Unit) -> bool | None:
    """Whether LoRA or another adapter is trained; None where nobody can see it."""
    if unit.tool == "llamafactory":
        kind = lower(unit, "finetuning_type", "lora")
        return None if kind is None else kind in ("lora", "oft")
    if used(unit, "use_peft", "use_lora", "peft_config", "lora", "peft"):
        return True
    if unit.tool == "trl":
        return None if unit.open else unit.truth("use_peft", False)
    return (
        True
        if any(name.startswith(("lora_", "peft_", "qlora")) for name in unit.settings)
        else None
        if unit.open
        else False
    )


def load_dtype(unit: Unit) -> str | None:
    """The number format the weights are loaded in, by torch's name; empty where nothing is said, None where not known."""
    for name in ("dtype", "torch_dtype", "model_init_kwargs.dtype", "model_init_kwargs.torch_dtype"):
        if name in unit and unit[name].value is not None:
            text = unit.text(name)
            return None if text is None else text.removeprefix("torch.").lower()
    return None if unit.open else ""


def attention(unit: Unit) -> Setting | None:
    """The setting that chooses the attention implementation."""
    return unit.setting(
        "attn_implementation", "model_init_kwargs.attn_implementation", "_attn_implementation", "flash_attn",
        "use_flash_attention_2", "use_flash_attn", "use_flash_attention",
    )  # fmt: skip


def flash_attention(unit: Unit) -> Setting | None:
    """The setting that asks for FlashAttention, where one does."""
    setting = attention(unit)
    if setting is None:
        return None
    text = lower(unit, setting.name) or ""
    if text in ("true", "1"):
        return setting if setting.name.startswith("use_flash") else None
    return setting if "flash" in text or text in ("fa2", "fa3") else None


def single(unit: Unit, names: Iterable[str]) -> Setting | None:
    """The first of these settings whose value is known and not null."""
    return next(
        (unit[name] for name in names if name in unit and unit[name].known and unit[name].value is not None), None
    )


def numbers(unit: Unit, name: str) -> list[float] | None:
    """A list of numbers, or None."""
    items = unit.items(name)
    found = [as_number(item) for item in items] if items is not None else None
    return None if found is None or None in found else [float(value) for value in found if value is not None]


def full(setting: Setting) -> str:
    """``zero_optimization.stage: 3``: a setting of a section with the section's name."""
    _, mark, value = setting.shown.partition(": ")
    return f"{setting.name}: {value}" if mark and setting.syntax in ("json", "yaml", "toml") else setting.shown


GROUPED = ("grpo", "rloo")


def grouped(unit: Unit) -> bool:
    """Whether TRL trains on groups of completions; RLOO does so since 0.22."""
    return unit.scope == "grpo" or (unit.scope == "rloo" and unit.since("0.22"))
