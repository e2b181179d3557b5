"""vLLM: `vllm serve` flags (engine arguments, front end, subcommand), nested JSON configs, environment variables."""

from __future__ import annotations

import ast

from advisor_mcp.linting.options.extract.arguments import added
from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.fields import Options, class_fields, class_named, finish, told
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Module, Package, Record, top_level

ENGINE = "vllm/engine/arg_utils.py"
FRONTENDS = (  # where the server's own options have stood, newest first
    "vllm/entrypoints/common/cli_args.py",
    "vllm/entrypoints/launchers/cli_args.py",
    "vllm/entrypoints/openai/cli_args.py",
)
HUMAN = {  # integers that the parser also takes as "1k" or "auto" (their own converter, set by name in get_kwargs)
    "max_model_len",
    "max_num_batched_tokens",
    "max_num_scheduled_tokens",
    "kv_cache_memory_bytes",
    "safetensors_prefetch_block_size",
    "max_num_queued_tokens",
}


def read(release: Release) -> Snapshot:
    package = Package(release)
    serve: Options = {}
    nested: dict[str, Options] = {}
    subcommand = release.first("vllm/entrypoints/cli/serve.py", "vllm/scripts.py")
    frontend = release.first(*FRONTENDS)
    for path, only in ((subcommand, "serve_parser"), (frontend, ""), (ENGINE, "")):
        if module := package.module(path):
            serve.update(own_flags(package, module, only))
            serve.update(front_end(package, module))
            told(module.tree, serve)
    if module := package.module(ENGINE):
        nested = nested_configs(package, module)
    pair_inverses(release, serve)
    return Snapshot(release.version, release.date, {"serve": serve, "env": environment(package), **nested})


def own_flags(package: Package, module: Module, only: str) -> Options:
    """The `add_argument` calls of a file; with `only`, those on that parser variable (old `scripts.py` has several)."""
    options: Options = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef):
            kwargs = keyword_tables(node)

            def spread(expression: ast.expr, kwargs: dict[str, ast.expr] = kwargs) -> Record:
                return from_kwargs(package, module, kwargs, expression)

            body: ast.AST = node
            if only and module.path.endswith("scripts.py"):
                body = ast.Module([s for s in node.body if f"{only}.add_argument" in ast.unparse(s)], [])
            for name, record in added(package, module, body, spread).items():
                options.setdefault(name, record)
    return options


def keyword_tables(function: ast.FunctionDef) -> dict[str, ast.expr]:
    """Local names that stand for `get_kwargs(Class)` or for one entry of such a table."""
    return {
        node.targets[0].id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and "kwargs" in node.targets[0].id
    }


def from_kwargs(
    package: Package, module: Module, kwargs: dict[str, ast.expr], node: ast.expr, depth: int = 0
) -> Record:
    """What `**config_kwargs["field"]` passes to `add_argument`: made from the config class's field, as `get_kwargs` does."""
    if depth > 4:
        return {}
    if isinstance(node, ast.Dict):
        merged: Record = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                merged.update(from_kwargs(package, module, kwargs, value, depth + 1))
            elif isinstance(key, ast.Constant) and key.value == "default":
                package.put_default(module, merged, value)
        return merged
    if isinstance(node, ast.Name) and node.id in kwargs:
        return from_kwargs(package, module, kwargs, kwargs[node.id], depth + 1)
    if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Constant):
        return {}
    table: ast.expr = node.value
    if isinstance(table, ast.Name):
        table = kwargs.get(table.id, table)
    if not isinstance(table, ast.Call) or not table.args:
        return {}
    found = package.follow(module, table.args[0])
    if not found or not isinstance(found[1], ast.ClassDef):
        return {}
    return as_flag(str(node.slice.value), class_fields(package, found[0], found[1]).get(str(node.slice.value), {}))


def as_flag(name: str, field: Record) -> Record:
    """A config field as a flag: switches for booleans, several values for lists, numbers with a suffix."""
    record = dict(field)
    record.pop("req", None)
    kinds = set(str(record.get("t", "any")).split("|"))
    if kinds == {"bool", "str", "null"}:
        record["n"] = "?"
    elif "bool" in kinds:
        record.update(n=0, t="bool", both=True)
    elif "list" in kinds:
        record.update(n="+")
    elif name in HUMAN:
        record["t"] = "int|str" + ("|null" if "null" in kinds else "")
    return record


def front_end(package: Package, module: Module) -> Options:
    """The fields of `FrontendArgs`, each of which becomes a flag; older files declare flags by hand."""
    node = module.classes.get("FrontendArgs")
    if node is None:
        return {}
    options: Options = {}
    for name, field in class_fields(package, module, node).items():
        record = as_flag(name, field)
        if record.pop("both", False):
            record["a"] = [f"--no-{name.replace('_', '-')}"]
        options[name] = finish({"has_default": True, **record})
    return options


def nested_configs(package: Package, module: Module) -> dict[str, Options]:
    """The fields of the config classes that a flag takes as JSON, by the flag's name."""
    node = module.classes.get("EngineArgs")
    scopes: dict[str, Options] = {}
    for statement in node.body if node else []:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            for part in ast.walk(statement.annotation):
                found = (
                    package.follow(module, part) if isinstance(part, ast.Name) and part.id.endswith("Config") else None
                )
                if found and isinstance(found[1], ast.ClassDef) and statement.target.id.endswith("config"):
                    scopes[statement.target.id] = class_fields(package, found[0], found[1])
    if "speculative_config" not in scopes and (spec := class_named(package, ENGINE, "SpeculativeConfig")):
        scopes["speculative_config"] = class_fields(package, *spec)
    return {name: options for name, options in scopes.items() if options}


def pair_inverses(release: Release, serve: Options) -> None:
    """`--enable-x` also as `--disable-x` and back, where the parser of this release pairs them."""
    parser = release.first("vllm/utils/argparse_utils.py")
    if "_inverse_prefixes" not in release.text(parser):
        return
    for name, record in serve.items():
        if record.get("n") == 0 and any(s.startswith("--no-") for s in record.get("a", ())):
            for prefix, inverse in (("enable_", "disable-"), ("disable_", "enable-")):
                if name.startswith(prefix):
                    record["a"].append(f"--{inverse}{name.removeprefix(prefix).replace('_', '-')}")


def environment(package: Package) -> Options:
    """The keys of `environment_variables` in envs.py, with the types and defaults that the same file declares."""
    module = package.module("vllm/envs.py")
    if module is None:
        return {}
    declared = {
        node.target.id: node
        for node in top_level(module.tree.body)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    table = module.values.get("environment_variables")
    options: Options = {}
    for key in table.keys if isinstance(table, ast.Dict) else []:
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            record: Record = {"has_default": True}
            if node := declared.get(key.value):
                record.update(package.annotation(module, node.annotation))
                if node.value is not None:
                    package.put_default(module, record, node.value)
            options[key.value] = finish(record)
    return options
