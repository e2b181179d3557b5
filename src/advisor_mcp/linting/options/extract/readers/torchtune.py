"""torchtune: the keys that each recipe reads, and the keyword arguments of each component a file can name."""

from __future__ import annotations

import ast

from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.fields import Options, class_fields, finish, signature
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Module, Package, Record, strings

REGISTRY = "torchtune/_recipe_registry.py"
EXPORTING = (  # packages whose `__init__` gathers the names that users write
    "torchtune/data/__init__.py",
    "torchtune/datasets/**/__init__.py",
    "torchtune/models/*/__init__.py",
    "torchtune/modules/loss/__init__.py",
    "torchtune/modules/tokenizers/__init__.py",
    "torchtune/modules/transforms/**/__init__.py",
    "torchtune/rlhf/**/__init__.py",
    "torchtune/training/**/__init__.py",
)
PLAIN = ("metric_logging", "lr_schedulers", "quantization")  # public modules of torchtune.training
ANYTHING = "**"  # the component takes any further keyword


def read(release: Release) -> Snapshot:
    package = Package(release)
    scopes: dict[str, Options] = {}
    registry = package.module(REGISTRY)
    for call in ast.walk(registry.tree) if registry else ():
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Recipe":
            words = {k.arg: strings(k.value)[0] for k in call.keywords if k.arg in {"name", "file_path"}}
            module = package.module(f"recipes/{words['file_path']}")
            if module:
                scopes[f"recipe:{words['name']}"] = keys_read(package, module)
    for path in [path for pattern in EXPORTING for path in release.files(pattern)]:
        module = package.module(path)
        for name in exported(module) if module else ():
            if module and (options := arguments(package, module, name)) is not None:
                scopes[f"component:{module.dotted}.{name}"] = options
    for path in [f"torchtune/training/{name}.py" for name in PLAIN] + release.files("torchtune/dev/**/*.py"):
        module = package.module(path)
        for name in (
            dict.fromkeys([*exported(module), *module.classes, *module.functions])
            if module and "/_" not in path
            else ()
        ):
            if module and not name.startswith("_") and (options := arguments(package, module, name)) is not None:
                scopes[f"component:{module.dotted}.{name}"] = options
    return Snapshot(release.version, release.date, scopes)


def keys_read(package: Package, module: Module) -> Options:
    """`cfg.key` and `cfg.get("key", default)`: a key that is only read as an attribute must be there."""
    options: Options = {}
    optional: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"cfg", "self.cfg", "self._cfg"}:
            if node.attr not in {"get", "pop", "keys", "items", "update", "copy"}:
                options.setdefault(node.attr, {"t": "any"})
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {
            "cfg.get",
            "self.cfg.get",
            "self._cfg.get",
            "cfg.pop",
        }:
            key = package.value(module, node.args[0])
            record = options.setdefault(str(key), {"t": "any"})
            optional.add(str(key))
            if len(node.args) > 1:
                package.put_default(module, record, node.args[1])
    for name, record in options.items():
        if name in optional:
            record["has_default"] = True
    return {name: finish(record) for name, record in options.items()}


def exported(module: Module) -> list[str]:
    """The public names of a package's `__init__`."""
    listed = module.values.get("__all__")
    inits = module.path.endswith("__init__.py")
    names = strings(listed) if listed is not None else list(module.imports) if inits else []
    return [name for name in names if not name.startswith("_") and "_to_" not in name]  # no weight converters


def arguments(package: Package, module: Module, name: str) -> Options | None:
    """The keyword arguments of a function or class; None for what is neither."""
    found = package.find(module, name)
    if found is None:  # taken from another package: known, its arguments are not
        return {ANYTHING: {"t": "dict"}} if name in module.imports else None
    home, node = found
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("partial") and isinstance(node.args[0], ast.Name):
        node = node.args[0]
    if isinstance(node, ast.Name):
        return arguments(package, home, node.id) if node.id != name else None
    if isinstance(node, ast.FunctionDef):
        return with_rest(signature(package, home, node), node)
    if isinstance(node, ast.ClassDef):
        for owner, cls in package.lineage(home, node):
            for statement in cls.body:
                if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                    return with_rest(signature(package, owner, statement), statement)
        return class_fields(package, home, node)
    return None


def with_rest(options: Options, node: ast.FunctionDef) -> Options:
    rest: Record = {"t": "dict"}
    return {**options, ANYTHING: rest} if node.args.kwarg else options
