"""Connecting clients: where their files are, what is written, and that nothing else in them changes."""

from __future__ import annotations

import base64
import copy
import json
import os
import shlex
import tomllib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor_mcp import connecting
from advisor_mcp.connecting import CLIENTS, Client, InstallReport
from advisor_mcp.connecting.editing import Dialect, EditError, read_json, set_json, set_toml
from advisor_mcp.errors import UsageError

COMMAND = ("/opt/advisor/bin/advisor-mcp", "serve")
JSON_CLIENTS = [client for client in CLIENTS.values() if client.format == "json"]
NOON = datetime(2026, 11, 21, 12, 0, 0)
EVERY = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
EVERY_JSON = pytest.mark.parametrize("client", JSON_CLIENTS, ids=lambda client: client.id)


def install(client: Client, home: Path, command: Sequence[str] = COMMAND, print_only: bool = False) -> InstallReport:
    return connecting.install(
        client, command, {"HOME": str(home)}, print_only, platform="linux", now=lambda: NOON
    )  # fmt: skip


def file_of(client: Client, home: Path) -> Path:
    return connecting.config_path(client, {"HOME": str(home)}, "linux")


def write(client: Client, home: Path, text: str) -> Path:
    path = file_of(client, home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    return path


def parsed(client: Client, text: str) -> Any:
    return tomllib.loads(text) if client.format == "toml" else json.loads(text)


def entry_of(client: Client, command: Sequence[str] = COMMAND) -> dict[str, Any]:
    kind = {"type": "stdio"} if client.id in ("claude-code", "vscode") else {}
    return {**kind, "command": command[0], "args": list(command[1:])}


@EVERY
def test_what_is_rendered_is_the_clients_format_and_names_the_command(client: Client) -> None:
    assert parsed(client, connecting.render(client, COMMAND)) == {client.key: {"advisor": entry_of(client)}}


@EVERY
def test_a_path_with_backslashes_quotes_and_letters_of_any_script_survives(client: Client) -> None:
    command = ('C:\\Users\\Zoë "Q"\\advisor-mcp.exe', "serve", "--root", "D:\\モデル")
    assert parsed(client, connecting.render(client, command)) == {client.key: {"advisor": entry_of(client, command)}}


def test_each_client_has_its_own_key() -> None:
    assert {client.id: client.key for client in CLIENTS.values()} == {
        "claude-code": "mcpServers",
        "claude-desktop": "mcpServers",
        "cursor": "mcpServers",
        "vscode": "servers",
        "codex": "mcp_servers",
        "gemini": "mcpServers",
    }


@pytest.mark.parametrize(
    ("platform", "environ", "files"),
    [
        (
            "linux",
            {"HOME": "/home/ada"},
            {
                "claude-code": "/home/ada/.claude.json",
                "claude-desktop": "/home/ada/.config/Claude/claude_desktop_config.json",
                "cursor": "/home/ada/.cursor/mcp.json",
                "vscode": "/home/ada/.config/Code/User/mcp.json",
                "codex": "/home/ada/.codex/config.toml",
                "gemini": "/home/ada/.gemini/settings.json",
            },
        ),
        (
            "linux",
            {
                "HOME": "/home/ada",
                "XDG_CONFIG_HOME": "/etc/ada",
                "CLAUDE_CONFIG_DIR": "/c",
                "CODEX_HOME": "/x",
                "GEMINI_CLI_HOME": "/g",
            },
            {
                "claude-code": "/c/.claude.json",
                "claude-desktop": "/etc/ada/Claude/claude_desktop_config.json",
                "cursor": "/home/ada/.cursor/mcp.json",
                "vscode": "/etc/ada/Code/User/mcp.json",
                "codex": "/x/config.toml",
                "gemini": "/g/.gemini/settings.json",
            },
        ),
        (
            "darwin",
            {"HOME": "/Users/ada", "XDG_CONFIG_HOME": "/ignored/here"},
            {
                "claude-code": "/Users/ada/.claude.json",
                "claude-desktop": "/Users/ada/Library/Application Support/Claude/claude_desktop_config.json",
                "cursor": "/Users/ada/.cursor/mcp.json",
                "vscode": "/Users/ada/Library/Application Support/Code/User/mcp.json",
                "codex": "/Users/ada/.codex/config.toml",
                "gemini": "/Users/ada/.gemini/settings.json",
            },
        ),
        (
            "win32",
            {"USERPROFILE": "/u/ada", "APPDATA": "/roaming", "LOCALAPPDATA": "/nowhere"},
            {
                "claude-code": "/u/ada/.claude.json",
                "claude-desktop": "/roaming/Claude/claude_desktop_config.json",
                "cursor": "/u/ada/.cursor/mcp.json",
                "vscode": "/roaming/Code/User/mcp.json",
                "codex": "/u/ada/.codex/config.toml",
                "gemini": "/u/ada/.gemini/settings.json",
            },
        ),
    ],
)
def test_each_system_has_its_places(platform: str, environ: dict[str, str], files: dict[str, str]) -> None:
    found = {name: connecting.config_path(client, environ, platform) for name, client in CLIENTS.items()}
    assert found == {name: Path(path) for name, path in files.items()}


def test_a_portable_vscode_keeps_its_file_with_itself() -> None:
    environ = {"HOME": "/home/ada", "VSCODE_PORTABLE": "/usb/code"}
    assert connecting.config_path(CLIENTS["vscode"], environ, "linux") == Path("/usb/code/user-data/User/mcp.json")


def test_the_packaged_claude_desktop_is_preferred_to_the_file_that_it_does_not_read(tmp_path: Path) -> None:
    environ = {"APPDATA": str(tmp_path / "Roaming"), "LOCALAPPDATA": str(tmp_path / "Local")}
    stale = tmp_path / "Roaming/Claude/claude_desktop_config.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("{}", encoding="utf-8")
    places = [connecting.config_path(CLIENTS["claude-desktop"], environ, "win32")]
    for folder in ("Packages/Claude_pzs8sxrjxfjjc", "Claude-Data/claude_1"):
        (tmp_path / "Local" / folder).mkdir(parents=True)
        places.append(connecting.config_path(CLIENTS["claude-desktop"], environ, "win32"))
    name = "claude_desktop_config.json"
    assert places == [
        stale,
        tmp_path / "Local/Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude" / name,
        tmp_path / "Local/Claude-Data/claude_1" / name,
    ]


def test_a_machine_without_a_home_is_told_what_to_set() -> None:
    with pytest.raises(UsageError) as error:
        connecting.config_path(CLIENTS["cursor"], {}, "linux")
    assert error.value.message == (
        "HOME is not set, so no client's configuration can be found; set it to your home folder"
    )


@EVERY
def test_a_client_without_a_file_gets_one(client: Client, tmp_path: Path) -> None:
    report = install(client, tmp_path)
    path = file_of(client, tmp_path)
    text = connecting.render(client, COMMAND)
    assert report == InstallReport(client.id, "added", path, text, None, client.afterwards)
    assert path.read_text(encoding="utf-8") == text
    assert [found.name for found in path.parent.iterdir()] == [path.name]


@EVERY
def test_an_empty_file_is_filled(client: Client, tmp_path: Path) -> None:
    path = write(client, tmp_path, "\n")
    install(client, tmp_path)
    assert parsed(client, path.read_text(encoding="utf-8")) == {client.key: {"advisor": entry_of(client)}}


@EVERY
def test_printing_writes_nothing(client: Client, tmp_path: Path) -> None:
    report = install(client, tmp_path, print_only=True)
    text = connecting.render(client, COMMAND)
    assert report == InstallReport(
        client.id, "printed", file_of(client, tmp_path), text, None, client.afterwards
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@EVERY
def test_a_second_run_changes_nothing(client: Client, tmp_path: Path) -> None:
    install(client, tmp_path)
    path = file_of(client, tmp_path)
    before = path.read_bytes(), path.stat().st_mtime_ns
    report = install(client, tmp_path)
    assert report.status == "already configured"
    assert report.sentence == f"{client.title}: already configured in {path}."
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [found.name for found in path.parent.iterdir()] == [path.name]


@EVERY_JSON
def test_other_servers_and_settings_stay_in_their_place(client: Client, tmp_path: Path) -> None:
    before = {"zoom": 1.0, client.key: {"other": {"command": "x", "args": ["-y"]}}, "theme": {"name": "dark"}}
    text = json.dumps(before, indent=4) + "\n"
    path = write(client, tmp_path, text)
    report = install(client, tmp_path)
    after = path.read_text(encoding="utf-8")
    expected = copy.deepcopy(before)
    expected[client.key]["advisor"] = entry_of(client)  # type: ignore[index]
    assert json.loads(after) == expected
    assert after == json.dumps(expected, indent=4) + "\n"
    assert report.backup == path.with_name(f"{path.name}.20261121-120000.bak")
    assert report.backup.read_text(encoding="utf-8") == text
    assert report.sentence.startswith(
        f"{client.title}: added 'advisor' to {path}; the file as it was is {report.backup}."
    )  # fmt: skip


def test_comments_layout_and_line_ends_stay_where_the_client_allows_them(tmp_path: Path) -> None:
    before = (
        "{\r\n"
        "\t// my servers\r\n"
        '\t"servers": {\r\n'
        '\t\t/* "old": {}, */\r\n'
        '\t\t"other": { "command": "x", "url": "http://a//b" }, // the "good" one,\r\n'
        "\t},\r\n"
        '\t"inputs": [1,2,],\r\n'
        "}\r\n"
    )
    path = write(CLIENTS["vscode"], tmp_path, before)
    install(CLIENTS["vscode"], tmp_path)
    added = (
        '\t\t"advisor": {\r\n'
        '\t\t\t"type": "stdio",\r\n'
        '\t\t\t"command": "/opt/advisor/bin/advisor-mcp",\r\n'
        '\t\t\t"args": [\r\n'
        '\t\t\t\t"serve"\r\n'
        "\t\t\t]\r\n"
        "\t\t},\r\n"
    )
    at = before.index("\t},\r\n")
    assert path.read_bytes().decode() == before[:at] + added + before[at:]


def test_a_comment_after_the_last_server_stays_with_it(tmp_path: Path) -> None:
    path = write(CLIENTS["gemini"], tmp_path, '{\n  "mcpServers": {\n    "other": {} // mine\n  }\n}\n')
    install(CLIENTS["gemini"], tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[2:4] == ['    "other": {}, // mine', '    "advisor": {']


def test_a_file_on_one_line_stays_on_one_line(tmp_path: Path) -> None:
    path = write(CLIENTS["cursor"], tmp_path, '{"a":1,"mcpServers":{"other":{}}}')
    install(CLIENTS["cursor"], tmp_path)
    entry = json.dumps(entry_of(CLIENTS["cursor"]))
    assert path.read_text(encoding="utf-8") == '{"a":1,"mcpServers":{"other":{}, "advisor": ' + entry + "}}"


def test_a_byte_order_mark_and_letters_of_any_script_stay(tmp_path: Path) -> None:
    path = write(CLIENTS["cursor"], tmp_path, '\ufeff{"名": "ü"}')
    install(CLIENTS["cursor"], tmp_path)
    text = path.read_bytes().decode("utf-8")
    assert text.startswith('\ufeff{"名": "ü", "mcpServers"')


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("cursor", '{\n  "mcpServers": {\n', "it is not JSON: line 3, column 1: expecting"),
        ("claude-code", '{\n  // mine\n  "a": 1\n}', "it is not JSON: line 2, column 3: expecting"),
        ("claude-desktop", '{"mcpServers": {},}', "it is not JSON: line 1, column 1"),
        ("gemini", '{"mcpServers": {},}', "it is not JSON: line 1, column 1"),
        ("vscode", '{"servers": {} /* open }', "it is not JSON: line 1, column 16: expecting"),
        ("codex", 'model = "gpt\n', "it is not TOML: "),
        ("cursor", "[1]", "it does not hold an object"),
        ("cursor", '{"mcpServers": []}', "'mcpServers' is not an object"),
        ("codex", "mcp_servers = 3\n", "'mcp_servers' is not an object"),
        ("cursor", '{"a":' * 100_000, "it is n"),
        (
            "cursor",
            '{"mcpServers": {"advisor": {"url": "http://x"}}}',
            "its server 'advisor' is not started by a command",
        ),
        ("cursor", '{"mcpServers": {"advisor": 1}}', "its server 'advisor' is not started by a command"),
        ("codex", '[mcp_servers.advisor]\nurl = "http://x"\n', "its server 'advisor' is not started by a command"),
        ("codex", 'mcp_servers = { other = { command = "x" } }\n', "its table mcp_servers is written inline"),
        ("codex", 'mcp_servers.advisor.command = "x"\n', "its table mcp_servers.advisor is written inline"),
    ],
)
def test_a_file_that_cannot_be_edited_is_left_alone(name: str, text: str, sentence: str, tmp_path: Path) -> None:
    path = write(CLIENTS[name], tmp_path, text)
    with pytest.raises(UsageError) as error:
        install(CLIENTS[name], tmp_path)
    assert error.value.message.startswith(f"{path} was left as it is ({sentence}")
    assert error.value.message.endswith(f"; mend it, or paste what `advisor-mcp install {name} --print` shows")
    assert path.read_text(encoding="utf-8") == text
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_file_that_is_not_text_is_left_alone(tmp_path: Path) -> None:
    path = write(CLIENTS["cursor"], tmp_path, "")
    path.write_bytes(b"\xff\xfe{\x00}\x00")
    with pytest.raises(UsageError) as error:
        install(CLIENTS["cursor"], tmp_path)
    assert "it is not UTF-8 text" in error.value.message
    assert path.read_bytes() == b"\xff\xfe{\x00}\x00"


def test_a_folder_that_cannot_be_made_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / ".cursor").write_text("a file", encoding="utf-8")
    with pytest.raises(UsageError) as error:
        install(CLIENTS["cursor"], tmp_path)
    assert error.value.message.startswith(f"{tmp_path}/.cursor/mcp.json was left as it is (")


