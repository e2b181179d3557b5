"""The finding `recompilation`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.compile_log import Compilation, CompileLog
from advisor_mcp.tracing.record_families import COMPILING, counted, most_first

CHANGES = {
    "shape": "Mark the dimension that changes, torch._dynamo.mark_dynamic(tensor, dim), before the first call, or compile "
    "with dynamic=True; pad to a few lengths where each length should have its own kernels.",
    "value": "A Python number or string is a constant of the graph: pass a number that changes as a tensor "
    "(torch.tensor(n)), and keep one that chooses between paths out of the compiled function.",
    "mode": "Call the function under one set of modes: grad, inference and autocast contexts are part of its guards; compile a "
    "function for each of them.",
    "identity": "Pass the same object each time: a new closure, module or config object fails the guard on its identity. "
    "Integers on modules: torch._dynamo.config.allow_unspec_int_on_nn_module = True.",
    "length": "Keep lists and tuples at one length, or stack their tensors into one.",
    "stride": "Bring inputs to one layout first, for instance with .contiguous().",
    "gradient": "Keep requires_grad of the inputs the same, for instance by detaching outside the compiled function.",
    "dtype": "Cast inputs to one dtype outside the compiled function.",
}


@COMPILING.kind("recompilation")
def recompilation(log: CompileLog) -> Iterator[Observation]:
    """A function is compiled again because a later call did not meet the guards of what had been compiled; the step in which that
    happens waits for the compiler.

    ## Formula
    compile ids frame/n with n > 0 that were compiled; time: the sum of their entire_frame_compile_time_s (where the log has
    no metrics, of their outermost chromium event)

    ## Threshold
    1; of severity info where a frame was compiled only once more and the inputs that changed became dynamic, as
    torch.compile does by default at the first change of a shape.

    ## Could also be
    - the one recompilation with which automatic dynamic shapes settle
    - functions that are meant to be specialised, for instance for each of a few bucket lengths
    - warm-up: it is paid once a process, not each step

    ## Change
    Make what changes dynamic or keep it the same: the failed guard names it.

    ## Next measurement
    The same run with TORCH_LOGS=recompiles, or torch._dynamo.config.error_on_recompile = True after warm-up.

    ## References
    - https://docs.pytorch.org/docs/2.12/user_guide/torch_compiler/compile/programming_model.recompilation.html
    - torch 2.13 torch/_dynamo/guards.py, get_and_maybe_log_recompilation_reasons
    - torch 2.13 torch/_dynamo/decorators.py, mark_dynamic
    """
    again = log.recompilations
    if not again:
        return
    spent = sum(each.total_ms or 0.0 for each in again)
    kinds = Counter(each.reasons[0].kind for each in again if each.reasons)
    main = kinds.most_common(1)[0][0] if kinds else "other"
    yield Observation(
        message=_message(again, spent),
        measured=len(again),
        unit="recompilations",
        where=_ranks(log, again),
        saves_at_most_ms=spent or None,
        change=_dynamic(log) or CHANGES.get(main),
        rows=most_first([f"{each.compile_id} {each.name}: {_why(each)}" for each in again]),
        severity="info" if _settled(log) else None,
    )


def _message(again: Iterable[Compilation], spent: float) -> str:
    listed = list(again)
    frames = Counter(each.name for each in listed)
    name, count = frames.most_common(1)[0]
    first = next(each for each in listed if each.name == name)
    of = f"{name} was compiled again {count} times" if count > 1 else f"{name} was compiled a second time"
    others = f", {counted(len(frames) - 1, 'other function')} too" if len(frames) > 1 else ""
    return f"{of}{others} ({counted(len(listed), 'recompilation')}, {spent:,.0f} ms); a guard failed: {_why(first)}."


def _why(each: Compilation) -> str:
    if not each.reasons:
        return "no reason logged"
    reason = each.reasons[0]
    return reason.guard + (f" ({reason.where})" if reason.where else "")


def _dynamic(log: CompileLog) -> str | None:
    """The inputs to mark, where Dynamo itself found that a size changed."""
    sizes = dict.fromkeys(
        (each.source, each.dimension) for each in log.changed if each.dimension.isdigit() and "[" in each.source
    )
    if not sizes:
        return None
    marks = ", ".join(f"torch._dynamo.mark_dynamic({_variable(source)}, {dim})" for source, dim in list(sizes)[:4])
    return f"Before the first call: {marks}; or compile with dynamic=True." + _scalars(log)


def _scalars(log: CompileLog) -> str:
    found = dict.fromkeys(_variable(each.source) for each in log.changed if each.dimension == "scalar")
    return (
        f" Pass {', '.join(list(found)[:4])} as a tensor: a Python number is a constant of the graph." if found else ""
    )


def _variable(source: str) -> str:
    """``x`` for ``L['x']``; other sources as they are."""
    return source[3:-2] if source.startswith("L['") and source.endswith("']") and source.count("[") == 1 else source


def _settled(log: CompileLog) -> bool:
    """Whether every frame was compiled once more at most, for inputs that then became dynamic."""
    made_dynamic = {each.compile_id for each in log.changed}
    return all(
        each.number == 1 and each.compile_id in made_dynamic and all(r.kind == "shape" for r in each.reasons)
        for each in log.recompilations
    )


def _ranks(log: CompileLog, rows: Iterable[Compilation]) -> str | None:
    ranks = {each.rank for each in rows}
    return f"on {len(ranks)} of {len(log.ranks)} ranks" if len(log.ranks) > 1 else None
