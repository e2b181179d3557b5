"""From paths to evidence and its diagnosis: every file recognised by its content and read, the ranks of a job together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from advisor_mcp import access
from advisor_mcp.declaration import Progress
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.tracing.compile_log import CompileLog, read_compile_log
from advisor_mcp.tracing.diagnosis import Diagnosis, diagnose
from advisor_mcp.tracing.jsonstream import unzipped
from advisor_mcp.tracing.kineto import read_kineto
from advisor_mcp.tracing.memory import MemoryHistory, read_snapshot, read_timeline
from advisor_mcp.tracing.nsight import read_nsight
from advisor_mcp.tracing.recognise import NEEDS, Kind, reading_from, recognise
from advisor_mcp.tracing.timeline import LONGEST_LABEL, Timeline, printable

MOST_FILES = 1024


@dataclass
class Evidence:
    """What the given files held; `passed_over` are files of a folder that are no evidence."""

    timelines: list[Timeline] = field(default_factory=list)
    memories: list[MemoryHistory] = field(default_factory=list)
    compile_log: CompileLog | None = None
    passed_over: list[str] = field(default_factory=list)


def read_evidence(given: Sequence[str], progress: Progress) -> Evidence:
    """Read every file and every trace of every folder given; the compile logs of several ranks are read as one job's.

    Raises `UsageError` for a path that cannot be used and `CannotAnswer` for a file that is no evidence; in a folder such
    files are passed over.
    """
    evidence = Evidence()
    logs: list[Path] = []
    files = [(path, said, inside) for said in given for path, inside in _files(said)]
    if len(files) > MOST_FILES:
        raise UsageError(
            f"{len(files):,} files are more than the {MOST_FILES:,} that are read at once; name the ranks to look at"
        )
    for place, (path, said, inside) in enumerate(files):
        progress.report(place, len(files), printable(path.name, 60))
        try:
            if (kind := recognise(path, path.name if inside else said)) == "compile_log":
                logs.append(path)
                continue
            with reading_from(path.name if inside else said):
                _READERS[kind](path, evidence, progress)
        except (CannotAnswer, UsageError):
            if not inside:
                raise
            evidence.passed_over.append(path.name)
    if logs:
        with ExitStack() as stack:
            evidence.compile_log = read_compile_log(
                [stack.enter_context(opened(path)) for path in logs], progress.check
            )
    if not (evidence.timelines or evidence.memories or evidence.compile_log):
        raise CannotAnswer("there is no trace in what was given", needs=[NEEDS])
    return evidence


def diagnosed(given: Sequence[str], progress: Progress) -> Diagnosis:
    """What the files and folders given show; raises as `read_evidence` does."""
    evidence = read_evidence(given, progress)
    return diagnose(evidence.timelines, evidence.memories, evidence.compile_log)


def _files(said: str) -> Iterator[tuple[Path, bool]]:
    path = access.readable(said)
    with reading_from(said):
        found = None
        if path.is_dir():
            found = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
    if found is None:
        yield path, False
        return
    # a link may lead out of the folder that the call may read
    yield from ((access.readable(f"{said}/{one.name}"), True) for one in found)


def _kineto(path: Path, evidence: Evidence, progress: Progress) -> None:
    with opened(path) as file:
        evidence.timelines.append(read_kineto(file, printable(path.name, LONGEST_LABEL), _checked(progress, path)))


def _snapshot(path: Path, evidence: Evidence, progress: Progress) -> None:
    with opened(path) as file:
        evidence.memories.append(read_snapshot(file, check=progress.check))


def _memory_timeline(path: Path, evidence: Evidence, progress: Progress) -> None:
    with opened(path) as file:
        evidence.memories.append(read_timeline(file, check=progress.check))


def _nsight(path: Path, evidence: Evidence, progress: Progress) -> None:
    evidence.timelines.append(read_nsight(path, printable(path.name, LONGEST_LABEL), progress.check))


_READERS: dict[Kind, Callable[[Path, Evidence, Progress], None]] = {
    "kineto": _kineto,
    "memory_snapshot": _snapshot,
    "memory_timeline": _memory_timeline,
    "nsight": _nsight,
}


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file's content, through gzip where it is compressed."""
    with path.open("rb") as file:
        yield unzipped(cast(BinaryIO, file))


def _checked(progress: Progress, path: Path) -> Callable[[int], None]:
    """Called with the bytes read: reports now and then, and stops where the caller withdrew."""
    last = 0

    def check(done: int) -> None:
        nonlocal last
        progress.check()
        if done - last > 32 << 20:
            last = done
            progress.report(done, None, f"{printable(path.name, 60)}: {done >> 20} MiB")

    return check
