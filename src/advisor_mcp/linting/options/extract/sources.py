"""Which releases of which tools are read, and where each comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from advisor_mcp.linting.options.extract import packages
from advisor_mcp.linting.options.extract.packages import Release


class Unavailable(Exception):
    """A source that this machine does not have."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool's package (or stored repository) and the releases to read, oldest first."""

    reader: str
    package: str
    versions: tuple[str, ...]
    keep: Callable[[str], bool] = packages.python_only
    platform: str = ""
    repository: str = ""  # OWNER+NAME, for what no package holds
    tag: str = "v{}"
    tags: Mapping[str, str] = field(default_factory=dict)  # where a version's tag is not `tag`
    paths: tuple[str, ...] = ()
    beside: tuple[str, Mapping[str, str]] = ("", MappingProxyType({}))  # a package to read along, by version

    @property
    def source(self) -> str:
        """Where the data was read, in words."""
        places = [f"PyPI {self.package}"] if self.package else []
        if self.repository:
            commits = "".join(f" {version} at {commit[:7]}" for version, commit in self.tags.items())
            places.append(f"github {self.repository.replace('+', '/')}{commits}")
        return "; ".join(places)

    def release(self, version: str, cache: Path, repositories: Path | None) -> Release:
        if self.package and version not in self.tags:
            release = packages.obtain(self.package, version, cache, self.keep, self.platform)
            other, versions = self.beside
            if version in versions:
                return replace(release, beside=packages.obtain(other, versions[version], cache))
            return release
        if repositories is None or not (repositories / self.repository).is_dir():
            raise Unavailable(f"needs a clone of {self.repository.replace('+', '/')} under --repositories")
        clone = repositories / self.repository / "repo"
        return packages.from_git(clone, self.tags.get(version, self.tag.format(version)), version, cache, self.paths)


def source_and_headers(path: str) -> bool:
    """Python, C++ headers and the main libraries, PyTorch's own test code apart."""
    kept = (".py", ".h", ".hpp", "METADATA", "libtorch_cpu.dylib", "libc10.dylib", "libtorch_python.dylib")
    return path.endswith(kept) and not path.startswith(("torch/testing/_internal", "test"))


def nccl_library(path: str) -> bool:
    """NCCL's library, for the variables that it names."""
    return path.endswith(("libnccl.so.2", "METADATA"))


def oldest_first(versions: str) -> tuple[str, ...]:
    return tuple(versions.split())


