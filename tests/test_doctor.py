"""The doctor: one line for each thing it looks at, with what to do."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from advisor_mcp import __version__, doctor
from advisor_mcp.connecting import CLIENTS, config_path, install
from advisor_mcp.doctor import Check
from advisor_mcp.errors import CannotAnswer
from advisor_mcp.gpus import DeviceReading, DriverReading
from advisor_mcp.gpus.devices import NoDevices


@dataclass
class Machine:
    """A source of GPUs as the test wants it."""

    readings: list[DeviceReading]
    version: DriverReading = field(default_factory=lambda: DriverReading(driver_version="580.95.05"))

    def devices(self) -> list[DeviceReading]:
        """The GPUs."""
        return self.readings

    def driver(self) -> DriverReading:
        """The driver."""
        return self.version


@dataclass
class Store:
    """A knowledge store of three entries."""

    path: Path | None = Path("store.sqlite")
    broken: Exception | None = None

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """The answer to the one question that is asked."""
        if self.broken:
            raise self.broken
        return [(3_000,)]


def gpus(source: Any) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: nullcontext(source)


NO_GPU = gpus(NoDevices("no NVIDIA driver on this machine (its library NVML was not found)"))


def examine(home: Path, **changed: Any) -> dict[str, Check]:
    given: dict[str, Any] = {"open_store": Store, "open_gpus": NO_GPU, "cache": home / "cache", "platform": "linux"}
    environ = {"HOME": str(home), "PATH": str(home / "bin")}
    return {check.name: check for check in doctor.examine(environ, **(given | changed))}


def program(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)
    return str(path)


def test_a_healthy_machine_without_gpus_or_clients_has_nothing_to_mend(tmp_path: Path) -> None:
    checks = examine(tmp_path)
    assert doctor.exit_code(checks.values()) == 0
    assert checks["knowledge"] == Check("knowledge", "ok", "3,000 entries")
    assert checks["content"] == Check("content", "ok", "every tool, persona and fact loads")
    assert checks["cache"] == Check("cache", "ok", str(tmp_path / "cache"))
    assert checks["installation"] == Check("installation", "ok", sys.executable)
    assert f"advisor-mcp {__version__}" in checks["python"].message
    assert checks["gpus"] == Check(
        "gpus",
        "ok",
        "no NVIDIA driver on this machine (its library NVML was not found): the calculators need none",
    )
    clients = [check for name, check in checks.items() if name.startswith("client ")]
    assert clients == [
        Check(f"client {client.id}", "ok", f"{client.title} is not found here") for client in CLIENTS.values()
    ]
    assert [path.name for path in tmp_path.iterdir()] == []


def test_gpus_are_counted_by_name(tmp_path: Path) -> None:
    names = ["NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3", None]
    readings = [DeviceReading(index=i, name=name) for i, name in enumerate(names)]
    readings[2] = DeviceReading(index=2, failure="the GPU must be reset before it answers")
    check = examine(tmp_path, open_gpus=gpus(Machine(readings)))["gpus"]
    assert check.message == ("2 x NVIDIA H100 80GB HBM3, 1 x the GPU must be reset before it answers, driver 580.95.05")


def test_a_driver_that_does_not_answer_is_a_warning(tmp_path: Path) -> None:
    source = NoDevices("the NVIDIA driver is installed but not loaded")
    check = examine(tmp_path, open_gpus=gpus(source))["gpus"]
    message = "the NVIDIA driver is installed but not loaded: the calculators need none"
    assert check == Check("gpus", "warn", message)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (CannotAnswer("the store is of another version; delete it"), "the store is of another version; delete it"),
        (OSError("disk I/O error"), "the store does not answer (OSError: disk I/O error); report this"),
    ],
)
def test_a_store_that_does_not_open_or_answer_fails(error: Exception, message: str, tmp_path: Path) -> None:
    def broken() -> Store:
        raise error

    for open_store in (broken, lambda: Store(broken=error)):
        checks = examine(tmp_path, open_store=open_store)
        assert checks["knowledge"] == Check("knowledge", "fail", message)
        assert doctor.exit_code(checks.values()) == 1


def test_a_store_in_memory_is_a_warning(tmp_path: Path) -> None:
    check = examine(tmp_path, open_store=lambda: Store(path=None))["knowledge"]
    advice = "in memory, built anew at each start as it cannot be kept in the cache folder"
    assert check == Check("knowledge", "warn", f"3,000 entries, {advice}")


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    check = examine(tmp_path, cache=tmp_path / "file" / "cache")["cache"]
    advice = "the store is kept in memory; ADVISOR_MCP_CACHE names another folder"
    assert check == Check("cache", "warn", f"{tmp_path}/file/cache cannot be written: {advice}")


def test_every_content_file_that_does_not_load_fails(tmp_path: Path) -> None:
    problems: list[tuple[str | Path, str]] = [
        (Path("/mine/tools/a.py"), "it declares no tool"),
        ("/mine/personas/b.md", "it has no title"),
    ]
    checks = doctor.examine(
        {"HOME": str(tmp_path)}, problems=problems, open_store=Store, open_gpus=NO_GPU, cache=tmp_path
    )
    found = [check for check in checks if check.name == "content"]
    assert found == [
        Check("content", "fail", "/mine/tools/a.py is not served: it declares no tool"),
        Check("content", "fail", "/mine/personas/b.md is not served: it has no title"),
    ]


def test_an_installation_in_uvs_cache_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".cache/uv/archive-v0/x/bin/python"))
    check = examine(tmp_path)["installation"]
    assert check.status == "warn"
    assert "`uv tool install advisor-mcp`" in check.message


def configure(home: Path, name: str, command: str) -> Path:
    install(CLIENTS[name], (command, "serve"), {"HOME": str(home)}, platform="linux")
    return config_path(CLIENTS[name], {"HOME": str(home)}, "linux")


@pytest.mark.parametrize("name", CLIENTS)
def test_a_configured_client_is_in_order_while_its_command_exists(name: str, tmp_path: Path) -> None:
    command = program(tmp_path / "venv/bin/advisor-mcp")
    path = configure(tmp_path, name, command)
    assert examine(tmp_path)[f"client {name}"] == Check(f"client {name}", "ok", f"configured in {path}")
    os.unlink(command)
    checks = examine(tmp_path)
    message = f"configured in {path}, but {command} does not exist; run `advisor-mcp install {name}` again"
    assert checks[f"client {name}"] == Check(f"client {name}", "fail", message)
    assert doctor.exit_code(checks.values()) == 1


@pytest.mark.parametrize(
    ("name", "trace"),
    [
        ("claude-code", ".claude"),
        ("claude-desktop", ".config/Claude"),
        ("cursor", ".cursor"),
        ("vscode", ".config/Code/User"),
        ("codex", ".codex"),
        ("gemini", ".gemini"),
    ],
)
def test_a_client_that_is_here_but_not_configured_is_told_how(name: str, trace: str, tmp_path: Path) -> None:
    (tmp_path / trace).mkdir(parents=True)
    message = f"{CLIENTS[name].title} is found but not configured; `advisor-mcp install {name}` does it"
    found = [check for check in examine(tmp_path).values() if check.message.endswith("does it")]
    assert found == [Check(f"client {name}", "ok", message)]


def test_a_command_that_is_looked_up_is_a_warning_for_applications_without_a_shell(tmp_path: Path) -> None:
    program(tmp_path / "bin/advisor-mcp")
    path = configure(tmp_path, "cursor", "advisor-mcp")
    codex = configure(tmp_path, "codex", "advisor-mcp")
    checks = examine(tmp_path)
    assert checks["client codex"] == Check("client codex", "ok", f"configured in {codex}")
    message = (
        f"advisor-mcp in {path} is looked up: Cursor may not have this shell's PATH; "
        "`advisor-mcp install cursor` writes the whole path"
    )
    assert checks["client cursor"] == Check("client cursor", "warn", message)


def test_a_server_that_is_reached_by_url_is_left_to_the_user(tmp_path: Path) -> None:
    path = config_path(CLIENTS["cursor"], {"HOME": str(tmp_path)}, "linux")
    path.parent.mkdir()
    path.write_text(json.dumps({"mcpServers": {"advisor": {"url": "http://gpu:8000/mcp"}}}), encoding="utf-8")
    message = f"configured in {path}, not started by a command"
    assert examine(tmp_path)["client cursor"] == Check("client cursor", "ok", message)


def test_a_clients_file_that_cannot_be_read_is_a_warning_with_the_line(tmp_path: Path) -> None:
    path = config_path(CLIENTS["cursor"], {"HOME": str(tmp_path)}, "linux")
    path.parent.mkdir()
    path.write_text('{\n  "mcpServers": }', encoding="utf-8")
    check = examine(tmp_path)["client cursor"]
    assert check.status == "warn"
    assert check.message == (
        f"{path} cannot be read (it is not JSON: line 2, column 17: expecting value); mend it and try again"
    )


def test_without_a_home_the_clients_are_warnings_and_nothing_is_raised(tmp_path: Path) -> None:
    found = doctor.examine({}, platform="linux", open_store=Store, open_gpus=NO_GPU, cache=tmp_path)
    clients = {check.status for check in found if check.name.startswith("client ")}
    assert clients == {"warn"}


def required(declared: list[str] | None, installed: dict[str, str]) -> list[Check]:
    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    return doctor._required(lambda _: declared, version)


def test_dependencies_are_held_against_the_versions_that_the_package_asks_for() -> None:
    declared = ["mcp<3,>=2.3", "pydantic>=2.12", "jinja2>=3.1", "new>=1.0.0", "anthropic>=2; extra == 'client'"]
    installed = {"mcp": "3.0", "pydantic": "2.14.3", "new": "1"}
    assert required(declared, installed) == [
        Check("mcp", "fail", "3.0 does not satisfy mcp<3,>=2.3; run `pip install 'mcp<3,>=2.3'`"),
        Check("pydantic", "ok", "2.14.3"),
        Check("jinja2", "fail", "it is not installed; run `pip install 'jinja2>=3.1'`"),
        Check("new", "ok", "1"),
    ]


def test_a_source_folder_that_is_not_installed_is_a_warning() -> None:
    def none(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    (check,) = doctor._required(none)
    assert check.status == "warn"
    assert "run `pip install -e .`" in check.message


def test_what_is_optional_is_in_order_present_or_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "present":
            return "2.9.1"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "OPTIONAL", ("present", "anthropic"))
    checks = {check.name: check for check in doctor._optional(version)}
    assert {check.status for check in checks.values()} == {"ok"}
    assert checks["present"].message == "2.9.1"
    assert checks["anthropic"].message == "not installed: fine, it is optional"


def test_a_python_that_is_too_old_fails() -> None:
    assert doctor._python((3, 10, 9)) == Check("python", "fail", "3.10.9 is too old; install Python 3.11 or later")


def test_a_check_is_printed_on_one_line() -> None:
    assert doctor.format_check(Check("gpus", "ok", "2 x A100,\n driver 580")) == "ok    gpus: 2 x A100, driver 580"
    assert doctor.format_check(Check("cache", "fail", "no")) == "fail  cache: no"
