"""Connects MCP clients to the server: what each of them reads, and entering the server there with care."""

from advisor_mcp.connecting.clients import (
    CLIENTS,
    PLAIN_COMMAND,
    SERVER,
    Client,
    Environment,
    client_table,
    config_path,
    find_client,
    is_present,
    render,
    sample_files,
)
from advisor_mcp.connecting.installing import (
    Entry,
    InstallReport,
    install,
    is_temporary,
    read_entry,
    server_command,
)

__all__ = [
    "CLIENTS",
    "PLAIN_COMMAND",
    "SERVER",
    "Client",
    "Entry",
    "Environment",
    "InstallReport",
    "client_table",
    "config_path",
    "find_client",
    "install",
    "is_present",
    "is_temporary",
    "read_entry",
    "render",
    "sample_files",
    "server_command",
]
