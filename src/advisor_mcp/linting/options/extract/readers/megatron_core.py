"""Megatron Core: the configuration classes that Python code and YAML files fill in."""

from __future__ import annotations

from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.fields import Options, class_fields, class_named
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Package

CLASSES = {
    "ModelParallelConfig": "megatron/core/model_parallel_config.py",
    "TransformerConfig": "megatron/core/transformer/transformer_config.py",
    "MLATransformerConfig": "megatron/core/transformer/transformer_config.py",
    "OptimizerConfig": "megatron/core/optimizer/optimizer_config.py",
    "DistributedDataParallelConfig": "megatron/core/distributed/distributed_data_parallel_config.py",
}
PARENTS = {"TransformerConfig": "ModelParallelConfig", "MLATransformerConfig": "TransformerConfig"}


def read(release: Release) -> Snapshot:
    package = Package(release)
    scopes: dict[str, Options] = {}
    for name, path in CLASSES.items():
        found = class_named(package, path, name)
        stop = {"MLATransformerConfig": ("TransformerConfig", "ModelParallelConfig")}.get(
            name, (PARENTS.get(name, ""),)
        )
        if found:
            scopes[name] = class_fields(package, *found, stop=stop)
    inherits = {child: f"megatron-core:{parent}" for child, parent in PARENTS.items() if child in scopes}
    return Snapshot(release.version, release.date, scopes, inherits)
