"""What the rules on containers share: the servers in a container, the GPUs it is given, its ports and its memory."""

from __future__ import annotations

import re
from collections.abc import Iterator

from advisor_mcp.linting.concepts import ENGINES
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rules._vl import local_gpus, several_nodes
from advisor_mcp.linting.tree import UNKNOWN, Mapping, Node, Sequence, at, plain
from advisor_mcp.linting.unit import Setting, Unit, as_number, as_whole

CONTAINERS = ("docker", "compose", "k8s", "helm")
GPU_ENGINES = ("vllm", "sglang", "tensorrt-llm")
PORTS = {"vllm": 8000, "sglang": 30000, "llama.cpp": 8080, "tensorrt-llm": 8000}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Kinds that spread one server over several pods.
GROUPS = ("LeaderWorkerSet", "RayCluster", "RayService", "MPIJob", "JobSet", "PyTorchJob")
_BYTES = {"": 1, "b": 1, "k": 2**10, "kb": 2**10, "ki": 2**10, "m": 2**20, "mb": 2**20, "mi": 2**20, "g": 2**30, "gb": 2**30, "gi": 2**30,
          "t": 2**40, "tb": 2**40, "ti": 2**40}  # fmt: skip


def servers(container: Unit, job: Job, *tools: str) -> Iterator[Unit]:
    """The engines that run in a container."""
    for unit in job.others(*(tools or ENGINES)):
        if unit.container is container:
            yield unit


def kind_of(container: Unit) -> str:
    """The kind of a Kubernetes object, or nothing."""
    found = plain(container.document.get("kind")) if container.document is not None else None
    return found if isinstance(found, str) else ""


def is_a_group(container: Unit) -> bool:
    """Whether the server may span several pods."""
    return kind_of(container) in GROUPS


def gpus_wanted(engine: Unit) -> int | None:
    """GPUs that an engine takes in its container; None where it is not known or several machines share it."""
    if engine.tool == "vllm":
        return None if several_nodes(engine) else local_gpus(engine)
    tensor, pipeline = engine.size("tensor_parallel"), engine.size("pipeline_parallel")
    nodes = engine.number("nnodes", 1)
    if tensor is None or pipeline is None or nodes != 1:
        return None
    if engine.tool != "sglang":
        return tensor * pipeline
    replicas = engine.size("data_parallel")
    shared = engine.truth(
        "enable_dp_attention", False
    )  # data-parallel attention lives on the GPUs of tensor parallelism
    return tensor * pipeline if shared else None if replicas is None or shared is None else tensor * pipeline * replicas


def gpus_given(container: Unit) -> tuple[Setting | None, int | None]:
    """The setting that grants GPUs and how many; None of them for "all" and for what is not known."""
    if container.tool == "k8s":
        return _counted(container, *(name for name in container.settings if _is_gpu_limit(name)))
    if container.tool == "helm":
        return _counted(container, "requestGPU", *(name for name in container.settings if _is_gpu_limit(name)))
    if container.tool == "docker":
        return _docker_gpus(container)
    return _compose_gpus(container)


def _is_gpu_limit(name: str) -> bool:
    return bool(re.fullmatch(r"resources\.limits\.(nvidia|amd)\.com/gpu", name))


def _counted(container: Unit, *names: str) -> tuple[Setting | None, int | None]:
    found = container.setting(*names) if names else None
    return found, as_whole(found.value) if found is not None else None


def _docker_gpus(container: Unit) -> tuple[Setting | None, int | None]:
    found = container.setting("gpus")
    text = str(found.value).strip("\"'") if found is not None and found.known else ""
    devices = re.fullmatch(r"device=([\w,-]+)", text)
    if devices:
        return found, len(devices[1].split(","))
    return found, int(text) if text.isdigit() else None


def _compose_gpus(container: Unit) -> tuple[Setting | None, int | None]:
    start = "deploy.resources.reservations.devices.0"
    ids = container.setting(f"{start}.device_ids")
    if ids is not None:
        return ids, len(ids.value) if isinstance(ids.value, list) and UNKNOWN not in ids.value else None
    return _counted(container, f"{start}.count") if f"{start}.count" in container else (container.setting("gpus"), None)


def bytes_of(value: object) -> int | None:
    """A size such as ``16Gi``, ``"10g"`` or ``512mb`` in bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]{0,2})", value.strip()) if isinstance(value, str) else None
    scale = _BYTES.get(found[2].lower()) if found else None
    return int(float(found[1]) * scale) if found and scale else None


def volume(container: Unit, name: object) -> Mapping | None:
    """A pod's volume by name."""
    volumes = at(container.pod, "volumes")
    for item in volumes.items if isinstance(volumes, Sequence) else []:
        if isinstance(item, Mapping) and plain(item.get("name")) == name:
            return item
    return None


def mounts(container: Unit) -> Iterator[tuple[str, object]]:
    """The mount paths of a Kubernetes container with the names of their volumes."""
    items = at(container.tree, "volumeMounts")
    for item in items.items if isinstance(items, Sequence) else []:
        if isinstance(item, Mapping):
            yield str(plain(item.get("mountPath"))).rstrip("/"), plain(item.get("name"))


def port_of(engine: Unit) -> int | None:
    """The port a server listens on, None where it is not known."""
    found = engine.number("port", PORTS[engine.tool])
    return int(found) if found is not None else None


def number_at(node: Node | None, *path: str, default: float | None = None) -> int | float | None:
    """The number at a path of a tree; `default` where nothing stands there, None where it is not known."""
    found = at(node, *path)
    return default if found is None else as_number(plain(found))


def text_at(node: Node | None, *path: str) -> str | None:
    """The text at a path of a tree, None where there is none or it is not known."""
    found = plain(at(node, *path))
    return found if isinstance(found, str) else None
