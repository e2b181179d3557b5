"""The MCP clients: where each keeps the servers of a user, in what format, and what is written there.

What the clients read and write was seen on Claude Code 2.1.329, Codex 0.169.0 and Gemini CLI 0.61.0 themselves; for
VS Code it comes from its source (`userDataPath.ts`, `argv.ts`), for Cursor and Claude Desktop from their documentation
and issue threads.
"""

from __future__ import annotations

import base64
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from advisor_mcp.connecting.editing import Dialect, toml_table
from advisor_mcp.errors import UsageError, unknown

SERVER = "advisor"
PLAIN_COMMAND = ("advisor-mcp", "serve")
Environment = Mapping[str, str]
_PLAIN_JSON = Dialect()


@dataclass(frozen=True, slots=True)
class Client:
    """One MCP client: where its user-wide configuration lies, in what format, and how its own command adds a server.

    `places` lists the files it may read, the likeliest first; `traces` what exists where the client is in use (left
    out: the folders of those files). `desktop` marks an application that is started without a shell's PATH.
    """

    id: str
    title: str
    key: str
    format: Literal["json", "toml"]
    places: Callable[[Environment, str], list[Path]]
    one_line: Callable[[Sequence[str]], str]
    afterwards: str
    dialect: Dialect = _PLAIN_JSON
    states_type: bool = False
    desktop: bool = False
    traces: Callable[[Environment, str], list[Path]] | None = None


def find_client(name: str) -> Client:
    """The client of this id; raises `UsageError` for a name that is not known."""
    if name not in CLIENTS:
        raise unknown("client", name, CLIENTS)
    return CLIENTS[name]


def config_path(client: Client, environ: Environment, platform: str = sys.platform) -> Path:
    """The file to edit: of those the client may read the first that exists, else the likeliest."""
    places = client.places(environ, platform)
    return next((path for path in places if path.exists()), places[0])


def is_present(client: Client, environ: Environment, platform: str = sys.platform) -> bool:
    """Whether the client left traces here: its file, or the folder that it keeps."""
    traces = client.traces or (lambda *where: [path.parent for path in client.places(*where)])
    return config_path(client, environ, platform).exists() or any(path.exists() for path in traces(environ, platform))


def render(client: Client, command: Sequence[str]) -> str:
    """The client's whole configuration file with this server alone: what is pasted into an empty one."""
    if client.format == "toml":
        return toml_table((client.key, SERVER), entry_values(command))
    return json.dumps({client.key: {SERVER: server_entry(client, command)}}, indent=2, ensure_ascii=False) + "\n"


def client_table() -> str:
    """The clients as a Markdown table: the one line that adds the server, the file, and the key in it."""
    rows = ["| Client | One line | File | Key |", "|---|---|---|---|"]
    for client in CLIENTS.values():
        files = dict.fromkeys(_shown_path(client, platform) for platform in ("linux", "darwin", "win32"))
        key = f"`[{client.key}.{SERVER}]`" if client.format == "toml" else f"`{client.key}`"
        line = client.one_line(PLAIN_COMMAND).replace("|", "\\|")
        rows.append(f"| {client.title} | `{line}` | {', '.join(f'`{file}`' for file in files)} | {key} |")
    return "\n".join(rows) + "\n"


def sample_files() -> dict[str, str]:
    """Each client's configuration with the plain command, by file name: the samples in `clients/configs/`."""
    return {f"{c.id}.{c.format}": render(c, PLAIN_COMMAND) for c in CLIENTS.values()}


def entry_values(command: Sequence[str]) -> dict[str, str | list[str]]:
    return {"command": command[0], "args": list(command[1:])}


def server_entry(client: Client, command: Sequence[str]) -> dict[str, Any]:
    kind = {"type": "stdio"} if client.states_type else {}
    return {**kind, **entry_values(command)}


def _home(environ: Environment, platform: str) -> Path:
    names = ("USERPROFILE", "HOME") if platform == "win32" else ("HOME",)
    for name in names:
        if value := environ.get(name):
            return Path(value)
    raise UsageError(f"{names[0]} is not set, so no client's configuration can be found; set it to your home folder")


def _application_data(environ: Environment, platform: str) -> Path:
    """The folder in which desktop applications built on Electron keep a folder each."""
    if platform == "win32":
        return Path(environ.get("APPDATA") or _home(environ, platform) / "AppData" / "Roaming")
    if platform == "darwin":
        return _home(environ, platform) / "Library" / "Application Support"
    return Path(environ.get("XDG_CONFIG_HOME") or _home(environ, platform) / ".config")


def _claude_code(environ: Environment, platform: str) -> list[Path]:
    return [Path(environ.get("CLAUDE_CONFIG_DIR") or _home(environ, platform)) / ".claude.json"]


