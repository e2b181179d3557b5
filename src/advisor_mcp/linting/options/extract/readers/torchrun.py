"""torchrun: the arguments of `torch.distributed.run`."""

from __future__ import annotations

from advisor_mcp.linting.options.extract.arguments import added
from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Package


def read(release: Release) -> Snapshot:
    package = Package(release)
    module = package.module("torch/distributed/run.py")
    assert module is not None
    return Snapshot(release.version, release.date, {"": added(package, module, module.functions["get_args_parser"])})
