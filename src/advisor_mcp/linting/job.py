"""Units that belong together, and the facts about model, GPUs and world that their rules need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from advisor_mcp import access, knowledge
from advisor_mcp.errors import AdvisorError, UsageError, nearest, shown
from advisor_mcp.linting.concepts import HF_FAMILY
from advisor_mcp.linting.tree import Mapping as Mapping_
from advisor_mcp.linting.tree import Scalar
from advisor_mcp.linting.unit import Unit


@dataclass(frozen=True)
class Given:
    """What the caller said: it goes before what the files say. `model` may hold a few fields of a configuration only."""

    model: str | Mapping[str, Any] | None = None
    gpu: str | None = None
    gpus_per_node: int | None = None
    world_size: int | None = None
    interconnect: str | None = None
    targets: Mapping[str, str] = field(default_factory=dict)


def targets(said: Sequence[str]) -> dict[str, str]:
    """``["vllm=0.12"]`` as a mapping; raises `UsageError` for anything else."""
    found: dict[str, str] = {}
    for item in (part for text in said for part in text.split(",")):
        tool, equals, version = item.replace("==", "=").partition("=")
        if not (tool.strip() and equals and version.strip()):
            raise UsageError(f"target must be TOOL=VERSION, e.g. vllm=0.12, not {shown(item)}")
        found[tool.strip().lower()] = version.strip()
    return found


@dataclass(frozen=True)
class ModelFacts:
    """A model's configuration as far as it is known, by the names of config.json; `said` is where it comes from."""

    name: str
    config: Mapping[str, Any]
    said: str

    def get(self, *names: str) -> Any:
        """The first of these fields that is set, at the top or in its text part."""
        for part in (self.config, self._text):
            for name in names:
                if part.get(name) is not None:
                    return part[name]
        return None

    @property
    def _text(self) -> Mapping[str, Any]:
        found = self.config.get("text_config") or self.config.get("llm_config")
        return found if isinstance(found, Mapping) else {}

    def whole(self, *names: str) -> int | None:
        """The first of these fields that is a whole number."""
        value = self.get(*names)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def model_type(self) -> str | None:
        """The family's name."""
        found = self.config.get("model_type")
        return found if isinstance(found, str) else None

    @property
    def heads(self) -> int | None:
        """Attention heads."""
        return self.whole("num_attention_heads", "n_head", "n_heads")

    @property
    def kv_heads(self) -> int | None:
        """Key and value heads; as many as query heads where the configuration names none."""
        return self.whole("num_key_value_heads", "num_kv_heads") or (
            self.heads if "model_type" in self.config else None
        )

    @property
    def experts(self) -> int | None:
        """Routed experts of a layer, None for a dense model or where nothing is known."""
        return self.whole("num_experts", "n_routed_experts", "num_local_experts", "num_routed_experts")

    @property
    def dtype(self) -> str | None:
        """The number format of its weights, by torch's name."""
        found = self.get("dtype", "torch_dtype", "model_dtype")
        return found.removeprefix("torch.") if isinstance(found, str) else None

    @property
    def max_positions(self) -> int | None:
        """Positions it was made for, without any scaling that the user adds."""
        return self.whole("max_position_embeddings", "max_seq_len", "n_positions", "seq_length")

    @property
    def quantization(self) -> Mapping[str, Any]:
        """Its `quantization_config`, or nothing."""
        found = self.config.get("quantization_config") or self._text.get("quantization_config")
        return found if isinstance(found, Mapping) else {}

    def memory(
        self,
        length: int,
        ranks: int = 1,
        *,
        dtype: str | None = None,
        quantization: str | None = None,
        kv_dtype: str = "auto",
    ) -> tuple[int, int] | None:
        """Bytes of one rank for the weights, and for the cache of one sequence of `length` tokens; None where not known."""
        from advisor_mcp.anatomy.reading import architecture_of
        from advisor_mcp.formulas.precision import requested_format
        from advisor_mcp.formulas.serving import serving_memory

        try:
            architecture = architecture_of(self.config)
            found = serving_memory(
                architecture, requested_format(architecture, dtype, quantization), kv_dtype, length, 1, ranks, 1
            )
        except (AdvisorError, ValueError, KeyError, TypeError):
            return None
        return int(found.weights), int(found.kv + found.state)


@dataclass(frozen=True)
class GpuFacts:
    """An accelerator: driver-visible memory in bytes and, for NVIDIA's, the compute capability."""

    name: str
    memory_bytes: int | None
    capability: tuple[int, int] | None
    vendor: str

    def below(self, major: int, minor: int = 0) -> bool | None:
        """Whether the compute capability is lower; None where it has none."""
        return None if self.capability is None else self.capability < (major, minor)


