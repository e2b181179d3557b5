"""What the rules on fine-tuning tools share: whether a setting is in use, missing, or on."""

from __future__ import annotations

from collections.abc import Iterable

from advisor_mcp.linting.job import Job
from advisor_mcp.linting.unit import Setting, Unit, as_number, as_truth


def used(unit: Unit, *names: str) -> Setting | None:
    """The first of these that is known to hold something: not null, false, zero or empty."""
    for name in names:
        setting = unit.settings.get(name)
        if setting is not None and setting.known and _holds(setting.value):
            return setting
    return None


def all_used(unit: Unit, names: Iterable[str]) -> list[Setting]:
    """Those of these settings that are in use."""
    return [found for name in names if (found := used(unit, name)) is not None]


def unset(unit: Unit, *names: str) -> bool:
    """Whether none of these is set, or only to null, as far as anybody can see."""
    if unit.open:
        return False
    return all(name not in unit.settings or (unit[name].known and unit[name].value is None) for name in names)


def idle(unit: Unit, *names: str) -> bool:
    """Whether none of these does anything: not set, null, false, zero or empty, as far as anybody can see."""
    if unit.open:
        return False
    return all(name not in unit.settings or (unit[name].known and not _holds(unit[name].value)) for name in names)


def _holds(value: object) -> bool:
    if isinstance(value, str):
        said = as_truth(value)
        return bool(value) and said is not False and value.lower() != "null"
    return bool(value)


def strategy(unit: Unit, *names: str) -> str | None:
    """A `no`, `steps` or `epoch` setting in small letters; None where it is not set or not known. YAML reads `no` as false."""
    for name in names:
        if name in unit.settings and unit[name].value is not None:
            text = unit.text(name)
            return None if text is None else {"false": "no"}.get(text.lower(), text.lower())
    return None


def learning_rate(unit: Unit, name: str = "learning_rate") -> float | None:
    """The learning rate; YAML's reader leaves 2e-5 as text."""
    found = as_number(unit.value(name))
    return None if found is None else float(found)


def zero_stage(unit: Unit, job: Job, name: str = "deepspeed") -> int | None:
    """DeepSpeed's ZeRO stage of a unit: from its inline section, the file beside it, else the file's name."""
    setting = used(unit, name)
    if setting is None:
        return 0 if unset(unit, name) else None
    inline = as_number(unit.value(f"{name}.zero_optimization.stage"))
    if inline is not None:
        return int(inline)
    for other in job.others("deepspeed"):
        stage = as_number(other.value("zero_optimization.stage"))
        if stage is not None and len(job.others("deepspeed")) == 1:
            return int(stage)
    return _stage_of_name(str(setting.value)) if isinstance(setting.value, str) else None


def _stage_of_name(path: str) -> int | None:
    """The stage that a file's name tells: ds_z3_config.json, zero2.json, zero3_bf16_cpuoffload_all.json."""
    name = path.rsplit("/", 1)[-1].lower()
    for stage in (0, 1, 2, 3):
        if any(
            mark in name
            for mark in (
                f"z{stage}",
                f"zero{stage}",
                f"zero_{stage}",
                f"zero-{stage}",
                f"stage{stage}",
                f"stage_{stage}",
            )
        ):
            return stage
    return None
