"""Megatron Bridge: its configuration container, the sections of it, and the classes of Megatron that they extend."""

from __future__ import annotations

import ast

from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.fields import Options, class_fields, classes_within
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Package

CONFIG = "megatron/bridge/training/config.py"
CORE = ("TransformerConfig", "ModelParallelConfig", "MLATransformerConfig")  # inherited by reference


def read(release: Release) -> Snapshot:
    package = Package(release)
    module = package.module(CONFIG)
    assert module is not None
    container = module.classes["ConfigContainer"]
    scopes: dict[str, Options] = {"": class_fields(package, module, container)}
    inherits: dict[str, str] = {}
    for home, cls in reversed(package.lineage(module, container)):
        for statement in cls.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                section = statement.target.id
                for inner_home, inner in classes_within(package, home, statement.annotation):
                    options = class_fields(package, inner_home, inner, stop=CORE)
                    known = scopes.setdefault(section, {})
                    known.update({name: record for name, record in options.items() if name not in known})
                    if any(c.name in CORE for _, c in package.lineage(inner_home, inner)):
                        inherits[section] = "megatron-core:MLATransformerConfig"
    providers(release, package, scopes["model"])
    for name, node in module.classes.items():
        if name.endswith("Config"):
            scopes[name] = class_fields(package, module, node, stop=CORE)
    requires = {"megatron-core": f"=={release.beside.version}"} if release.beside else {}
    return Snapshot(release.version, release.date, {k: v for k, v in scopes.items() if v}, inherits, requires)


def providers(release: Release, package: Package, model: Options) -> None:
    """The fields of all model providers, any of which may stand in the section `model`; names and types only."""
    for path in release.files("megatron/bridge/models/**/*.py"):
        module = package.module(path) if "Provider" in release.text(path) else None
        for name, node in (module.classes if module else {}).items():
            if module and name.endswith("Provider"):
                for key, record in class_fields(package, module, node, stop=CORE).items():
                    model.setdefault(key, {"t": record["t"]})