TORCH = Tool(
    "torchrun",
    "torch",
    oldest_first(
        "2.1.0 2.2.0 2.3.0 2.4.0 2.5.0 2.6.0 2.7.0 2.8.0 2.9.0 2.10.0 2.11.0 2.12.0 2.13.0 2.14.0 2.14.1 2.15.0"
    ),
    keep=source_and_headers,
    platform="macosx_15_0_arm64",  # the smallest wheel; Python and headers are the same in all
)
TOOLS: dict[str, Tool] = {
    "transformers": Tool(
        "transformers",
        "transformers",
        oldest_first(
            "4.36.0 4.36.1 4.36.2 4.37.0 4.37.1 4.37.2 4.38.0 4.38.1 4.38.2 4.39.0 4.39.1 4.39.3 4.40.0 4.40.1 4.40.2 4.41.0"
            " 4.41.1 4.41.2 4.42.0 4.42.1 4.42.2 4.42.3 4.42.4 4.43.0 4.43.1 4.43.2 4.43.3 4.43.4 4.44.0 4.44.1 4.44.2 4.45.0"
            " 4.45.1 4.45.2 4.46.1 4.46.2 4.46.3 4.47.0 4.47.1 4.48.0 4.48.1 4.48.2 4.48.3 4.49.0 4.50.0 4.50.1 4.50.2 4.50.3"
            " 4.51.0 4.51.1 4.51.2 4.51.3 4.52.1 4.52.2 4.52.3 4.52.4 4.53.0 4.53.1 4.53.2 4.53.3 4.54.0 4.54.1 4.55.0 4.55.1"
            " 4.55.2 4.55.3 4.55.4 4.56.0 4.56.1 4.56.2 4.57.1 4.57.2 4.57.3 4.57.4 4.57.5 4.57.6 5.0.0 5.1.0 5.2.0 5.3.0 5.4.0"
            " 5.5.0 5.5.1 5.5.2 5.5.3 5.5.4 5.6.0 5.6.1 5.6.2 5.7.0 5.8.0 5.8.1 5.9.0 5.10.1 5.10.2 5.10.4 5.11.0 5.12.0 5.12.1"
            " 5.13.0 5.13.1 5.14.0 5.14.1 5.15.0 5.15.1 5.16.0 5.16.1 5.17.0 5.18.0 5.19.0 5.20.0 5.20.1 5.20.2 5.21.0 5.21.1"
            " 5.22.0 5.22.1 5.22.2 5.23.0"
        ),
    ),
    "vllm": Tool(
        "vllm",
        "vllm",
        oldest_first(
            "0.5.4 0.5.5 0.6.0 0.6.1.post2 0.6.2 0.6.3.post1 0.6.4.post1 0.6.5 0.6.6.post1 0.7.0 0.7.1 0.7.2 0.7.3 0.8.0 0.8.1"
            " 0.8.2 0.8.3 0.8.4 0.8.5.post1 0.9.0.1 0.9.1 0.9.2 0.10.0 0.10.1.1 0.10.2 0.11.0 0.11.1 0.11.2 0.12.0 0.13.0"
            " 0.14.0 0.14.1 0.15.0 0.15.1 0.16.0 0.17.0 0.17.1 0.18.0 0.18.1 0.19.0 0.19.1 0.20.0 0.20.1 0.20.2 0.21.0 0.22.0"
            " 0.22.1 0.23.0 0.24.0 0.25.0 0.25.1 0.26.0 0.27.0 0.27.1 0.28.0 0.29.0 0.30.0 0.31.0 0.32.0 0.33.0"
        ),
    ),
    "deepspeed": Tool(
        "deepspeed",
        "deepspeed",
        oldest_first(
            "0.9.5 0.10.3 0.11.2 0.12.3 0.12.6 0.13.5 0.14.0 0.14.1 0.14.2 0.14.3 0.14.4 0.14.5"
            " 0.15.0 0.15.1 0.15.2 0.15.3 0.15.4 0.16.0 0.16.1 0.16.2 0.16.3 0.16.4 0.16.5 0.16.6 0.16.7 0.16.8 0.16.9 0.17.0"
            " 0.17.1 0.17.2 0.17.3 0.17.4 0.17.5 0.17.6 0.18.0 0.18.1 0.18.2 0.18.3 0.18.4 0.18.5 0.18.6 0.18.7 0.18.8 0.18.9"
            " 0.19.0 0.19.1 0.19.2 0.19.3 0.19.4 0.19.5 0.19.6 0.19.7 0.19.8"
        ),
    ),
    "trl": Tool(
        "trl",
        "trl",
        oldest_first(
            "0.7.11 0.8.6 0.9.4 0.9.6 0.10.1 0.11.0 0.11.4 0.12.0 0.12.2 0.13.0 0.14.0 0.15.0 0.15.2 0.16.0 0.16.1 0.17.0 0.18.0"
            " 0.18.2 0.19.0 0.19.1 0.20.0 0.21.0 0.22.0 0.22.2 0.23.0 0.23.1 0.24.0 0.25.0 0.25.1 0.26.0 0.26.2 0.27.0 0.27.2"
            " 0.28.0 0.29.0 0.29.1 1.0.0 1.1.0 1.2.0 1.3.0 1.4.0 1.5.0 1.5.1 1.6.0 1.7.0 1.7.1 1.8.0 1.9.0 1.9.2 1.10.0 1.11.0"
            " 1.12.0 1.13.0 1.14.0 1.14.2 1.15.0 1.16.0"
        ),
    ),
    "axolotl": Tool(
        "axolotl",
        "axolotl",
        oldest_first(
            "0.6.0 0.7.0 0.8.0 0.8.1 0.9.0 0.9.1 0.9.2 0.10.0 0.11.0 0.12.0 0.12.1 0.12.2 0.13.1 0.13.2 0.14.0 0.15.0 0.16.0"
            " 0.16.1 0.17.0 0.18.0 0.19.0 0.20.0 0.21.0"
        ),
    ),
    "llamafactory": Tool(
        "llamafactory", "llamafactory", oldest_first("0.8.0 0.8.3 0.9.0 0.9.1 0.9.2 0.9.3 0.9.4 0.9.5")
    ),
    "accelerate": Tool(
        "accelerate",
        "accelerate",
        oldest_first(
            "0.27.2 0.28.0 0.29.3 0.30.1 0.31.0 0.32.1 0.33.0 0.34.2 1.0.1 1.1.1 1.2.1 1.3.0 1.4.0 1.5.2 1.6.0 1.7.0 1.8.1 1.9.0"
            " 1.10.0 1.10.1 1.11.0 1.12.0 1.13.0 1.14.0 1.15.0"
        ),
    ),
    "sglang": Tool(
        "sglang",
        "sglang",
        oldest_first(
            "0.3.4.post2 0.3.5.post2 0.3.6.post3 0.4.0.post2 0.4.1.post7 0.4.2.post4 0.4.3.post4 0.4.4.post4 0.4.5.post3 0.4.6"
            " 0.4.6.post5 0.4.7.post1 0.4.8.post1 0.4.9 0.4.9.post6 0.4.10.post2 0.5.1 0.5.1.post3 0.5.2 0.5.3 0.5.3.post3"
            " 0.5.4.post3 0.5.5.post3 0.5.6.post2 0.5.7 0.5.8.post1 0.5.9 0.5.10.post1 0.5.11 0.5.12.post1 0.5.13.post1 0.5.14"
            " 0.5.15.post1 0.5.16 0.5.17 0.5.18 0.5.19 0.5.20 0.5.21 0.5.22 0.5.23"
        ),
    ),
    "megatron-lm": Tool(
        "megatron_lm",
        "",
        oldest_first(
            "0.8.0 0.9.0 0.10.0 0.11.0 0.12.0 0.13.0 0.14.0 0.15.0 0.15.3 0.16.0 0.16.1"
            " 0.17.0 0.17.1 0.18.0 0.18.2 0.19.0 0.20.0.dev0"
        ),
        repository="NVIDIA+Megatron-LM",
        tag="core_v{}",
        tags={"0.20.0.dev0": "d98e8a64ddf34856e74b24714e3bedb2f5a39553"},
        paths=("megatron", "examples", "tasks", "tools", "pretrain_gpt.py", "pretrain_vlm.py"),
    ),
    "torchtitan": Tool("torchtitan", "torchtitan", oldest_first("0.1.0 0.2.0 0.2.1 0.2.2 0.3.0")),
    "torchtune": Tool(
        "torchtune",
        "torchtune",
        oldest_first("0.3.1 0.4.0 0.5.0 0.6.0 0.6.1 0.7.0.dev0"),
        repository="meta-pytorch+torchtune",
        tags={"0.7.0.dev0": "bd2a0fc7c31430972728494fa01aaeeb0ebf1ba1"},  # never released
        paths=("torchtune", "recipes"),
    ),
    "megatron-core": Tool(
        "megatron_core",
        "megatron-core",
        oldest_first(
            "0.8.0 0.9.0 0.10.0 0.11.0 0.12.0 0.12.3 0.13.0 0.13.1 0.14.0 0.15.0 0.15.3 0.16.0 0.16.1 0.17.0 0.17.1 0.18.0 0.18.2"
            " 0.19.0 0.19.2"
        ),
    ),
    "megatron-bridge": Tool(
        "megatron_bridge",
        "megatron-bridge",
        oldest_first("0.3.0 0.3.1 0.4.0 0.4.2 0.5.0 0.5.1 0.6.0 0.6.2"),
        beside=(
            "megatron-core",
            {
                "0.3.0": "0.16.0",
                "0.3.1": "0.16.1",
                "0.4.0": "0.17.0",
                "0.4.2": "0.17.1",
                "0.5.0": "0.18.0",
                "0.5.1": "0.18.0",
                "0.6.0": "0.19.0",
                "0.6.2": "0.19.2",
            },
        ),
    ),
    "peft": Tool(
        "peft",
        "peft",
        oldest_first(
            "0.10.0 0.11.1 0.12.0 0.13.0 0.13.2 0.14.0 0.15.0 0.15.2 0.16.0 0.17.0 0.17.1 0.18.0 0.18.1 0.19.1 0.20.0 0.21.0 0.21.2"
        ),
    ),
    "llama.cpp": Tool(
        "llama_cpp",
        "llama-cpp-python",
        oldest_first(
            "0.3.1 0.3.2 0.3.5 0.3.7 0.3.8 0.3.9 0.3.10 0.3.12 0.3.14 0.3.16 0.3.17 0.3.18 0.3.19 0.3.20 0.3.21 0.3.22 0.3.23"
            " 0.3.24 0.3.25 0.3.26 0.3.27 0.3.28 0.3.29 0.3.30 0.3.31 0.3.32 0.3.33 0.3.34 0.3.35 0.3.36"
        ),
        keep=lambda path: path in {"vendor/llama.cpp/common/arg.cpp", "PKG-INFO"},
    ),
    "torchrun": TORCH,
    "pytorch": replace(TORCH, reader="pytorch"),
    "nccl": Tool(
        "nccl",
        "nvidia-nccl-cu12",
        oldest_first(
            "2.18.3 2.19.3 2.20.5 2.21.5 2.22.3 2.23.4 2.24.3 2.25.1 2.26.2 2.26.5 2.27.3 2.27.5 2.27.7 2.28.3 2.28.9 2.29.2 2.29.7"
            " 2.30.4 2.30.7 2.31.2 2.32.3"
        ),
        keep=nccl_library,
    ),
}
