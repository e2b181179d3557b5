"""Our reader beside HolisticTraceAnalysis: `python -m benchmarks.traces --data DIR [--python PYTHON] [--repeat N]`.

DIR/traces holds PyTorch profiler traces (.json.gz), PYTHON has HTA (`traceinsight` on PyPI). Measured of every trace, each run in a
process of its own on one core: the whole answer of `diagnose_trace`, and HTA's reading with its temporal breakdown alone. One
further trace is made of a real one, its events repeated with later times and other ids until they are `--megabytes`. MB
are uncompressed ones, the best of N runs; the libraries' imports count for ours, not for HTA.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TRACES = (
    "a100_item_syncs_multistream.json.gz",
    "v100_resnet50_workers0_dataloader.json.gz",
    "v100_resnet50_workers4.json.gz",
    "h100_owlv2_sync_dataloader.json.gz",
)
MEASURED = """
import json, os, resource, sys, time
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
%s
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([time.perf_counter() - start, peak]))
"""
OURS = (
    MEASURED
    % """
import advisor_mcp
start = time.perf_counter()
advisor_mcp.call("diagnose_trace", trace=[sys.argv[1]]).text()
"""
)
THEIRS = (
    MEASURED
    % """
from hta.trace_analysis import TraceAnalysis
start = time.perf_counter()
TraceAnalysis(trace_files={0: sys.argv[1]}, trace_dir=os.path.dirname(sys.argv[1])).get_temporal_breakdown(visualize=False)
"""
)
VERSIONS = (
    "from importlib.metadata import version; print('HTA', version('traceinsight'), 'with pandas', version('pandas'))"
)

_SHIFTED = re.compile(r'("ts":\s*"?|"(?:correlation|External id|id)":\s*|"ProfilerStep#)(\d+)')
_EVENTS = re.compile(r'"traceEvents"\s*:\s*\[')
MORE_IDS, MORE_STEPS = 10_000_000, 1_000


@dataclass(frozen=True)
class Run:
    """Seconds of wall-clock time and the process' peak resident bytes."""

    seconds: float
    peak: int


def measure(python: str, program: str, trace: Path, repeat: int) -> Run | str:
    """The fastest of some runs with the least memory of any, or why there is none."""
    runs = []
    for _ in range(repeat):
        done = subprocess.run([python, "-c", program, str(trace)], capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"ends with status {done.returncode}"])[-1]
            return f"fails: {last[:90]}"
        runs.append(Run(*json.loads(done.stdout.splitlines()[-1])))
    return Run(min(run.seconds for run in runs), min(run.peak for run in runs))


def lengthen(source: Path, target: Path, size: int) -> None:
    """Write the trace with its events repeated until they are `size` bytes: later by the trace's length, ids and steps counted on."""
    text = gzip.decompress(source.read_bytes()).decode()
    found = _EVENTS.search(text)
    assert found, f"{source} has no list of events"
    events, end = json.JSONDecoder(strict=False).raw_decode(text, found.end() - 1)
    times = [event["ts"] for event in events if event.get("ph") == "X"]
    ends = [event["ts"] + event["dur"] for event in events if event.get("ph") == "X"]
    length = int(max(ends) - min(times)) + 1
    body = text[found.end() : end - 1]
    with gzip.open(target, "wt", compresslevel=6) as file:
        file.write(text[: found.end()] + body)
        for copy in range(1, -(-size // len(body))):
            file.write("," + shifted(body, copy, length))
        file.write(text[end - 1 :])


def shifted(events: str, copy: int, length: int) -> str:
    """The text of some events as the nth copy of them: `length` microseconds later each time, with ids and steps of its own."""

    def moved(found: re.Match[str]) -> str:
        by = length if found[1].startswith('"ts') else MORE_STEPS if found[1].startswith('"Prof') else MORE_IDS
        return f"{found[1]}{int(found[2]) + copy * by}"

    return _SHIFTED.sub(moved, events)


def row(name: str, trace: Path, python: str | None, repeat: int) -> str:
    """The table's row of one trace."""
    size = uncompressed(trace)
    cells = [_cells(measure(sys.executable, OURS, trace, repeat), size)]
    if python:
        cells.append(_cells(measure(python, THEIRS, trace, repeat), size))
    return f"| {name} | {size / 1e6:,.1f} | {' | '.join(cells)} |"


def uncompressed(trace: Path) -> int:
    """The bytes of a trace, read in pieces."""
    with gzip.open(trace) as file:
        return sum(len(piece) for piece in iter(lambda: file.read(1 << 20), b""))


def _cells(run: Run | str, size: int) -> str:
    if isinstance(run, str):
        return f"{run} | | "
    return f"{run.seconds:.2f} | {size / 1e6 / run.seconds:.0f} | {run.peak / 2**20:,.0f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.traces", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--python", help="an interpreter that has traceinsight; without it only our reader is measured")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each")
    parser.add_argument("--traces", nargs="+", default=TRACES, metavar="NAME", help="the last is the one to lengthen")
    parser.add_argument("--megabytes", type=int, default=540, help="of the lengthened trace; 0 for none")
    given = parser.parse_args(argv)
    traces = [given.data / "traces" / name for name in given.traces]
    heads = ["advisor-mcp", *(["HTA"] if given.python else [])]
    print("| trace | MB | " + " | ".join(f"{who} (s) | MB/s | peak (MiB)" for who in heads) + " |")
    print("|---|---|" + "---|---|---|" * len(heads), flush=True)
    for trace in traces:
        print(row(trace.name.removesuffix(".json.gz"), trace, given.python, given.repeat), flush=True)
    if given.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "long.json.gz"
            # in a process of its own: what it takes would count as the peak of every process started after it
            maker = multiprocessing.get_context("spawn").Process(
                target=lengthen, args=(traces[-1], target, given.megabytes * 1_000_000)
            )
            maker.start()
            maker.join()
            print(row("the last one, repeated", target, given.python, given.repeat))
    if given.python:
        print("\n" + subprocess.run([given.python, "-c", VERSIONS], capture_output=True, text=True, check=True).stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
