"""The wheel, the sdist and the checkout hold the same content, and the wheel works with nothing but what it requires."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def build(source: Path, target: str, out: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    return next(out.iterdir())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


def required(name: str, found: dict[str, Distribution] | None = None) -> dict[str, Distribution]:
    """The distributions that installing `name` without extras brings, itself aside."""
    found = {} if found is None else found
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
        wanted = [{"extra": extra} for extra in ("", *extras(name, found))]
        if key not in found and (requirement.marker is None or any(requirement.marker.evaluate(e) for e in wanted)):
            found[key] = distribution(requirement.name)
            EXTRAS.setdefault(key, set()).update(requirement.extras)
            required(requirement.name, found)
    return found


EXTRAS: dict[str, set[str]] = {}


def extras(name: str, _: object) -> Iterator[str]:
    yield from EXTRAS.get(re.sub(r"[-_.]+", "-", name).lower(), ())


@pytest.fixture(scope="module")
def bare_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the unpacked wheel and links to its requirements, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for found in required("advisor-mcp").values():
        root = Path(str(found.locate_file("")))
        for top in {Path(str(file)).parts[0] for file in found.files or () if not str(file).startswith("..")} - {
            "__pycache__"
        }:
            if not (site / top).exists():
                (site / top).symlink_to(root / top)
    return python


def test_a_bare_environment_has_no_development_extras(bare_python: Path) -> None:
    probe = "import importlib.util as u; print([n for n in ('pytest', 'mypy', 'hypothesis', 'torch', 'anthropic') if u.find_spec(n)])"
    assert subprocess.run([bare_python, "-c", probe], check=True, capture_output=True, text=True).stdout.strip() == "[]"


def test_the_installed_wheel_answers_a_tool_call_over_stdio(bare_python: Path, tmp_path: Path) -> None:
    requests = [
        {
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "t", "version": "1"},
            },
        },
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "describe_model", "arguments": {"model": "llama-3.1-8b"}}},
    ]
    server = subprocess.Popen(
        [bare_python, "-m", "advisor_mcp", "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=tmp_path, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, text=True,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    with server:
        for request in requests:
            server.stdin.write(json.dumps({"jsonrpc": "2.0", **request}) + "\n")
        server.stdin.flush()
        answers = {found.get("id"): found for found in (json.loads(server.stdout.readline()) for _ in range(2))}
        server.stdin.close()
    result = answers[2]["result"]
    assert not result.get("isError")
    assert result["structuredContent"]["parameters"]["total"] == 8_030_261_248
    assert server.returncode == 0


def content_of(names: Iterator[str]) -> set[str]:
    return {
        name.split("advisor_mcp/", 1)[1]
        for name in names
        if "advisor_mcp/" in name and not name.endswith(("/", ".pyc"))
    }


def test_the_wheel_from_the_sdist_holds_what_the_wheel_from_the_checkout_holds(wheel: Path, tmp_path: Path) -> None:
    sdist = build(ROOT, "sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    rebuilt = build(next((tmp_path / "unpacked").iterdir()), "wheel", tmp_path / "rebuilt")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(rebuilt) as second:
        held = content_of(iter(first.namelist()))
        assert held == content_of(iter(second.namelist()))
    checkout = {
        f"_content/{p.relative_to(ROOT).as_posix()}"
        for folder in ("tools", "personas")
        for p in (ROOT / folder).glob("*.*")
    }
    assert checkout <= held
    assert {
        "_content/tools/catalogue.json",
        "_content/personas/optima.md",
        "py.typed",
        "knowledge/facts/gpus/hopper.toml",
    } <= held
