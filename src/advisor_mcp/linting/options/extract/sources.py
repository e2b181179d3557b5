"""Which releases of which tools are read, and where each comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
    paths: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Where the data was read, in words."""
        return f"github {self.repository.replace('+', '/')}" if self.repository else f"PyPI {self.package}"

    def release(self, version: str, cache: Path, repositories: Path | None) -> Release:
        if not self.repository:
            return packages.obtain(self.package, version, cache, self.keep, self.platform)
        if repositories is None or not (repositories / self.repository).is_dir():
            raise Unavailable(f"needs a clone of {self.repository.replace('+', '/')} under --repositories")
        clone = repositories / self.repository / "repo"
        return packages.from_git(clone, self.tag.format(version), version, cache, self.paths)


def oldest_first(versions: str) -> tuple[str, ...]:
    return tuple(versions.split())


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
}
