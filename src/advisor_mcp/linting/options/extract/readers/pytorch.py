"""PyTorch's environment variables: those that its Python reads and those that its C++ headers name."""

from __future__ import annotations

import re

from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.environments import reads
from advisor_mcp.linting.options.extract.fields import Options
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.reading import Package

NAMES = re.compile(
    r"\b(PYTORCH|TORCH|TORCHINDUCTOR|TORCHDYNAMO|TORCHELASTIC|ATEN|C10|GLOO|CUDA|CUBLAS|NCCL)_[A-Z0-9_]+\b"
)
MACROS = ("TORCH_LIBRARY", "TORCH_CHECK", "TORCH_FUNCTION_MODE", "PYTORCH_TEST_", "TORCH_INTERNAL")
QUOTED = re.compile(r'"((?:PYTORCH|TORCH|NCCL|GLOO)_[A-Z0-9_]{3,})"')
LISTED = re.compile(r"=\s*\{\s*((?:\"[A-Z0-9_]+\"\s*,?\s*)+)\}")


def read(release: Release) -> Snapshot:
    package = Package(release)
    options: Options = {}
    for name, record in reads(package, "torch/**/*.py", NAMES).items():
        if not name.startswith(("CUDA_", "CUBLAS_", "NCCL_")):
            options[name] = record
    for path in release.files("torch/lib/*.names"):
        for name in release.text(path).split():
            if NAMES.fullmatch(name) and name.startswith(("PYTORCH_", "TORCH_")) and not name.startswith(MACROS):
                options.setdefault(name, {"t": "any"})
    headers = [*release.files("torch/include/**/*.h"), *release.files("torch/include/**/*.hpp")]
    for path in headers:
        text = release.text(path)
        for name in QUOTED.findall(text):
            if name.startswith(("PYTORCH_", "TORCH_")) or f"TORCH_{name}" in text:
                options.setdefault(name, {"t": "any"})
        for group in LISTED.findall(
            text
        ):  # {"TORCH_NCCL_X", "NCCL_X"}: the names of one setting, the current one first
            names = re.findall(r'"([A-Z0-9_]+)"', group)
            for old in names[1:]:
                if names[0].startswith("TORCH_"):
                    options[old] = {"dep": "deprecated", "mentions": [names[0]]}
    return Snapshot(release.version, release.date, {"env": options})
