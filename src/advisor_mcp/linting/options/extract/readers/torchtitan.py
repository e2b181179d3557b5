"""torchtitan: the sections of its job configuration (TOML up to 0.2, Python classes from 0.3)."""

from __future__ import annotations

import ast

from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.fields import Options, class_fields, nested
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Module, Package

JOB = ("torchtitan/config/job_config.py", "torchtitan/config_manager.py")
TRAINER = "torchtitan/trainer.py"
RUNTIME = ("model_spec.", "metrics.")  # objects that are made, not configured
CUSTOM = tuple(f"torchtitan/{part}/**/job_config.py" for part in ("components", "experiments", "models"))


def read(release: Release) -> Snapshot:
    package = Package(release)
    scopes: dict[str, Options] = {}
    path = release.first(*JOB)
    if path and (module := package.module(path)):
        merge(scopes, package, module, module.classes["JobConfig"])
        for custom in [path for pattern in CUSTOM for path in release.files(pattern)]:  # `job.custom_config_module`
            own = package.module(custom)
            if own and "JobConfig" in own.classes:
                merge(scopes, package, own, own.classes["JobConfig"])
    elif trainer := package.module(TRAINER):
        config = inner_config(trainer.classes["Trainer"])
        if config:
            merge(scopes, package, trainer, config)
        scopes = {name: options for name, options in scopes.items() if not name.startswith(RUNTIME)}
        scopes.update(python_classes(release, package))
    return Snapshot(release.version, release.date, scopes)


def merge(scopes: dict[str, Options], package: Package, module: Module, node: ast.ClassDef) -> None:
    """Adds a configuration's fields as the top level, and the classes of its fields as sections."""
    for scope, options in {"": class_fields(package, module, node), **nested(package, module, node)}.items():
        known = scopes.setdefault(scope, {})
        for name, record in options.items():
            known.setdefault(name, record)


def inner_config(node: ast.ClassDef) -> ast.ClassDef | None:
    """A component's own `Config` class."""
    return next((n for n in node.body if isinstance(n, ast.ClassDef) and n.name == "Config"), None)


def python_classes(release: Release, package: Package) -> dict[str, Options]:
    """Every configuration class as Python code names it: `TrainingConfig`, `Trainer.Config`, ..."""
    scopes: dict[str, Options] = {}
    for path in release.files("torchtitan/**/*.py"):
        if "/experiments/" in path:
            continue
        module = package.module(path)
        for name, node in (module.classes if module else {}).items():
            config = node if name.endswith("Config") else inner_config(node)
            scope = name if name.endswith("Config") else f"{name}.Config"
            if module and config and (options := class_fields(package, module, config)):
                known = scopes.setdefault(scope, {})  # models have classes of one name; which one is meant is not known
                known.update({key: record for key, record in options.items() if key not in known})
    return scopes