@dataclass(eq=False)
class Job:
    """The units of files that belong together. A fact is what the caller gave, else what exactly one source says."""

    units: list[Unit]
    given: Given = field(default_factory=Given)
    folder: Path | None = None
    files: Mapping[str, Any] = field(default_factory=dict)

    def others(self, *tools: str) -> list[Unit]:
        """Units of these tools in the job."""
        return [unit for unit in self.units if unit.tool in tools]

    def other(self, *tools: str) -> Unit | None:
        """The only unit of these tools, None where there is none or several."""
        found = self.others(*tools)
        return found[0] if len(found) == 1 else None

    # ---- the world ----

    def world_size(self, unit: Unit | None = None) -> int | None:
        """Processes of the job, one a GPU, where it is known."""
        if self.given.world_size:
            return self.given.world_size
        if unit is not None and unit.launcher is not None:
            return _world_of(unit.launcher)
        sizes = {
            _world_of(found)
            for found in self.others("torchrun", "accelerate", "accelerate_launch", "deepspeed_launcher")
        }
        sizes.discard(None)
        return sizes.pop() if len(sizes) == 1 else None

    @property
    def gpus_per_node(self) -> int | None:
        """GPUs of a node, where it is known."""
        return self.given.gpus_per_node

    @cached_property
    def gpu(self) -> GpuFacts | None:
        """The GPU that the caller named, or else the one that the files ask the cluster for."""
        named = {self.given.gpu} if self.given.gpu else {name for unit in self.units if (name := _gpu_named_by(unit))}
        return gpu_facts(named.pop()) if len(named) == 1 else None

    # ---- the model ----

    def model(self, unit: Unit) -> ModelFacts | None:
        """What is known of the model that a unit loads: what the caller gave, else what the unit names."""
        if self.given.model is None:
            return self.named_model(unit)
        found = _given_model(self.given.model)
        if found is not None and "model_type" not in found.config and isinstance(self.given.model, Mapping):
            named = self.named_model(unit)  # the caller gave a few fields of it
            return replace(found, config={**named.config, **found.config}) if named else found
        return found

    def named_model(self, unit: Unit) -> ModelFacts | None:
        """What is known of the model by the name the unit gives, from the knowledge base or a folder beside the file."""
        setting = unit.named("model")
        if setting is None:
            linked = (
                [u for u in self.others(*HF_FAMILY, "axolotl") if u.named("model")]
                if unit.tool in ("deepspeed", "accelerate")
                else []
            )
            return self.named_model(linked[0]) if len(linked) == 1 else None
        name = str(setting.value) if setting.known and isinstance(setting.value, str) else ""
        return (known_model(name) or self._beside(name) or _from_hub(name)) if name else None

    def _beside(self, name: str) -> ModelFacts | None:
        """The configuration of a model in a folder that is named relative to the files', or absolutely."""
        if self.folder is None or not access.anywhere():
            return None
        path = Path(name) if Path(name).is_absolute() else self.folder / name
        try:
            from advisor_mcp.anatomy.reading import config_of

            if not (path / "config.json").is_file():
                return None
            label, config = config_of(str(path))
        except (AdvisorError, OSError, ValueError):
            return None
        return ModelFacts(label, config, f"the config.json in {name}")


def _world_of(unit: Unit) -> int | None:
    if unit.tool == "torchrun":
        per_node, nodes = unit.number("nproc_per_node", 1), unit.number("nnodes", 1)
        return int(per_node * nodes) if per_node and nodes else None
    if unit.tool in ("accelerate", "accelerate_launch"):
        found = unit.number("num_processes")
        return int(found) if found else None
    if unit.tool == "deepspeed_launcher":
        gpus, nodes = unit.number("num_gpus"), unit.number("num_nodes", 1)
        return int(gpus * nodes) if gpus and nodes and gpus > 0 else None
    return None


def _given_model(model: str | Mapping[str, Any]) -> ModelFacts | None:
    if isinstance(model, Mapping):
        named = (
            known_model(str(model["_name_or_path"]))
            if model.get("_name_or_path") and "model_type" not in model
            else None
        )
        config = {**(named.config if named else {}), **model}
        return ModelFacts(named.name if named else "the given configuration", config, "the given configuration")
    found = known_model(model)
    if found is not None:
        return found
    from advisor_mcp.anatomy.reading import config_of

    name, config = config_of(model)
    return ModelFacts(name, config, name)


@lru_cache(maxsize=64)
def _from_hub(name: str) -> ModelFacts | None:
    """The configuration as the Hugging Face hub has it, where the user allowed to ask."""
    from advisor_mcp.anatomy.hub import is_repository, read_hub

    if not (access.hub_allowed() and is_repository(name)):
        return None
    try:
        config, _ = read_hub(name)
    except AdvisorError:
        return None
    return ModelFacts(name, config, f"the configuration of {name} on the hub")


def known_model(name: str) -> ModelFacts | None:
    """The configuration of a model that the knowledge base knows under this name (a hub id, with or without its owner)."""
    for spelling in dict.fromkeys((name, name.rstrip("/"), PurePosixPath(name).name)):
        fact = knowledge.find("model", spelling) if spelling else None
        if fact is not None:
            return ModelFacts(fact["name"], fact["config"], f"the configuration of {fact['name']}")
    return None