def test_a_file_that_the_client_writes_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = write(CLIENTS["claude-code"], tmp_path, '{"startups": 1}')

    def noon() -> datetime:
        path.write_text('{"startups": 2}', encoding="utf-8")
        return NOON

    with pytest.raises(UsageError) as error:
        connecting.install(CLIENTS["claude-code"], COMMAND, {"HOME": str(tmp_path)}, platform="linux", now=noon)
    assert "it was changed meanwhile: run this again" in error.value.message
    assert path.read_text(encoding="utf-8") == '{"startups": 2}'
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@EVERY_JSON
def test_an_old_command_is_replaced_and_the_entrys_other_keys_stay(client: Client, tmp_path: Path) -> None:
    text = json.dumps({client.key: {"advisor": {"command": "/old/advisor-mcp", "env": {"A": "1"}}}}, indent=2)
    path = write(client, tmp_path, text)
    report = install(client, tmp_path)
    entry = {"command": COMMAND[0], "env": {"A": "1"}, "args": ["serve"]}
    assert path.read_text(encoding="utf-8") == json.dumps({client.key: {"advisor": entry}}, indent=2)
    assert report.status == "updated"
    assert report.backup is not None
    assert report.backup.read_text(encoding="utf-8") == text


CODEX = """# mine
model = "gpt-5"  # the model

[mcp_servers.other]
command = "x"

[ mcp_servers . "advisor" ]  # ours
  command = "/old#/advisor-mcp"  # was 1.0
args = [
  "serve", # all of it
]
startup_timeout_sec = 20
[mcp_servers.advisor.env]
A = "1"
"""


