"""What starting and calling the server costs over the SDK's own floor: `python -m benchmarks.startup [--json]`.

The server and an echo server on the same SDK are started in turn. Of each start: milliseconds from spawn to the answer
to `initialize` and to the first `tools/list`, the first call (which imports the tool), then p50 and p99 of further
calls, and the resident memory after them. Printed are medians over the starts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

PROTOCOL = "2025-11-25"
MIB = 2**20


@dataclass(frozen=True)
class Candidate:
    """A server to start and one of its tools to call."""

    command: Sequence[str]
    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Costs:
    """What was measured of one start, or the median over several."""

    initialize_ms: float
    tools_list_ms: float
    first_call_ms: float
    call_p50_ms: float
    call_p99_ms: float
    resident_mib: float


CANDIDATES = {
    "advisor": Candidate([sys.executable, "-m", "advisor_mcp", "serve"], "describe_model", {"model": "llama-3.1-8b"}),
    "echo": Candidate([sys.executable, str(Path(__file__).with_name("echo_server.py"))], "echo", {"text": "hello"}),
}
ALLOWED_OVER_ECHO = Costs(60, 60, float("inf"), 1, float("inf"), 12)


class WireClient:
    """A client of newline-delimited JSON-RPC over a child's standard streams, with nothing but the standard library."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None, stderr: int | None = None) -> None:
        self.process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=dict(env) if env else None
        )
        self._last_id = 0

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one message."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Read one message; raises `EOFError` when the server closed its side."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise EOFError("the server closed its output")
        message: dict[str, Any] = json.loads(line)
        return message

    def ask(self, method: str, params: Mapping[str, Any]) -> int:
        """Send a request and return its id."""
        self._last_id += 1
        self.send({"id": self._last_id, "method": method, "params": dict(params)})
        return self._last_id

    def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return its result; raises `RuntimeError` with what the server said instead."""
        number = self.ask(method, params)
        while (answer := self.receive()).get("id") != number:
            pass
        if "error" in answer or answer["result"].get("isError"):
            raise RuntimeError(f"{method}: {json.dumps(answer)[:500]}")
        result: dict[str, Any] = answer["result"]
        return result

    def initialize(self) -> dict[str, Any]:
        """The handshake of the protocol's older era."""
        client = {"name": "wire-client", "version": "1"}
        params = {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client}
        result = self.request("initialize", params)
        self.send({"method": "notifications/initialized"})
        return result

    def close(self) -> int:
        """Close the server's input and return its exit status."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        status = self.process.wait(timeout=30)
        self.process.stdout.close()
        return status


def measure(candidate: Candidate, calls: int) -> Costs:
    """Start a server once and measure it; times are wall-clock, in milliseconds."""
    spawned = time.perf_counter()
    client = WireClient(candidate.command)
    try:
        client.initialize()
        initialized = time.perf_counter()
        client.request("tools/list", {})
        listed = time.perf_counter()
        call = {"name": candidate.tool, "arguments": dict(candidate.arguments)}
        first, *times = (_timed(lambda: client.request("tools/call", call)) for _ in range(calls + 1))
        memory = resident_bytes(client.process.pid) / MIB
    finally:
        client.close()
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return Costs((initialized - spawned) * 1e3, (listed - spawned) * 1e3, first, cuts[49], cuts[98], memory)


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1e3


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, from /proc where there is one, else from ps."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)])) * 1024


def compare(candidates: Mapping[str, Candidate], runs: int, calls: int) -> dict[str, Costs]:
    """Medians over `runs` starts of each candidate, started in turn so that a busy moment strikes them alike."""
    measured: dict[str, list[Costs]] = {name: [] for name in candidates}
    for _ in range(runs):
        for name, candidate in candidates.items():
            measured[name].append(measure(candidate, calls))
    return {
        name: _each(lambda *values: round(statistics.median(values), 2), *costs) for name, costs in measured.items()
    }


def _each(fold: Callable[..., float], *costs: Costs) -> Costs:
    return Costs(*(fold(*(getattr(each, field.name) for each in costs)) for field in fields(Costs)))


def table(medians: Mapping[str, Costs]) -> str:
    """The medians as Markdown, with what the server costs over the echo server and what it may."""
    over = _each(lambda ours, floor: round(ours - floor, 2), medians["advisor"], medians["echo"])
    rows = {**medians, "advisor over echo": over, "allowed": ALLOWED_OVER_ECHO}
    heads = [field.name.rpartition("_") for field in fields(Costs)]
    lines = [
        "| | "
        + " | ".join(f"{name.replace('_', ' ')} ({unit.replace('mib', 'MiB')})" for name, _, unit in heads)
        + " |",
        "|---|" + "---|" * len(heads),
    ]
    for name, costs in rows.items():
        cells = (f"{value:g}" if value != float("inf") else "" for value in asdict(costs).values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=9, help="starts of each server")
    parser.add_argument("--calls", type=int, default=300, help="calls of each start")
    parser.add_argument("--json", action="store_true", help="print the medians as JSON")
    given = parser.parse_args(argv)
    medians = compare(CANDIDATES, given.runs, max(2, given.calls))
    print(json.dumps({name: asdict(costs) for name, costs in medians.items()}) if given.json else table(medians))
    return 0


if __name__ == "__main__":
    sys.exit(main())
