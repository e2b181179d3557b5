"""NCCL's environment variables: the names that its library holds."""

from __future__ import annotations

import re

from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.fields import Options
from advisor_mcp.linting.options.extract.packages import Release

NAME = re.compile(r"NCCL_[A-Z0-9_]+")


def read(release: Release) -> Snapshot:
    options: Options = {}
    for path in release.files("nvidia/nccl/lib/*.names"):
        for name in release.text(path).split():
            if NAME.fullmatch(name):
                options[name] = {"t": "any"}
    return Snapshot(release.version, release.date, {"env": options})
