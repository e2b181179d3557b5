"""The finding `compile-failure`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.compile_log import CompileLog
from advisor_mcp.tracing.record_families import COMPILING, counted, most_first


@COMPILING.kind("compile-failure", severity="error")
def compile_failure(log: CompileLog) -> Iterator[Observation]:
    """A function could not be compiled: the program stops there, or the function runs in eager mode where errors are suppressed.

    ## Formula
    compilations whose metrics carry a fail_type, those refused at the recompile limit left out

    ## Threshold
    1

    ## Could also be
    - a frame that PyTorch tried on its own and left alone, without harm
    - an error of the program itself, raised while its code was traced

    ## Change
    Read the error of the first failure; torch.compile(..., backend="eager"), then "aot_eager", tells which part fails.
    torch.compiler.disable keeps one function out.

    ## Next measurement
    The same run with TORCHDYNAMO_REPRO_AFTER="dynamo" or "aot", which writes a small program that fails the same way.

    ## References
    - torch 2.13 torch/_dynamo/utils.py, CompilationMetrics: fail_type, fail_reason
    """
    failed = [(each, each.failure) for each in log.failures if each.failure and not each.failure.limit]
    if not failed:
        return
    first, failure = failed[0]
    at = f" at {failure.where}" if failure.where else ""
    yield Observation(
        message=f"{counted(len(failed), 'compilation')} failed; the first, {first.name}: {failure.kind}{at}: {failure.reason}.",
        measured=len(failed),
        unit="failed compilations",
        rows=most_first([f"{each.compile_id} {each.name}: {why.kind}: {why.reason}" for each, why in failed]),
    )
