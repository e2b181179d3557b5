"""What the rules on vLLM share: sizes of its world, switches, and which names a version knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from advisor_mcp.linting import versions
from advisor_mcp.linting.unit import Setting, Unit

# Versions that were read to make the tables of names; a name is absent up to the last one that lacks it.
READ_UP_TO = (0, 33, 0)


def names_since(table: Mapping[str, str]) -> dict[str, str]:
    """Each name of a table of "last version without it -> names"."""
    return {name: until for until, names in table.items() for name in names.split()}


def is_absent(unit: Unit, name: str, table: Mapping[str, str]) -> bool | None:
    """Whether the version in use lacks a name of a table; None where the version lies between two that were read."""
    if name not in table:
        return True if unit.version is None or unit.version <= READ_UP_TO else None
    until = versions.parse(table[name]) if table[name] else None
    return unit.version is not None and until is not None and unit.version <= until


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that this one is probably meant to be."""
    found = difflib.get_close_matches(name, list(known), 1, 0.7)
    return found[0] if found else None


def named_before(unit: Unit, version: str) -> bool:
    """Whether a version was named, and it is older than this one."""
    return unit.version is not None and unit.before(version)


def between(unit: Unit, first: str, end: str) -> bool:
    """Whether a version was named that is at least `first` and older than `end`."""
    return unit.version is not None and unit.since(first) and unit.before(end)


def switch(unit: Unit, name: str) -> tuple[Setting | None, bool | None]:
    """A switch and whether it is on, however it was written (`--x`, `--no-x`); None where it is not set or not known."""
    if name in unit:
        return unit[name], unit.truth(name, None)
    off = unit.setting(f"no_{name}")
    if off is not None:
        value = unit.truth(off.name, None)
        return off, None if value is None else not value
    return None, None


def is_on(unit: Unit, name: str) -> bool:
    """Whether a switch is known to be on."""
    return switch(unit, name)[1] is True


def is_off(unit: Unit, name: str) -> bool:
    """Whether a switch is known to be off because somebody said so."""
    return switch(unit, name)[1] is False


def model_name(unit: Unit) -> str:
    """The last part of the model's name in lower case, or nothing where it is not known."""
    setting = unit.named("model")
    value = setting.value if setting is not None and setting.known else ""
    return value.rstrip("/").rpartition("/")[2].lower() if isinstance(value, str) else ""


def several_nodes(unit: Unit) -> bool:
    """Whether the server may span several machines, so that one machine's GPUs say nothing of its size."""
    nodes = unit.number("nnodes", 1)
    ray = unit.text("distributed_executor_backend", "") in ("ray", "external_launcher", None)
    others = (
        "headless",
        "data_parallel_address",
        "data_parallel_start_rank",
        "data_parallel_rank",
        "node_rank",
        "dist_init_addr",
    )
    return nodes is None or nodes > 1 or ray or any(name in unit for name in others)


def local_gpus(unit: Unit) -> int | None:
    """GPUs that the server takes on this machine; None where a size is not known."""
    sizes = [unit.size("tensor_parallel"), unit.size("pipeline_parallel")]
    data = unit.number("data_parallel_size_local", unit.number("data_parallel_size", 1))
    context = unit.number("prefill_context_parallel_size", 1)
    if data is None or context is None or None in sizes:
        return None
    found = int(data * context)
    for size in sizes:
        found *= size or 1
    return found


def expert_ranks(unit: Unit) -> int | None:
    """Over how many ranks expert parallelism spreads the experts; None where a size is not known."""
    tensor, data = unit.size("tensor_parallel"), unit.size("data_parallel")
    context = unit.number("prefill_context_parallel_size", 1)
    return int(tensor * data * context) if tensor and data and context else None
