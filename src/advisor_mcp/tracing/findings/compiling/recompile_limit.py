"""The finding `recompile-limit`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.compile_log import Compilation, CompileLog
from advisor_mcp.tracing.findings.compiling.recompilation import CHANGES
from advisor_mcp.tracing.record_families import COMPILING, most_first


@COMPILING.kind("recompile-limit", severity="error")
def recompile_limit(log: CompileLog) -> Iterator[Observation]:
    """A function was compiled so often that PyTorch gave up: calls that no compiled version fits run in eager mode from then on.

    ## Formula
    compilations refused with "recompile limit exceeded" (or RecompileLimitExceeded, CacheLimitExceeded)

    ## Threshold
    1; the limit is torch._dynamo.config.recompile_limit, 8 by default, and accumulated_recompile_limit, 256

    ## Could also be
    - one function wrapped for many modules, each of which counts as a version of it

    ## Change
    Make what changes dynamic or keep it the same: the failed guard names it. Raise torch._dynamo.config.recompile_limit only
    where that many versions are wanted.

    ## Next measurement
    The same run with fullgraph=True, under which reaching the limit is an error, and TORCH_LOGS=recompiles.

    ## References
    - torch 2.13 torch/_dynamo/config.py: recompile_limit, accumulated_recompile_limit
    - torch 2.13 torch/_dynamo/convert_frame.py: "Dynamo recompile limit exceeded"
    """
    hit = [each for each in log.failures if each.failure and each.failure.limit]
    if not hit:
        return
    names = list(dict.fromkeys(each.name for each in hit))
    first = hit[0]
    yield Observation(
        message=f"{names[0]} reached the recompile limit after {first.number} compilations and runs in eager mode where none of "
        f"them fits{f'; {len(names) - 1} other functions too' if len(names) > 1 else ''}{_guard(first)}.",
        measured=len(names),
        unit="functions",
        change=CHANGES.get(first.reasons[0].kind) if first.reasons else None,
        rows=most_first([f"{each.compile_id} {each.name}{_guard(each)}" for each in hit]),
    )


def _guard(each: Compilation) -> str:
    return f"; the guard that failed last: {each.reasons[0].guard}" if each.reasons else ""
