"""The MCP server's parts; `advisor_mcp.server` is the way in, and imports them when it starts."""
