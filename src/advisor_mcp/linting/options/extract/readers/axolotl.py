"""Axolotl's YAML: the pydantic schema of the whole file, of its sections, and of the plugins that add keys."""

from __future__ import annotations

import re

from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.fields import Options, class_fields, nested
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Package

SCHEMAS = ("axolotl/utils/schemas/config.py", "axolotl/utils/config/models/input/v0_4_1/__init__.py")


def read(release: Release) -> Snapshot:
    base = "src/" if release.files("src/axolotl/*.py") else ""
    package = Package(release, base)
    module = package.module(release.first(*(base + path for path in SCHEMAS)))
    assert module is not None
    root = module.classes["AxolotlInputConfig"]
    top: Options = class_fields(package, module, root)
    scopes = {"": top, **nested(package, module, root)}
    for path in release.files(f"{base}axolotl/integrations/*/args.py"):
        plugin = package.module(path)
        chosen = declared(release, path.rpartition("/")[0])
        for name, node in (plugin.classes if plugin else {}).items():
            if plugin and name in chosen:
                for key, record in class_fields(package, plugin, node).items():
                    top.setdefault(key, record)
                for scope, options in nested(package, plugin, node).items():
                    scopes.setdefault(scope, options)
    if any(
        "check_fsdp_config_kwargs_prefix" in release.text(path)
        for path in release.files(f"{base}axolotl/utils/**/*.py")
    ):
        for name, record in scopes.get("fsdp_config", {}).items():  # a validator strips the prefix, and warns
            record["a"] = [*record.get("a", []), f"fsdp_{name}"]
    return Snapshot(release.version, release.date, scopes)


def declared(release: Release, folder: str) -> set[str]:
    """The classes that a plugin hands to the whole file's schema (`get_input_args` returns their dotted names)."""
    texts = "\n".join(release.text(path) for path in release.files(f"{folder}/*.py"))
    return {
        name
        for dotted in re.findall(r"return\s+\(?\s*[\"']([\w.]+)[\"']", texts)
        for name in [dotted.rpartition(".")[2]]
    }
