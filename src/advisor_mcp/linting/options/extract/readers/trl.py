"""TRL: every configuration class, with what it shares with TrainingArguments left to transformers' own table."""

from __future__ import annotations

import ast

from advisor_mcp.linting.options.extract.compact import Snapshot, requirement
from advisor_mcp.linting.options.extract.fields import Options, class_fields, class_named
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Module, Package

SCRIPT = ("trl/scripts/utils.py", "trl/utils.py", "trl/commands/cli_utils.py")  # where ScriptArguments lives, by age
FILES = ("trl/trainer/*_config.py", "trl/experimental/**/*_config.py", "trl/trainer/utils.py")


def read(release: Release) -> Snapshot:
    package = Package(release)
    scopes: dict[str, Options] = {}
    inherits: dict[str, str] = {}
    for path in [path for pattern in FILES for path in release.files(pattern)]:
        module = package.module(path)
        for name, node in (module.classes if module else {}).items():
            scope = name.removesuffix("Config").lower()
            if module and name.endswith("Config") and not name.startswith("_") and scope not in scopes:
                scopes[scope] = class_fields(package, module, node)
                if trains(package, module, node):
                    inherits[scope] = "transformers:TrainingArguments"
    scopes.pop("base", None)
    scripts(release, package, scopes)
    metadata = release.text(next(iter(release.files("*.dist-info/METADATA")), ""))
    requires = {"transformers": requirement(metadata, "transformers")}
    return Snapshot(release.version, release.date, scopes, inherits, requires)


def trains(package: Package, module: Module, node: ast.ClassDef) -> bool:
    """Whether a class descends from transformers' TrainingArguments."""
    return any(
        "TrainingArguments" in ast.unparse(base) for _, cls in package.lineage(module, node) for base in cls.bases
    )


def scripts(release: Release, package: Package, scopes: dict[str, Options]) -> None:
    """The arguments that the command-line scripts add, and the dataset mixture that they take."""
    home = release.first(*SCRIPT)
    plain = {
        "script": ("ScriptArguments",),
        "dataset_mixture": ("DatasetMixtureConfig",),
        "dataset_mixture.datasets": ("DatasetConfig",),
        "script:sft": ("SFTScriptArguments", "SftScriptArguments"),
        "script:dpo": ("DPOScriptArguments", "DpoScriptArguments"),
        "script:reward": ("RewardScriptArguments",),
    }
    for scope, names in plain.items():
        for name in names:
            if found := class_named(package, home, name):
                scopes[scope] = class_fields(package, *found)
    for path in release.files("trl/scripts/*.py"):
        module = package.module(path)
        for name, node in (module.classes if module else {}).items():
            stem = path.rpartition("/")[2].removesuffix(".py")
            if module and path != home and name.endswith("Arguments") and "dataclass" in decorators(node):
                scopes[f"script:{stem}"] = class_fields(package, module, node)


def decorators(node: ast.ClassDef) -> str:
    return " ".join(map(ast.unparse, node.decorator_list))
