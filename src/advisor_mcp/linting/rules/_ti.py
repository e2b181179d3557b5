"""torchtitan's parallel degrees, with the defaults of its configuration classes."""

from __future__ import annotations

from advisor_mcp.linting.job import Job
from advisor_mcp.linting.unit import Setting, Unit

TITAN = ("torchtitan", "torchtitan_cli")
_SECTION = "parallelism."
DEGREES = {
    "data_parallel_replicate": "dp_replicate",
    "data_parallel_shard": "dp_shard",
    "context_parallel": "cp",
    "tensor_parallel": "tp",
    "pipeline_parallel": "pp",
}
# Layers of the model flavors that torchtitan 0.2 registers.
_LAYERS = {
    "llama3": {"debugmodel": 6, "8B": 32, "70B": 80, "405B": 126},
    "llama4": {"debugmodel": 6, "17bx16e": 48, "17bx128e": 48},
    "deepseek_v3": {"debugmodel": 6, "16B": 27, "236B": 60, "671B": 61},
    "qwen3": {
        "debugmodel": 8, "debugmodel_moe": 8, "0.6B": 28, "1.7B": 28, "4B": 36, "8B": 36, "14B": 40, "32B": 64, "30B-A3B": 48,
        "235B-A22B": 94,
    },
    "gpt_oss": {"debugmodel": 4, "20b": 24, "120b": 36},
}  # fmt: skip


def whole(unit: Unit, name: str, default: int | None = None) -> int | None:
    """A whole number; `default` where it is not set in a file (a command line has a file below it)."""
    return unit.whole(name, default if unit.tool == "torchtitan" else None)


def key(name: str) -> str:
    """The full name of a parallel degree."""
    return f"{_SECTION}{name}_degree"


def degree(unit: Unit, name: str) -> int | None:
    """A parallel degree; -1 for the sharding that takes what is left, 1 for what is not set."""
    return whole(unit, key(name), -1 if name == "data_parallel_shard" else 1)


def degree_setting(unit: Unit, name: str) -> Setting | None:
    """Where a parallel degree is set."""
    return unit.setting(key(name))


def sharding(unit: Unit, job: Job) -> int | None:
    """The degree of FSDP, worked out from the world size where it takes what is left."""
    shard = degree(unit, "data_parallel_shard")
    if shard is None or shard > 0:
        return shard
    others, world = _product(unit), job.world_size(unit)
    return world // others if others and world else None


def _product(unit: Unit) -> int | None:
    total = 1
    for name in DEGREES:
        if name == "data_parallel_shard":
            continue
        each = degree(unit, name)
        if not each or each < 1:
            return None
        total *= each
    return total


def others(unit: Unit) -> int | None:
    """The product of all degrees but the sharding's."""
    return _product(unit)


def layers(unit: Unit) -> int | None:
    """Layers of the model flavor, where it is one that torchtitan has."""
    name, flavor = unit.text("model.name"), unit.text("model.flavor")
    known = _LAYERS.get(name or "", {})
    return known.get(flavor or "") or known.get(
        (flavor or "").split("_flex")[0].split("_varlen")[0].removesuffix("_irope")
    )


def compiled(unit: Unit) -> bool | None:
    """Whether the model is compiled."""
    first = "compile.enable" if "compile.enable" in unit else "training.compile"  # its place until 0.1
    enabled = unit.truth(first, False if unit.tool == "torchtitan" else None)
    parts = unit.items("compile.components")
    return enabled if not enabled or parts is None else "model" in parts


def converters(unit: Unit) -> list[str]:
    """The model converters, as far as they are known."""
    return [str(one) for one in unit.items("model.converters") or []]
