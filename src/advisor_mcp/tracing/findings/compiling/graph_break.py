"""The finding `graph-break`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.compile_log import CompileLog, GraphBreak
from advisor_mcp.tracing.record_families import COMPILING, counted, most_first


@COMPILING.kind("graph-break")
def graph_break(log: CompileLog) -> Iterator[Observation]:
    """Dynamo met code that it cannot trace: the function runs as several graphs with Python between them, nothing is fused across
    the break, and CUDA graphs end there.

    ## Formula
    dynamo_graph_break_reason artifacts, told apart by place and reason; before torch 2.5, which does not write them, the
    restart_reasons of the compilation metrics

    ## Threshold
    1

    ## Could also be
    - code outside the step, such as logging every hundredth step
    - a break on purpose: torch._dynamo.graph_break() or a disabled function
    - restarts of the analysis for another reason, in logs older than torch 2.5

    ## Change
    Compile with fullgraph=True: it stops at the first break and names it. Take printing, .item() and Python side effects out
    of the compiled function; torch.where or torch.cond instead of an if on a tensor; a custom operator around what cannot be
    traced.

    ## Next measurement
    torch._dynamo.explain(function)(inputs), or the same run with TORCH_LOGS=graph_breaks.

    ## References
    - https://docs.pytorch.org/docs/2.12/user_guide/torch_compiler/compile/programming_model.fullgraph_true.html
    - torch 2.13 torch/_dynamo/symbolic_convert.py, dynamo_graph_break_reason
    """
    if not log.breaks:
        return
    places = Counter((each.where, each.reason) for each in log.breaks)
    first = log.breaks[0]
    lost = sum(each.restart_ms for each in log.compilations)
    hint = next((each.hint for each in log.breaks if each.hint), None)
    yield Observation(
        message=_message(log, len({where for where, _ in places}), first),
        measured=len(log.breaks),
        unit="graph breaks",
        saves_at_most_ms=lost or None,
        change=hint and f"PyTorch suggests for the first: {hint} fullgraph=True finds the others one by one.",
        rows=most_first(
            [f"{count} x {where or 'place not logged'}: {reason}" for (where, reason), count in places.most_common()], 8
        ),
    )


def _message(log: CompileLog, places: int, first: GraphBreak) -> str:
    count = counted(len(log.breaks), "graph break")
    at = f" in {places} places" if places > 1 else ""
    skipped = sum(each.skipped for each in log.breaks)
    eager = f"; {skipped} leave a whole function to eager mode" if skipped else ""
    return f"{count}{at}: {first.reason} at {first.where or 'a place that is not logged'}{eager}."
