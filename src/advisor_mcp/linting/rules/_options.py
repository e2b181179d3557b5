"""Which of a unit's settings can be held against an option table, and how each tool treats a name that it does not know."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, TypeAlias

from advisor_mcp.linting import versions
from advisor_mcp.linting.options import History, Option, Table, table
from advisor_mcp.linting.unit import Setting, Unit

# what a tool does with a name it does not know
Treatment: TypeAlias = Literal["refuses", "ignores", "extends"]
COMMAND_LINES = ("vllm", "sglang", "llama.cpp", "torchrun", "accelerate_launch", "tensorrt-llm")
# take no shortened flag: llama.cpp has no argparse, accelerate's has allow_abbrev=False (1.15.0, commands/launch.py)
WHOLE_FLAGS = ("llama.cpp", "accelerate_launch")
FLAT = ("hf_trainer", "trl", "llamafactory", "megatron-lm", "peft")
NESTED = ("deepspeed", "accelerate", "axolotl", "torchtitan")
CHECKED = (*COMMAND_LINES, *FLAT, *NESTED)
# DeepSpeed's sections that are pydantic models, which forbid extra keys; the others are dictionaries
STRICT_SECTIONS = {
    "zero_optimization", "zero_optimization.offload_param", "zero_optimization.offload_optimizer", "zero_optimization.leaf_module",
    "zero_optimization.zenflow", "fp16", "bf16", "bfloat16", "tensor_parallel", "tensor_parallel.tp", "compile", "comms_logger",
    "tensorboard", "wandb", "csv_monitor", "comet", "hybrid_engine", "timers.throughput",
}  # fmt: skip
# keys that the tools' own readers take out before anything is checked, or that scripts commonly add
FREE = {"_component_", "yml", "config", "dynamo_backend"}


@dataclass(frozen=True)
class Named:
    """A setting with the table and scope that its name is looked up in."""

    setting: Setting
    tables: tuple[tuple[Table, str, str | None], ...]
    name: str

    @cached_property
    def option(self) -> Option | None:
        """The option in the version in use."""
        return next(
            (found for t, scope, version in self.tables if (found := t.option(scope, self.name, version))), None
        )

    @property
    def history(self) -> tuple[Table, History] | None:
        """When a name that the version in use lacks existed, in the first table that knows it."""
        for known, scope, _ in self.tables:
            found = known.history(scope, self.name)
            if found is not None:
                return known, found
        return None

    @property
    def version(self) -> str:
        """The tool and version that it is held against."""
        known, _, version = self.tables[0]
        return f"{known.tool} {version or known.newest}"

    @property
    def assumed(self) -> bool:
        """Whether nobody named a version, so that the newest is taken."""
        return self.tables[0][2] is None

    @property
    def beyond(self) -> bool:
        """Whether the version in use is later than the newest that is listed, so that nobody can say what it knows."""
        known, _, version = self.tables[0]
        used, newest = versions.parse(version or ""), versions.parse(known.newest)
        return used is not None and newest is not None and used > newest

    @property
    def closest(self) -> str | None:
        """The nearest name that the version in use has."""
        return next(
            (found for t, scope, version in self.tables if (found := t.closest(scope, self.name, version))), None
        )


@lru_cache(maxsize=8)  # every rule on options asks for the same unit in turn
def named(unit: Unit) -> tuple[Named, ...]:
    """Every setting of a unit whose name an option table can judge."""
    return tuple(_named(unit))


def _named(unit: Unit) -> Iterator[Named]:
    if unit.tool in FLAT or unit.tool in COMMAND_LINES:
        tables = _tables(unit)
        for name, setting in unit.settings.items():
            positional = setting.syntax == "shell" and not setting.written.startswith("-")
            if "." not in name and name not in FREE and tables and not positional:
                yield Named(setting, tables, setting.written if setting.syntax == "shell" else name)
        return
    known = unit.table
    if known is None or any(setting.syntax == "python" for setting in unit.settings.values()):
        return
    lost = tuple(f"{name}." for name in unit.settings if _is_lost(known, name, unit.target))
    for name, setting in unit.settings.items():
        if name.startswith(lost):
            continue  # the section above is what is reported
        parts = [part for part in name.split(".") if not part.isdigit()]
        scope = ".".join(parts[:-1])
        if scope and scope in known.scopes and not known.options(scope, unit.target):
            continue  # that version takes any key there
        if parts and scope in known.scopes and not name.rpartition(".")[2].isdigit() and parts[-1] not in FREE:
            plain = parts[-1].removeprefix("fsdp_") if unit.tool == "axolotl" and scope == "fsdp_config" else parts[-1]
            yield Named(setting, ((known, scope, unit.target),), plain)


def _is_lost(known: Table, name: str, version: str | None) -> bool:
    """Whether a section stands under a name that the version does not have."""
    parts = [part for part in name.split(".") if not part.isdigit()]
    scope = ".".join(parts[:-1])
    return bool(parts) and scope in known.scopes and known.option(scope, parts[-1], version) is None


def _tables(unit: Unit) -> tuple[tuple[Table, str, str | None], ...]:
    found: list[tuple[Table, str, str | None]] = []
    own = unit.table
    if own is not None and unit.scope in own.scopes:
        found.append((own, unit.scope, unit.target))
    if unit.tool == "trl" and own is not None:
        found += [(own, scope, unit.target) for scope in ("model", "script") if scope in own.scopes]
    if found and unit.tool in ("trl", "llamafactory") and "transformers" in unit.targets:
        found.append((table("transformers"), "TrainingArguments", unit.targets["transformers"]))
    return tuple(found)


def treatment(unit: Unit, scope: str = "") -> Treatment:
    """What the unit's tool does with a name it does not know."""
    if unit.program == "srt-slurm":
        return "extends"  # the recipe's own runner takes some of the keys
    if unit.tool in COMMAND_LINES:
        return "refuses"
    if unit.tool == "deepspeed":
        return "refuses" if scope in STRICT_SECTIONS else "ignores"
    if unit.tool == "accelerate":
        return "ignores" if scope else "refuses"
    if unit.tool in ("axolotl", "peft"):
        return "ignores"
    return "extends"  # a script adds its own options to the tool's


def typo(name: str, meant: str) -> bool:
    """Whether a name is another one with at most two letters wrong, missing, added or swapped."""
    one, other = name.lstrip("-").replace("-", "_").lower(), meant.lower()
    if abs(len(one) - len(other)) > 2 or min(len(one), len(other)) < 5:
        return False
    row = list(range(len(other) + 1))
    before: list[int] = []
    for i, letter in enumerate(one, 1):
        next_row = [i]
        for j, wanted in enumerate(other, 1):
            cost = min(row[j] + 1, next_row[j - 1] + 1, row[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, before[j - 2] + 1)
            next_row.append(cost)
        before, row = row, next_row
    return row[-1] <= 2


def scope_of(setting: Setting) -> str:
    """The section that a setting of a nested file stands in."""
    return ".".join(part for part in setting.name.split(".")[:-1] if not part.isdigit())