_PREFIXES = re.compile(r"nvidia[- ]|tesla[- ]|geforce[- ]|-?mega\b|-?ultra\b")
_MEMORY = re.compile(r"(\d{1,3})\s*-?\s*(?:gb|gib|g)\b", re.IGNORECASE)
_CAPABILITY = re.compile(r"(?:sm|cc|compute)[ _-]?(\d{1,2})[._]?(\d)$", re.IGNORECASE)


def gpu_facts(name: str) -> GpuFacts | None:
    """What the knowledge base says of a GPU, by id, name or the way people write it (``A100``, ``L4 24GB``, ``sm_70``).

    Of a GPU that is not known, the memory that its name states is all that is taken.
    """
    plain = name.lower().strip()
    bare = _PREFIXES.sub("", plain).strip("- ")
    for spelling in dict.fromkeys(
        (
            name,
            plain.replace(" ", "-"),
            bare.replace(" ", "-"),
            bare.split()[0] if bare.split() else "",
            bare.split("-")[0],
        )
    ):
        fact = knowledge.find("gpu", spelling) if spelling else None
        if fact is not None:
            major, _, minor = str(fact.get("compute_capability", "")).partition(".")
            capability = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
            memory = fact.get("memory_bytes") or (int(fact["memory_gb"] * 1e9) if fact.get("memory_gb") else None)
            return GpuFacts(fact["id"], memory, capability, str(fact.get("vendor", "")).lower())
    said, stated = _CAPABILITY.search(plain), _MEMORY.search(plain)
    if said is None and stated is None:
        return None
    return GpuFacts(
        name, int(stated[1]) * 2**30 if stated else None, (int(said[1]), int(said[2])) if said else None, "nvidia"
    )


def checked(given: Given) -> Given:
    """The same, once it is sure that its GPU is known. Raises `UsageError` with the nearest name for one that is not."""
    if given.gpu is not None and gpu_facts(given.gpu) is None:
        raise UsageError(f"unknown GPU {shown(given.gpu)}{nearest(given.gpu, knowledge.names('gpu'), cutoff=0.75)}")
    if isinstance(given.model, str):
        _given_model(given.model)
    return given


_NODE_LABELS = (
    "cloud.google.com/gke-accelerator",
    "nvidia.com/gpu.product",
    "gpu.nvidia.com/model",
    "accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
)


def _gpu_named_by(unit: Unit) -> str | None:
    """The GPU that a pod's node selector or a batch script's `--gres=gpu:NAME:N` asks for."""
    if unit.pod is not None:
        selector = unit.pod.get("nodeSelector")
        for label in _NODE_LABELS:
            found = selector.get(label) if isinstance(selector, Mapping_) else None
            if isinstance(found, Scalar) and isinstance(found.value, str):
                return found.value
    if unit.tool in ("slurm", "srun"):
        for name in ("gres", "gpus", "gpus_per_node", "gpus_per_task"):
            parts = (unit.text(name) or "").removeprefix("gpu:").split(":")
            if len(parts) == 2 and not parts[0].isdigit():
                return parts[0]
    return None


def together(units: Iterable[Unit], given: Given, folder: Path | None, files: Mapping[str, Any]) -> list[Job]:
    """The jobs of these units: units of one file, and of files that name each other, belong together.

    Files that nothing links belong together where the folder holds at most one of each kind.
    """
    units = list(units)
    group = {id(unit.source.root): index for index, unit in enumerate(units)}
    by_file: dict[int, list[Unit]] = {}
    for unit in units:
        by_file.setdefault(id(unit.source.root), []).append(unit)
    names = {PurePosixPath(found[0].source.root.name).name: key for key, found in by_file.items()}
    for key, found in by_file.items():
        for other in _referenced(found, names):
            old, new = group[other], group[key]
            group = {k: new if v == old else v for k, v in group.items()}
    kinds = [frozenset(unit.tool for unit in found) for found in by_file.values()]
    counted = [tool for kind in kinds for tool in kind if tool != "env"]
    if len(by_file) > 1 and len(counted) == len(set(counted)) and len(by_file) <= 4:
        group = dict.fromkeys(group, 0)
    jobs: dict[int, list[Unit]] = {}
    for unit in units:
        jobs.setdefault(group[id(unit.source.root)], []).append(unit)
    return [Job(found, given, folder, files) for found in jobs.values()]


def _referenced(units: list[Unit], names: Mapping[str, int]) -> set[int]:
    """The files of the folder that these units name: as the value of a setting or as an argument."""
    found: set[int] = set()
    for unit in units:
        values = [s.value for s in unit.settings.values() if isinstance(s.value, str)]
        for value in (*values, *unit.arguments):
            key = names.get(PurePosixPath(value).name) if 0 < len(value) < 300 else None
            if key is not None:
                found.add(key)
    return found
