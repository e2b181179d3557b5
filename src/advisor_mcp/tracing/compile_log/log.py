"""What a torch.compile log says: what was compiled, how often again and why, where graphs broke, what caches gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from advisor_mcp.tracing.doubts import Doubt

ReasonKind: TypeAlias = Literal[
    "shape", "stride", "rank", "dtype", "gradient", "mode", "device", "length", "identity", "value", "other"
]
CacheState: TypeAlias = Literal["hit", "miss", "bypass", "disabled", "guard_miss"]


@dataclass(frozen=True, slots=True)
class Reason:
    """The guard that a call failed, so that its frame was compiled again; `against` is the compile id that did not fit."""

    guard: str
    kind: ReasonKind
    against: str | None
    where: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a compilation came to nothing; at the recompile limit the frame runs in eager mode from then on."""

    kind: str
    reason: str
    where: str | None
    limit: bool


@dataclass(frozen=True, slots=True)
class Compilation:
    """One compilation of a frame; times in milliseconds, None where the log does not say."""

    rank: int | None
    compile_id: str
    frame_id: int | None
    number: int
    function: str | None = None
    where: str | None = None
    total_ms: float | None = None
    backend_ms: float | None = None
    inductor_ms: float | None = None
    restarts: int = 0
    restart_ms: float = 0.0
    graph_ops: int | None = None
    reasons: tuple[Reason, ...] = ()
    failure: Failure | None = None

    @property
    def again(self) -> bool:
        """Whether this is a recompilation: the frame had been compiled before. A refused attempt at the limit is none."""
        return self.number > 0 and not (self.failure and self.failure.limit)

    @property
    def name(self) -> str:
        """``f (rec.py:2)``, as far as the log names the frame."""
        return f"{self.function} ({self.where})" if self.function and self.where else self.function or self.compile_id


@dataclass(frozen=True, slots=True)
class GraphBreak:
    """A place where Dynamo had to end a graph: the code before and after runs as separate graphs, with Python between."""

    rank: int | None
    compile_id: str | None
    where: str | None
    reason: str
    hint: str | None
    skipped: bool


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """What a compile cache answered; `saved_ms` is the time that a hit saved, as PyTorch measured it."""

    rank: int | None
    cache: str
    state: CacheState
    compile_id: str | None
    key: str | None
    reason: str | None
    saved_ms: float | None


@dataclass(frozen=True, slots=True)
class Changed:
    """An input that changed between calls, so that Dynamo made it dynamic: a dimension's index, "scalar" or "all"."""

    compile_id: str | None
    source: str
    dimension: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Specialised:
    """A dynamic dimension that the program's own code pinned to one value."""

    compile_id: str | None
    sources: tuple[str, ...]
    value: str


@dataclass(frozen=True, slots=True)
class CompileLog:
    """The structured logs (TORCH_TRACE) of one job; a rank is None where it is not stated.

    `phases_ms` are the times by phase name; phases nest, so they do not add up. `envelopes` counts entries by kind.
    """

    ranks: tuple[int | None, ...]
    torch_version: str | None
    span_ms: float | None
    envelopes: Mapping[str, int]
    compilations: tuple[Compilation, ...]
    breaks: tuple[GraphBreak, ...]
    lookups: tuple[CacheLookup, ...]
    changed: tuple[Changed, ...]
    specialised: tuple[Specialised, ...]
    phases_ms: Mapping[str, float]
    backward_ms: float
    doubts: tuple[Doubt, ...] = ()

    @property
    def compile_ids(self) -> frozenset[tuple[int | None, str]]:
        """The distinct compile ids, with their rank."""
        return frozenset((each.rank, each.compile_id) for each in self.compilations)

    @property
    def recompilations(self) -> tuple[Compilation, ...]:
        """The compilations of frames that had been compiled before: compile ids ``frame/n`` with n > 0."""
        return tuple(each for each in self.compilations if each.again)

    @property
    def restarts(self) -> int:
        """How often Dynamo began a trace anew, mostly after a graph break."""
        return sum(each.restarts for each in self.compilations)

    @property
    def failures(self) -> tuple[Compilation, ...]:
        """The compilations that came to nothing, refused ones at the recompile limit included."""
        return tuple(each for each in self.compilations if each.failure)

    @property
    def total_ms(self) -> float:
        """Time spent compiling, forward and backward, over all ranks."""
        return sum(each.total_ms or 0.0 for each in self.compilations) + self.backward_ms