def _claude_code_traces(environ: Environment, platform: str) -> list[Path]:
    return [Path(environ.get("CLAUDE_CONFIG_DIR") or _home(environ, platform) / ".claude")]


def _claude_desktop(environ: Environment, platform: str) -> list[Path]:
    folders: list[Path] = []
    if platform == "win32":
        # the packaged application (MSIX, the usual installer since 2026) reads a folder of its own, never %APPDATA%,
        # where an older installation may have left a file
        local = Path(environ.get("LOCALAPPDATA") or _home(environ, platform) / "AppData" / "Local")
        packaged = [found / "LocalCache" / "Roaming" / "Claude" for found in sorted(local.glob("Packages/Claude_*"))]
        folders = sorted(local.glob("Claude-Data/[Cc]laude*")) or packaged
    folders = folders or [_application_data(environ, platform) / "Claude"]
    return [folder / "claude_desktop_config.json" for folder in folders]


def _vscode(environ: Environment, platform: str) -> list[Path]:
    if portable := environ.get("VSCODE_PORTABLE"):
        return [Path(portable) / "user-data" / "User" / "mcp.json"]
    folder = environ.get("VSCODE_APPDATA") or _application_data(environ, platform)
    return [Path(folder) / "Code" / "User" / "mcp.json"]


def _cursor(environ: Environment, platform: str) -> list[Path]:
    return [_home(environ, platform) / ".cursor" / "mcp.json"]


def _codex(environ: Environment, platform: str) -> list[Path]:
    return [Path(environ.get("CODEX_HOME") or _home(environ, platform) / ".codex") / "config.toml"]


def _gemini(environ: Environment, platform: str) -> list[Path]:
    return [Path(environ.get("GEMINI_CLI_HOME") or _home(environ, platform)) / ".gemini" / "settings.json"]


def _cursor_link(command: Sequence[str]) -> str:
    """Cursor's install link: the server's entry as JSON in base64 (https://cursor.com/docs/mcp/install-links)."""
    entry = json.dumps(entry_values(command), separators=(",", ":")).encode()
    link = "cursor://anysphere.cursor-deeplink/mcp/install"
    return f"{link}?name={SERVER}&config={quote(base64.b64encode(entry).decode(), safe='')}"


def _vscode_line(command: Sequence[str]) -> str:
    return "code --add-mcp " + shlex.quote(json.dumps({"name": SERVER, **entry_values(command)}))


def _shown_path(client: Client, platform: str) -> str:
    environ = {"HOME": "~", "USERPROFILE": "~", "APPDATA": "%APPDATA%", "LOCALAPPDATA": "%LOCALAPPDATA%"}
    path = str(client.places(environ, platform)[0])
    return path.replace("/", "\\") if platform == "win32" and path.startswith("%") else path


CLIENTS: dict[str, Client] = {
    client.id: client
    for client in (
        Client(
            id="claude-code",
            title="Claude Code",
            key="mcpServers",
            format="json",
            places=_claude_code,
            traces=_claude_code_traces,
            one_line=lambda command: f"claude mcp add --scope user {SERVER} -- {shlex.join(command)}",
            afterwards="Start a new session; `claude mcp list` shows whether it connects.",
            states_type=True,
        ),
        Client(
            id="claude-desktop",
            title="Claude Desktop",
            key="mcpServers",
            format="json",
            places=_claude_desktop,
            one_line=lambda command: "advisor-mcp install claude-desktop",
            afterwards="Quit Claude Desktop altogether and start it again.",
            desktop=True,
        ),
        Client(
            id="cursor",
            title="Cursor",
            key="mcpServers",
            format="json",
            places=_cursor,
            one_line=_cursor_link,
            afterwards="Cursor lists it under Settings, MCP.",
            dialect=Dialect(comments=True),
            desktop=True,
        ),
        Client(
            id="vscode",
            title="VS Code",
            key="servers",
            format="json",
            places=_vscode,
            one_line=_vscode_line,
            afterwards="`MCP: List Servers` in the command palette starts it.",
            dialect=Dialect(comments=True, trailing_commas=True),
            states_type=True,
            desktop=True,
        ),
        Client(
            id="codex",
            title="Codex",
            key="mcp_servers",
            format="toml",
            places=_codex,
            one_line=lambda command: f"codex mcp add {SERVER} -- {shlex.join(command)}",
            afterwards="Start a new session; `/mcp` lists it.",
        ),
        Client(
            id="gemini",
            title="Gemini CLI",
            key="mcpServers",
            format="json",
            places=_gemini,
            # no `--` before the command: Gemini CLI 0.61 refuses it
            one_line=lambda command: f"gemini mcp add --scope user {SERVER} {shlex.join(command)}",
            afterwards="Start a new session in a folder that Gemini CLI trusts; `/mcp` lists it.",
            dialect=Dialect(comments=True),
        ),
    )
}
