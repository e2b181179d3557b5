"""What is measured of a device, for how long, and what the samples say: rates, with the best shape of each dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from advisor_mcp.declaration import Progress
from advisor_mcp.formulas.ceilings import ALL_REDUCE, KIND, LAUNCH, matmul_key
from advisor_mcp.formulas.roofline import WIDTHS
from advisor_mcp.gpus.benchmarking.backend import DTYPES, Backend, Identity, Path, Unsupported
from advisor_mcp.gpus.benchmarking.timing import LEAST_SAMPLES, Samples, Timed, measure
from advisor_mcp.knowledge.measurements import Measurement

PARTS = ("matmul", "copy", "launch", "all_reduce")
GPU_SHAPES = ((8192, 8192, 8192), (16384, 8192, 8192), (8192, 28672, 8192))
CPU_SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 4096, 4096))
HOST_PATHS: tuple[Path, ...] = ("host_to_device.pinned", "host_to_device.pageable", "device_to_host.pinned")
MEMORY_SHARE = 8  # no measurement takes more than an eighth of the device's memory
COPY_BYTES, HOST_BYTES, REDUCE_BYTES = 2**30, 2**28, 2**28
CACHES = 4  # buffers of a copy are at least this many times the last cache


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to time: the key it is recorded under, work per run in units of `unit` x seconds, and how to run it."""

    key: str
    unit: str
    per_run: float
    how: str
    run: Callable[[float, Callable[[], float]], Samples]

    @property
    def is_time(self) -> bool:
        """Whether the quantity is a time rather than a rate."""
        return self.unit == "us"


@dataclass(slots=True)
class Outcome:
    """What was measured, and what was not with the reason."""

    identity: Identity
    rows: list[Measurement] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def tasks(backend: Backend, parts: Sequence[str] = PARTS) -> list[Task]:
    """Everything to time on this device, in order; what it does not support shows when it is run."""
    made = {"matmul": _matmuls, "copy": _copies, "launch": _launches, "all_reduce": _all_reduces}
    return [task for part in PARTS if part in parts for task in made[part](backend)]


def _matmuls(backend: Backend) -> Iterator[Task]:
    identity = backend.identity
    for dtype in DTYPES if identity.kind in ("cuda", "rocm") else ("fp32", "bf16", "fp16"):
        for m, n, k in CPU_SHAPES if identity.kind == "cpu" else GPU_SHAPES:
            if WIDTHS[dtype] * (m * k + k * n + m * n) > identity.memory_bytes / MEMORY_SHARE:
                continue
            task = partial(_time, partial(backend.matmul, dtype, m, n, k))
            yield Task(matmul_key(dtype), "TFLOP/s", 2 * m * n * k / 1e12, f"({m}, {k}) x ({k}, {n})", task)


def _time(make: Callable[[], Timed], seconds: float, now: Callable[[], float]) -> Samples:
    return measure(make(), seconds, now)


def _copies(backend: Backend) -> Iterator[Task]:
    identity = backend.identity
    size = int(min(max(COPY_BYTES, CACHES * (identity.l2_bytes or 0)), identity.memory_bytes / MEMORY_SHARE))
    yield _copy(backend, "device", size, 2)  # each byte is read and written
    for path in HOST_PATHS if identity.kind in ("cuda", "rocm") else ():
        yield _copy(backend, path, int(min(HOST_BYTES, identity.memory_bytes / MEMORY_SHARE)), 1)


def _copy(backend: Backend, path: Path, size: int, crossings: int) -> Task:
    how = f"{size} bytes, {path.replace('_', ' ').replace('.', ', ')}"
    return Task(f"copy.{path}", "GB/s", crossings * size / 1e9, how, partial(_time, partial(backend.copy, path, size)))


def _launches(backend: Backend) -> Iterator[Task]:
    if backend.identity.kind != "cpu":
        how = "a kernel on one element, launched eagerly, back to back"
        yield Task(LAUNCH, "us", 1e6, how, partial(_time, backend.launch))


def _all_reduces(backend: Backend) -> Iterator[Task]:
    ranks = backend.identity.count
    if backend.identity.kind in ("cuda", "rocm") and ranks > 1:
        moved = 2 * (ranks - 1) / ranks * REDUCE_BYTES / 1e9  # bus bandwidth: what each link carries
        how = f"{REDUCE_BYTES} bytes over {ranks} GPUs, bus bandwidth"
        yield Task(
            f"{ALL_REDUCE}.{ranks}", "GB/s", moved, how, lambda seconds, _: backend.all_reduce(REDUCE_BYTES, seconds)
        )


def run(
    backend: Backend, chosen: Sequence[Task], seconds: float, recorded: str, progress: Progress, now: Callable[[], float],
    version: str = "",
) -> Outcome:  # fmt: skip
    """Run the tasks in about `seconds` together; of several shapes of one key the fastest is kept.

    `recorded` is the time they are recorded under. A task that the device does not support is skipped with the reason.
    """
    outcome = Outcome(backend.identity)
    found: dict[str, Measurement] = {}
    started = now()
    for index, task in enumerate(chosen):
        progress.report(index, len(chosen), f"{task.key} {task.how}")
        left = max(started + seconds - now(), 0.0) / (len(chosen) - index)
        if task.key in found and not task.is_time and LEAST_SAMPLES * task.per_run / found[task.key].value > left:
            outcome.skipped.append((f"{task.key}, {task.how}", "it would take longer than the time given"))
            continue
        try:
            samples = task.run(left, now)
        except Unsupported as reason:
            outcome.skipped.append((f"{task.key}, {task.how}", str(reason)))
            continue
        row = _measurement(task, samples, backend, recorded, version)
        if task.key not in found or (row.value > found[task.key].value) != task.is_time:
            found[task.key] = row
    progress.report(len(chosen), len(chosen), "done")
    outcome.rows = list(found.values())
    return outcome


def _measurement(task: Task, samples: Samples, backend: Backend, recorded: str, version: str) -> Measurement:
    fast, slow = samples.low, samples.high
    if task.is_time:
        value, low, high = (task.per_run * each for each in (samples.median, fast, slow))
    else:
        value, low, high = (task.per_run / each for each in (samples.median, slow, fast))
    identity = backend.identity
    how = {
        "what": task.how,
        "command": "advisor-mcp benchmark-device",
        "version": version,
        "device": identity.name,
        "software": identity.software,
        "driver": identity.driver,
        "clock_mhz": backend.clock_mhz(),
        "settled": samples.settled,
    }
    told: dict[str, Any] = {name: said for name, said in how.items() if said is not None}
    return Measurement(KIND, identity.id, task.key, value, task.unit, low, high, samples.count, recorded, told)


def unmeasured(outcome: Outcome) -> list[tuple[str, str]]:
    """Of what was skipped, the quantities that no other shape gave either."""
    known = {row.key for row in outcome.rows}
    return [(what, why) for what, why in outcome.skipped if what.split(",")[0] not in known]
