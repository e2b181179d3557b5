"""The finding `compile-cache-miss`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.compile_log import CacheLookup, CompileLog
from advisor_mcp.tracing.record_families import COMPILING, most_first

FX_GRAPH = "fx_graph"
BYPASSED = (
    "Change what keeps the graph out of the cache, which the reason names (a custom operator or pass without a cache key, a "
    "higher-order operator); where the cache is disabled, leave out TORCHINDUCTOR_FORCE_DISABLE_CACHES and "
    "TORCHINDUCTOR_FX_GRAPH_CACHE=0."
)


@COMPILING.kind("compile-cache-miss")
def compile_cache_miss(log: CompileLog) -> Iterator[Observation]:
    """Graphs are compiled anew although they could have come from the compile cache: they never enter it, or what was put in is gone
    when the same graph comes again. A first, cold miss is no fault and is not reported.

    ## Formula
    lookups of the FX graph cache that ended in bypass or disabled, and those that missed a key which the same process had
    missed before

    ## Threshold
    1

    ## Could also be
    - a cache that was cleared on purpose, for instance by a test
    - caches on a disk that the job may not write

    ## Change
    Set TORCHINDUCTOR_CACHE_DIR to a folder that outlives the job and that all its processes can write.

    ## Next measurement
    The same job twice: the second log should show hits (fx_graph_cache_hit) for every graph.

    ## References
    - torch 2.13 torch/_inductor/compile_fx.py: fx_graph_cache_hit, _miss, _bypass, _disabled
    - torch 2.13 torch/_inductor/codecache.py: BypassFxGraphCache, TORCHINDUCTOR_CACHE_DIR
    """
    lost = [each for each in log.lookups if each.cache == FX_GRAPH and each.state in ("bypass", "disabled")]
    again = list(_missed_again(log))
    if not lost and not again:
        return
    reasons = Counter(each.reason or f"cache {each.state}" for each in lost)
    yield Observation(
        message=_message(log, lost, again),
        measured=len(lost) + len(again),
        unit="lookups",
        change=BYPASSED if lost else None,
        rows=most_first([f"{count} x {reason}" for reason, count in reasons.most_common()]),
    )


def _missed_again(log: CompileLog) -> Iterator[CacheLookup]:
    seen: set[tuple[int | None, str]] = set()
    for each in log.lookups:
        if each.cache == FX_GRAPH and each.state == "miss" and each.key:
            if (each.rank, each.key) in seen:
                yield each
            seen.add((each.rank, each.key))


def _message(log: CompileLog, lost: list[CacheLookup], again: list[CacheLookup]) -> str:
    every = sum(each.cache == FX_GRAPH for each in log.lookups)
    parts = [f"{len(lost)} went past it"] if lost else []
    parts += [f"{len(again)} missed a graph that had been compiled before"] if again else []
    why = f": {lost[0].reason}" if lost and lost[0].reason else ""
    return f"Of {every} lookups in the FX graph cache {' and '.join(parts)}{why}."
