"""A fleet of GPUs as an existing Prometheus recorded it: what jobs did with them, and what they suffer from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advisor_mcp.declaration import Progress
    from advisor_mcp.gpus.rows import InspectedGpus
    from advisor_mcp.results import Detail


def inspect(url: str, window: str, detail: Detail, progress: Progress) -> InspectedGpus:
    """The fleet that a Prometheus saw over a window such as `1h`; everything it needs is imported here.

    Raises `UsageError` for a URL or window that cannot be used, `CannotAnswer` where the server does not tell.
    """
    from advisor_mcp.gpus.fleet.address import chosen
    from advisor_mcp.gpus.fleet.client import Prometheus
    from advisor_mcp.gpus.fleet.reading import read, seconds
    from advisor_mcp.gpus.fleet.report import inspected

    length = seconds(window)
    with Prometheus(chosen(url), check=progress.check) as client:
        return inspected(read(client, length), detail)
