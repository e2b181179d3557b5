"""The pause between two samples: short, named, told to whoever waits, and given up when the caller withdraws."""

from __future__ import annotations

import time

from advisor_mcp.declaration import Progress
from advisor_mcp.gpus.devices import Pause

SHORTEST_S = 0.1
"""Two GPM samples must lie more than 100 ms apart, the counters' own refresh (nvml.h, nvmlGpmMetricsGet, NVML 13)."""

DEFAULT_S = 0.2
STEP_S = 0.05

now = time.monotonic
sleep = time.sleep


def pause_for(seconds: float, progress: Progress) -> Pause:
    """A pause of so many seconds that reports its progress; it raises `Cancelled` when the call was withdrawn."""

    def pause() -> float:
        start = now()
        while (gone := now() - start) < seconds:
            progress.report(gone, seconds, f"counting for {seconds:g} s")
            sleep(min(STEP_S, seconds - gone))
        progress.check()
        return gone

    return pause
