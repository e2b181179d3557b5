"""The tools, one module each: loaded from the built-in content folder, then from the user's (see `advisor_mcp.content`)."""

from advisor_mcp import content as _content

__path__ = _content.tool_path(_content.active())
