"""PEFT: the configuration class of every adapter."""

from __future__ import annotations

from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.fields import Options, class_fields
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Package

FILES = ("peft/config.py", "peft/tuners/**/config.py", "peft/tuners/**/*_config.py", "peft/tuners/*.py")


def read(release: Release) -> Snapshot:
    package = Package(release)
    scopes: dict[str, Options] = {}
    for path in [path for pattern in FILES for path in release.files(pattern)]:
        module = package.module(path)
        for name, node in (module.classes if module else {}).items():
            scope = name.removesuffix("Config").lower()
            if module and name.endswith("Config"):
                scopes.setdefault(scope, class_fields(package, module, node))
    return Snapshot(release.version, release.date, {name: options for name, options in scopes.items() if options})
