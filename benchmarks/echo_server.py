"""The least that a server on this SDK can be: one tool that returns its argument, over standard input and output."""

from mcp.server import MCPServer

server: MCPServer[None] = MCPServer("echo", version="1", log_level="WARNING")


@server.tool()
async def echo(text: str) -> str:
    """Return the text."""
    return text


if __name__ == "__main__":
    server.run()
