"""The part of `diagnose_trace`'s answer that tells of compilation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pydantic import Field

from advisor_mcp.results import Row
from advisor_mcp.tracing.compile_log import Compilation, CompileLog

BRIEF_ROWS, FULL_ROWS = 2, 10
LONGEST_BRIEF, LONGEST_NAME = 60, 32


class FunctionRow(Row):
    """A function and what compiling it took."""

    function: str
    where: str | None = None
    compilations: int
    recompilations: int
    total_ms: float | None = None
    graph_operations: int | None = Field(default=None, description="Operations in its largest graph")


class RecompilationRow(Row):
    """Why a frame was compiled again."""

    compile_id: str = Field(description="frame/n: the n-th further version of a frame")
    function: str | None = None
    guard: str = Field(description="The guard that failed")
    where: str | None = None
    total_ms: float | None = None


class BreakRow(Row):
    """A place where a graph broke."""

    where: str | None = None
    reason: str
    count: int


class CacheRow(Row):
    """What a compile cache answered."""

    cache: str
    hits: int
    misses: int
    bypassed: int
    saved_ms: float | None = Field(default=None, description="Time that hits saved, as PyTorch measured it")


class DynamicRow(Row):
    """An input that changed between calls and was made dynamic."""

    source: str
    dimension: str
    change: str


class PhaseRow(Row):
    """A phase of compilation; phases nest, so they do not add up."""

    phase: str
    total_ms: float


class CompileSection(Row):
    """What the structured logs of torch.compile say."""

    ranks: int = Field(description="Logs read, one of each rank")
    torch_version: str | None = None
    compile_ids: int = Field(description="Distinct compile ids, over all ranks")
    compilations: int
    recompilations: int = Field(description="Compile ids frame/n with n > 0")
    graph_breaks: int
    restarts: int = Field(description="Traces that Dynamo began anew")
    failures: int
    compile_ms: float = Field(description="Spent compiling, over all ranks")
    span_ms: float | None = Field(default=None, description="From the first to the last entry")
    recompiled: list[RecompilationRow]
    broke: list[BreakRow]
    caches: list[CacheRow]
    slowest: list[FunctionRow]
    made_dynamic: list[DynamicRow] | None = None
    specialised: list[str] | None = Field(default=None, description="Dynamic sizes that the program pinned to a value")
    phases: list[PhaseRow] | None = None
    doubts: list[str]
    more: list[str] = Field(description="What was left out to keep this short")


def compile_section(log: CompileLog, full: bool) -> CompileSection:
    """Compile logs as an answer gives them: at most about 1,200 bytes, or 8,000 with `full`."""
    most = FULL_ROWS if full else BRIEF_ROWS
    again, broke, functions = log.recompilations, _breaks(log, full), _functions(log.compilations, full)
    doubts = [doubt.sentence for doubt in log.doubts]
    section = CompileSection(
        ranks=len(log.ranks),
        torch_version=log.torch_version,
        compile_ids=len(log.compile_ids),
        compilations=len(log.compilations),
        recompilations=len(again),
        graph_breaks=len(log.breaks),
        restarts=log.restarts,
        failures=len(log.failures),
        compile_ms=round(log.total_ms, 1),
        span_ms=None if log.span_ms is None else round(log.span_ms, 1),
        recompiled=[_recompilation(each, full) for each in again[:most]],
        broke=broke[:most],
        caches=_caches(log),
        slowest=functions[:most],
        doubts=doubts[:8] if full else doubts[:1],
        more=_more(recompiled=len(again) - most, broke=len(broke) - most, slowest=len(functions) - most),
    )
    return _with_details(section, log) if full else section


def _with_details(section: CompileSection, log: CompileLog) -> CompileSection:
    phases = list(log.phases_ms.items())[:FULL_ROWS]
    pinned = [f"{', '.join(each.sources)} = {each.value}"[:160] for each in log.specialised[:FULL_ROWS]]
    details = {
        "made_dynamic": _dynamic(log)[:FULL_ROWS],
        "specialised": pinned,
        "phases": [PhaseRow(phase=name, total_ms=round(took, 1)) for name, took in phases],
    }
    return section.model_copy(update=details)


def _more(**left: int) -> list[str]:
    return [f"{name}: {count} more" for name, count in left.items() if count > 0]


def _cut(text: str, full: bool, longest: int = LONGEST_BRIEF) -> str:
    return text if full or len(text) <= longest else text[: longest - 1] + "…"


def _recompilation(each: Compilation, full: bool) -> RecompilationRow:
    reason = each.reasons[0] if each.reasons else None
    return RecompilationRow(
        compile_id=each.compile_id,
        function=each.function and _cut(each.function, full, LONGEST_NAME),
        guard=_cut(reason.guard, full) if reason else "no reason logged",
        where=_cut((reason and reason.where) or each.where or "", full, LONGEST_NAME) or None,
        total_ms=_ms(each.total_ms),
    )


def _breaks(log: CompileLog, full: bool) -> list[BreakRow]:
    found = Counter((each.where, _cut(each.reason, full)) for each in log.breaks)
    return [BreakRow(where=where, reason=reason, count=count) for (where, reason), count in found.most_common()]


def _functions(compilations: Iterable[Compilation], full: bool) -> list[FunctionRow]:
    """The functions, the one that took longest first."""
    grouped: dict[str, list[Compilation]] = {}
    for each in compilations:
        grouped.setdefault(each.name, []).append(each)
    rows = [_function(versions, full) for versions in grouped.values()]
    return sorted(rows, key=lambda row: -(row.total_ms or 0.0))


def _function(versions: list[Compilation], full: bool) -> FunctionRow:
    first = versions[0]
    return FunctionRow(
        function=_cut(first.function or first.compile_id, full, LONGEST_NAME),
        where=first.where,
        compilations=len(versions),
        recompilations=sum(each.again for each in versions),
        total_ms=_ms(sum(each.total_ms or 0.0 for each in versions)),
        graph_operations=max((each.graph_ops or 0 for each in versions), default=0) or None,
    )


def _caches(log: CompileLog) -> list[CacheRow]:
    return [
        CacheRow(
            cache=cache,
            hits=states["hit"],
            misses=states["miss"] + states["guard_miss"],
            bypassed=states["bypass"] + states["disabled"],
            saved_ms=_ms(sum(each.saved_ms or 0.0 for each in log.lookups if each.cache == cache)) or None,
        )
        for cache in dict.fromkeys(each.cache for each in log.lookups)
        for states in [Counter(each.state for each in log.lookups if each.cache == cache)]
    ]


def _dynamic(log: CompileLog) -> list[DynamicRow]:
    rows = {(each.source, each.dimension): f"{each.old} to {each.new}" for each in reversed(log.changed)}
    return [DynamicRow(source=source, dimension=dim, change=change) for (source, dim), change in reversed(rows.items())]


def _ms(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
