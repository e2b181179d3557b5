"""Writes the option tables: `python -m advisor_mcp.linting.options.extract [TOOL[=VERSION] ...]`."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

from advisor_mcp.linting.options.extract import compact, sources


def main(arguments: list[str] | None = None) -> int:
    """Downloads the listed releases of each tool, reads them, and writes one file per tool."""
    parser = argparse.ArgumentParser(prog="python -m advisor_mcp.linting.options.extract", description=__doc__)
    parser.add_argument("tools", nargs="*", help="tools to read (TOOL or TOOL=VERSION); all of them by default")
    parser.add_argument("--cache", type=Path, help="keep the unpacked sources here (default: a temporary folder)")
    parser.add_argument(
        "--output", type=Path, default=compact.DATA, help="folder for the files (default: the package's own)"
    )
    parser.add_argument(
        "--repositories", type=Path, help="folder of OWNER+NAME/repo clones, for tools without a package"
    )
    options = parser.parse_args(arguments)
    chosen: dict[str, list[str]] = {}
    for item in options.tools or sources.TOOLS:
        name, _, version = item.partition("=")
        chosen.setdefault(name, []).extend([version] if version else [])
    if unknown := [name for name in chosen if name not in sources.TOOLS]:
        parser.error(f"{', '.join(unknown)}: not known; choose from {', '.join(sources.TOOLS)}")
    with tempfile.TemporaryDirectory() as folder:
        cache = options.cache or Path(folder)
        cache.mkdir(parents=True, exist_ok=True)
        failed = [name for name, versions in chosen.items() if not extract(name, versions, cache, options)]
    return 1 if failed else 0


def extract(name: str, versions: list[str], cache: Path, options: argparse.Namespace) -> bool:
    """One tool's file; False, with the reason on standard error, where a release could not be had."""
    tool = sources.TOOLS[name]
    reader = importlib.import_module(f"advisor_mcp.linting.options.extract.readers.{tool.reader}")
    snapshots: list[compact.Snapshot] = []
    for version in versions or tool.versions:
        try:
            release = tool.release(version, cache, options.repositories)
        except (subprocess.CalledProcessError, sources.Unavailable) as error:
            said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
            print(f"{name} {version}: {said}", file=sys.stderr)
            return False
        snapshots.append(reader.read(release))
    target = options.output / f"{name}.json"
    compact.write(name, tool.source, snapshots, target)
    count = sum(len(o) for o in snapshots[-1].scopes.values())
    print(f"{name}: {len(snapshots)} releases, {count} options in the newest, {target.stat().st_size / 1000:.0f} kB")
    return True


if __name__ == "__main__":
    sys.exit(main())
