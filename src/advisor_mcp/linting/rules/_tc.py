"""Launchers, batch options and the machines they take, as several rule files need them."""

from __future__ import annotations

import re

from advisor_mcp.linting.job import Job
from advisor_mcp.linting.unit import Setting, Unit, as_whole

LAUNCHERS = ("torchrun", "accelerate_launch", "deepspeed_launcher")
LOOPBACK = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[?::1\]?)(:\d+)?$")


def node_count(unit: Unit) -> int | None:
    """Nodes that a torchrun line names, the most of a range; 1 where it names none, None where nobody can see."""
    said = unit.text("nnodes", None if unit.open else "1")
    last = (said or "").rpartition(":")[2]
    return int(last) if last.isdigit() else None


def workers(unit: Unit) -> int | None:
    """Processes a launcher starts on this machine, where it is a number."""
    if unit.tool == "torchrun":
        found = unit.number("nproc_per_node")
    elif unit.tool == "deepspeed_launcher":
        found = unit.number("num_gpus")
    else:
        found = unit.number("num_processes") if (unit.number("num_machines", 1) or 1) == 1 else None
    return int(found) if found and found > 0 else None


def workers_setting(unit: Unit) -> Setting | None:
    """Where the number of processes is set."""
    return unit.setting("nproc_per_node", "num_processes", "num_gpus")


def above(unit: Unit, tool: str) -> Unit | None:
    """The unit of a tool that starts this one, through others."""
    here: Unit | None = unit.launcher
    while here is not None and here.tool != tool:
        here = here.launcher
    return here


def whole(unit: Unit, *names: str) -> int | None:
    """The first of these options as a whole number."""
    found = unit.setting(*names)
    return None if found is None else as_whole(found.value)


def batch_nodes(unit: Unit) -> int | None:
    """Nodes of a batch job; None where it names none or a range."""
    return whole(unit, "nodes")


def gpus_per_node(unit: Unit) -> tuple[int, Setting] | None:
    """GPUs that a batch job takes on every node, and where it says so."""
    for name in ("gpus_per_node", "gres"):
        found = unit.settings.get(name)
        count = _count(found, name)
        if found is not None and count is not None:
            return count, found
    nodes, total, each = batch_nodes(unit), unit.settings.get("gpus"), unit.settings.get("gpus_per_task")
    count = _count(total, "gpus")
    if total is not None and count is not None and nodes and count % nodes == 0:
        return count // nodes, total
    count, tasks = _count(each, "gpus_per_task"), tasks_per_node(unit)
    if each is not None and count is not None and tasks:
        return count * tasks, each
    return None


def _count(setting: Setting | None, name: str) -> int | None:
    """The number in ``8``, ``a100:8`` or, for a generic resource, ``gpu:a100:8``; None where it is of several kinds."""
    if setting is None or not isinstance(setting.value, str) or "," in setting.value:
        return None
    parts = setting.value.split("(")[0].split(":")
    if name == "gres":
        if parts[0].removeprefix("gres/") != "gpu":
            return None
        if len(parts) == 1:
            return 1
    return int(parts[-1]) if parts[-1].isdigit() else None


def tasks_per_node(unit: Unit, nodes: int | None = None) -> int | None:
    """Tasks that start on every node by these options, where they say so."""
    each = whole(unit, "ntasks_per_node", "tasks_per_node")
    if each is not None:
        return each
    total, count = whole(unit, "ntasks"), batch_nodes(unit) or nodes
    return total // count if total and count and total % count == 0 else None


def tasks_setting(unit: Unit) -> Setting | None:
    """Where the number of tasks is set."""
    return unit.setting("ntasks_per_node", "tasks_per_node", "ntasks")


def spans_nodes(unit: Unit, job: Job) -> bool:
    """Whether anything in the file says that its processes run on several machines."""
    for other in job.units:
        if other.source.root is not unit.source.root:
            continue
        if other.tool == "torchrun" and (node_count(other) or 1) > 1:
            return True
        if other.tool in ("slurm", "srun") and (batch_nodes(other) or 1) > 1:
            return True
        if (
            any((whole(other, name) or 1) > 1 for name in ("num_machines", "num_nodes", "nnodes"))
            or "hostfile" in other
        ):
            return True
    return False


def raw(setting: Setting) -> str:
    """What stands in the file where a value comes from, from its first character to the end of the line."""
    source = setting.at.source
    start = source.resolve(setting.at.start)
    text = source.root.text
    end = text.find("\n", start)
    return text[start : end if end >= 0 else len(text)]


def visible_devices(unit: Unit) -> tuple[list[str], Setting] | None:
    """The devices of CUDA_VISIBLE_DEVICES, where the variable is set to a list."""
    found = unit.env.get("CUDA_VISIBLE_DEVICES") or unit.env.get("HIP_VISIBLE_DEVICES")
    if found is None or not isinstance(found.value, str) or not re.fullmatch(r"\s*\d+(\s*,\s*\d+)*\s*", found.value):
        return None
    return [part.strip() for part in found.value.split(",")], found