def test_codex_keeps_every_line_that_is_not_the_command(tmp_path: Path) -> None:
    path = write(CLIENTS["codex"], tmp_path, CODEX)
    install(CLIENTS["codex"], tmp_path, ("/new/advisor-mcp", "serve", "--x"))
    assert path.read_text(encoding="utf-8") == CODEX.replace('"/old#/advisor-mcp"', '"/new/advisor-mcp"').replace(
        'args = [\n  "serve", # all of it\n]', 'args = ["serve", "--x"]'
    )


def test_codex_gets_a_table_at_the_end_of_a_file_with_other_servers(tmp_path: Path) -> None:
    before = 'mcp_servers.other = { command = "x" }\r\n[tui]\r\ntheme = "dark"'
    path = write(CLIENTS["codex"], tmp_path, before)
    install(CLIENTS["codex"], tmp_path)
    added = '\r\n\r\n[mcp_servers.advisor]\r\ncommand = "/opt/advisor/bin/advisor-mcp"\r\nargs = ["serve"]\r\n'
    assert path.read_bytes().decode() == before + added


def test_the_files_mode_and_a_link_to_it_stay(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "claude.json"
    real.parent.mkdir()
    real.write_text("{}", encoding="utf-8")
    real.chmod(0o640)
    link = file_of(CLIENTS["claude-code"], tmp_path)
    link.symlink_to(real)
    install(CLIENTS["claude-code"], tmp_path)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert json.loads(real.read_text(encoding="utf-8")) == {"mcpServers": {"advisor": entry_of(CLIENTS["claude-code"])}}
    assert sorted(found.name for found in real.parent.iterdir()) == ["claude.json", "claude.json.20261121-120000.bak"]


def test_two_backups_in_one_second_are_both_kept(tmp_path: Path) -> None:
    path = write(CLIENTS["cursor"], tmp_path, "{}")
    first = install(CLIENTS["cursor"], tmp_path).backup
    second = install(CLIENTS["cursor"], tmp_path, ("/new", "serve")).backup
    assert [first, second] == [path.with_name(f"mcp.json.20261121-120000{n}.bak") for n in ("", "-2")]


def test_the_entry_is_read_back(tmp_path: Path) -> None:
    client, environ = CLIENTS["codex"], {"HOME": str(tmp_path)}
    assert connecting.read_entry(client, environ, "linux") is None
    install(client, tmp_path)
    path = file_of(client, tmp_path)
    assert connecting.read_entry(client, environ, "linux") == connecting.Entry(path, COMMAND[0], ("serve",))


def test_an_unknown_client_names_the_nearest_one() -> None:
    with pytest.raises(UsageError) as error:
        connecting.find_client("claude-dekstop")
    assert error.value.message == (
        "unknown client 'claude-dekstop'; did you mean 'claude-desktop'? "
        "(available: claude-code, claude-desktop, cursor, vscode, codex, gemini)"
    )


def test_the_one_line_of_each_client_carries_the_command() -> None:
    lines = {client.id: client.one_line(("advisor-mcp", "serve")) for client in CLIENTS.values()}
    link = parse_qs(urlsplit(lines.pop("cursor")).query)
    assert link["name"] == ["advisor"]
    assert json.loads(base64.b64decode(link["config"][0])) == {"command": "advisor-mcp", "args": ["serve"]}
    assert {name: shlex.split(line) for name, line in lines.items()} == {
        "claude-code": ["claude", "mcp", "add", "--scope", "user", "advisor", "--", "advisor-mcp", "serve"],
        "claude-desktop": ["advisor-mcp", "install", "claude-desktop"],
        "vscode": ["code", "--add-mcp", '{"name": "advisor", "command": "advisor-mcp", "args": ["serve"]}'],
        "codex": ["codex", "mcp", "add", "advisor", "--", "advisor-mcp", "serve"],
        "gemini": ["gemini", "mcp", "add", "--scope", "user", "advisor", "advisor-mcp", "serve"],
    }


def test_the_command_is_the_console_script_beside_the_python_or_else_the_module(tmp_path: Path) -> None:
    python = tmp_path / "python"
    assert connecting.server_command(str(python)) == (str(python), "-P", "-m", "advisor_mcp", "serve")
    (tmp_path / "advisor-mcp").touch()
    assert connecting.server_command(str(python)) == (str(tmp_path / "advisor-mcp"), "serve")
    assert os.path.isabs(connecting.server_command("python")[0])


def test_a_command_in_uvs_cache_is_reported_as_temporary(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    cached, kept = (f"{tmp_path}/.cache/uv/archive-v0/x/bin/advisor-mcp", "serve"), (f"{tmp_path}/bin/a", "serve")
    assert [connecting.is_temporary(command, environ) for command in (cached, kept)] == [True, False]
    assert "`uv tool install advisor-mcp`" in install(CLIENTS["cursor"], tmp_path, cached).sentence


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | NAMES | st.just("//,}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(
    tree=st.dictionaries(NAMES, VALUES, max_size=4),
    servers=st.none() | st.dictionaries(NAMES, VALUES, max_size=3),
    indent=st.sampled_from([None, 0, 1, 2, "\t"]),
    ascii_only=st.booleans(),
)
def test_setting_a_value_changes_that_value_alone_in_any_file(
    tree: dict[str, Any], servers: dict[str, Any] | None, indent: int | str | None, ascii_only: bool
) -> None:
    if servers is not None:
        tree["servers"] = servers
    text = json.dumps(tree, indent=indent, ensure_ascii=ascii_only)
    kept = tree.get("servers")
    if kept is not None and not isinstance(kept, dict):
        with pytest.raises(EditError):
            set_json(text, ("servers", "advisor"), {"command": "x"})
        return
    edited = set_json(text, ("servers", "advisor"), {"command": "x"}, Dialect(True, True))
    assert read_json(edited) == {**tree, "servers": {**(kept or {}), "advisor": {"command": "x"}}}


def test_a_table_header_inside_a_string_is_not_taken_for_the_table() -> None:
    text = 'note = """\n[mcp_servers.advisor]\ncommand = 1\n"""\n[mcp_servers.advisor]\ncommand = "old"\n'
    with pytest.raises(EditError):
        set_toml(text, ("mcp_servers", "advisor"), {"command": "new"})


def test_the_samples_in_clients_are_what_the_code_renders() -> None:
    folder = Path(__file__).parents[1] / "clients" / "configs"
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == connecting.sample_files()


def test_the_table_in_the_clients_page_is_what_the_code_knows() -> None:
    page = (Path(__file__).parents[1] / "clients" / "README.md").read_text(encoding="utf-8")
    assert page.split("<!-- clients -->\n")[1].split("<!-- /clients -->")[0] == connecting.client_table()
