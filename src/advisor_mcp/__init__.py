"""Personas and calculators for people who train and serve models: an MCP server, a CLI and a library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advisor_mcp.results import Answer

__version__ = "0.1.0"
__all__ = ["__version__", "call"]


def call(tool: str, /, **arguments: Any) -> Answer:
    """Call one tool by name, as a script would: ``advisor_mcp.call("describe_model", model="llama-3.1-8b")``.

    Returns the tool's own result model. Raises `advisor_mcp.errors.UsageError` for arguments that cannot be used and
    `advisor_mcp.errors.CannotAnswer` when a fact that the answer needs is missing.
    """
    from advisor_mcp.catalogue import default_catalogue

    return default_catalogue().call(tool, arguments)
