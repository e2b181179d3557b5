"""Accelerate: its YAML (top level and the sections whose keys become launch flags) and `accelerate launch`."""

from __future__ import annotations

import ast

from advisor_mcp.linting.options.extract.arguments import added, calls
from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.fields import Options, class_fields
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Module, Package, Record, Unknown

LAUNCH = "accelerate/commands/launch.py"
YAML = "accelerate/commands/config/config_args.py"
QUESTIONS = "accelerate/commands/config/cluster.py"
SECTIONS = {  # section of the YAML: the argument group of `launch` that it fills, the prefix of the flags' names
    "fsdp_config": ("fsdp_args", "fsdp_"),
    "deepspeed_config": ("deepspeed_args", ""),
    "megatron_lm_config": ("megatron_lm_args", ""),
    "parallelism_config": ("parallelism_config_args", ""),
    "fp8_config": ("fp8_args", "fp8_"),
    "dynamo_config": ("resource_args", "dynamo_"),
    "mpirun_config": ("mpirun_args", ""),
    "ipex_config": ("ipex_args", ""),
}
OPTIONAL_PREFIX = {"fsdp_config", "fp8_config", "dynamo_config"}  # `launch` adds the prefix where a key lacks it


def read(release: Release) -> Snapshot:
    package = Package(release)
    scopes: dict[str, Options] = {}
    launch = package.module(LAUNCH)
    assert launch is not None
    scopes["launch"] = added(package, launch, launch.functions["launch_command_parser"])
    config = package.module(YAML)
    assert config is not None
    scopes[""] = class_fields(package, config, config.classes["ClusterConfig"])
    for key in converted(config):
        scopes[""].setdefault(key, {"dep": "deprecated"})
    scopes["sagemaker"] = class_fields(package, config, config.classes["SageMakerConfig"])
    for section, (group, prefix) in SECTIONS.items():
        if section not in scopes[""]:
            continue
        options = section_flags(scopes["launch"], members(package, launch, group), prefix)
        for key in asked(package, section):
            if section not in OPTIONAL_PREFIX or prefix + key not in options:
                options.setdefault(key, {"t": "any"})
        if section in OPTIONAL_PREFIX:
            options = {name: with_short(record, name, prefix) for name, record in options.items()}
        scopes[section] = options
    return Snapshot(release.version, release.date, scopes)


def members(package: Package, module: Module, group: str) -> set[str]:
    """The flags that one argument group of `launch` declares."""
    found: set[str] = set()
    for call in calls(module.functions["launch_command_parser"]):
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == group:
            found |= set(added(package, module, ast.Module([ast.Expr(call)], [])))
    return found


def section_flags(flags: Options, names: set[str], prefix: str) -> Options:
    """The flags of a group as keys of its section: no longer switches, never required."""
    options: Options = {}
    for name in sorted(names):
        if name.startswith(prefix) and name in flags:
            options[name] = {k: v for k, v in flags[name].items() if k not in {"n", "req", "a"}}
            if "str" in str(options[name].get("t")) and "c" not in options[name]:
                options[name].pop("t")  # YAML holds numbers and booleans where a command line holds text
    return options


def with_short(record: Record, name: str, prefix: str) -> Record:
    return {**record, "a": [name.removeprefix(prefix)]} if name.startswith(prefix) else record


def asked(package: Package, section: str) -> list[str]:
    """The keys that `accelerate config` writes into a section."""
    module = package.module(QUESTIONS)
    keys: list[str] = []
    for node in ast.walk(module.tree) if module else ():
        written = isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
        if module and written and isinstance(node, ast.Subscript) and ast.unparse(node.value) == section:
            keys.append(key_of(package, module, node.slice))
    return [key for key in dict.fromkeys(keys) if key]


def key_of(package: Package, module: Module, node: ast.expr) -> str:
    """A key written as a literal, or as `prefix + "name"` with the prefix assigned in the same function."""
    if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Name) and isinstance(node.right, ast.Constant):
        near = [
            n
            for n in ast.walk(module.tree)
            if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == node.left.id and n.lineno < node.lineno
        ]
        return f"{package.value(module, near[-1].value)}{node.right.value!s}" if near else ""
    try:
        value = package.value(module, node)
    except Unknown:
        return ""
    return value if isinstance(value, str) else ""


def converted(module: Module) -> list[str]:
    """Old keys that reading the file still takes and rewrites."""
    processing = [n for n in ast.walk(module.tree) if isinstance(n, ast.FunctionDef) and n.name == "process_config"]
    tests = [n for f in processing for n in ast.walk(f) if isinstance(n, ast.If) and isinstance(n.test, ast.Compare)]
    found = [n.test.left for n in tests if isinstance(n.test, ast.Compare) and isinstance(n.test.ops[0], ast.In)]
    return [str(node.value) for node in found if isinstance(node, ast.Constant)]
