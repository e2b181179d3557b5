"""Real traces with exact answers: the parts of the time, the finding each is known for, and none on healthy ones."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from advisor_mcp.catalogue import default_catalogue
from advisor_mcp.errors import AdvisorError
from benchmarks.accuracy.cases import Case, Outcome

TOLERANCE = 0.01
"""Percentage points that a part may differ from the exact answer: the answer gives two decimals."""

PARTS = {
    "computation": "compute_percent",
    "exposed_comm": "exposed_communication_percent",
    "exposed_memcpy": "exposed_copy_percent",
    "idle": "idle_percent",
}
SQL_PARTS = {
    "compute_pct": "compute_percent",
    "exposed_comm_pct": "exposed_communication_percent",
    "exposed_memcpy_pct": "exposed_copy_percent",
    "idle_incl_copies_pct": "idle_percent",
}

# what the index says of a trace, in the words of its author, and the finding or gate that says the same; None: nothing may be found
_KNOWN_FOR: tuple[tuple[str, str | None], ...] = (
    (r"launch[- ]bound", "launch-bound"),
    (r"dataloader (?:stall|span)|enumerate\(dataloader\)", "dataloader-stall"),
    (r"unfused elementwise", "unfused-elementwise"),
    (r"item calls|cudastreamsynchronize =", "host-sync"),
    (r"all-to-all|sendrecv", "exposed-communication"),
    (r"softmax \d+ % of kernel", "materialised-attention"),
    (r"fp32 on a tensor-core|fp32 alexnet", "fp32-matmul"),
    (r"holds start-up", "startup-in-window"),
    (r"no launch record", "unlinked-gpu-events"),
    (r"cpu[- ]only", "no-gpu-events"),
    (r"one recompile", "recompilation"),
    (r"graph breaks", "graph-break"),
    (r"pair for straggler", "exposed-communication"),
    (r"^healthy|healthy-launch", None),
)


def cases(data: Path) -> Iterator[Case]:
    """A case for every trace that has an answer; `measured` is the answer."""
    folder = data / "traces"
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    index = {row["file"]: row for row in json.loads((folder / "index.json").read_text(encoding="utf-8"))}
    for name, answer in truth.items():
        group = name.split("_")[0]
        path = folder / name
        excluded = None if path.exists() and not name.endswith((".tar.gz", "golden.json.gz")) else "no trace of its own"
        arguments = {"trace": [str(path)], "detail": "full"}
        said = str(index.get(name, {}).get("shows", ""))
        words = said if re.match("healthy", said, re.IGNORECASE) else f"{name.replace('_', ' ')}: {said}"
        yield Case(name, group, "diagnose_trace", arguments, "", answer, basis=words, excluded_by=excluded)


def run(case: Case) -> Outcome:
    """The whole answer, as a client gets it."""
    try:
        return Outcome(case, default_catalogue().call(case.tool, case.arguments).data())
    except AdvisorError as error:
        return Outcome(case, error=error.message)


def expected(case: Case) -> tuple[list[str], bool]:
    """The findings that a trace is known for, and whether it is healthy."""
    given = case.measured.get("findings") if isinstance(case.measured, Mapping) else None
    if given is not None:
        return list(given), not given
    names = [name for words, name in _KNOWN_FOR if re.search(words, case.basis.lower())]
    return [name for name in names if name], None in names


def found(answer: Mapping[str, Any]) -> set[str]:
    """Every finding, opportunity and gate of an answer."""
    rows = [*answer.get("findings", ()), *answer.get("opportunities", ()), *answer.get("trust", ())]
    return {row["name"] for row in rows}


def off_by(case: Case, answer: Mapping[str, Any]) -> list[float]:
    """How far every part that has an exact answer is off, in percentage points."""
    devices = answer.get("devices", [])
    exact = case.measured.get("exact", {})
    if "computation" in exact and len(devices) == 1:
        return [abs(devices[0][ours] - exact[theirs]) for theirs, ours in PARTS.items()]
    by_index = {f"gpu{row['device']}": row for row in devices}
    return [
        abs(by_index[name][ours] - parts[theirs])
        for name, parts in case.measured.get("exact_sql", {}).items()
        if name in by_index
        for theirs, ours in SQL_PARTS.items()
    ]


def other_facts(case: Case, answer: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Facts beside the parts: name, exact, ours."""
    exact = case.measured.get("exact", {})
    if "peak_bytes" in exact or "mosaic_test" in case.measured:
        wanted = exact.get("peak_bytes") or case.measured["mosaic_test"]["peak_bytes"]
        yield "peak_bytes", wanted, _first(answer.get("memory"), "peak_bytes")
    if "recompiles" in exact or "recompiles" in case.measured:
        wanted = exact.get("recompiles", case.measured.get("recompiles"))
        yield "recompiles", wanted, _first(answer.get("compilation"), "recompilations")
    if "dataloader_share_pct" in case.measured:
        rows = [row for row in answer["findings"] if row["name"] == "dataloader-stall"]
        ours = round(rows[0]["measured"], 2) if rows else None
        yield "dataloader share", round(case.measured["dataloader_share_pct"], 2), ours
    if "graph_breaks" in case.measured:
        yield "graph breaks", case.measured["graph_breaks"], _first(answer.get("compilation"), "graph_breaks")


def _first(of: Any, name: str) -> Any:
    """A figure by name, wherever it stands in a part of the answer; a list counts its rows."""
    if isinstance(of, dict):
        if name in of:
            return len(of[name]) if isinstance(of[name], list) else of[name]
        return next((hit for part in of.values() if (hit := _first(part, name)) is not None), None)
    if isinstance(of, list):
        return next((hit for part in of if (hit := _first(part, name)) is not None), None)
    return None


def report(outcomes: Sequence[Outcome], excluded: Counter[str]) -> Iterator[str]:
    """A line a trace, and the figures last."""
    exact = known = wanted_known = healthy = quiet = facts = right = 0
    worst: list[float] = []
    for outcome in outcomes:
        case = outcome.case
        if outcome.error is not None:
            yield f"{case.id}: {outcome.error}"
            continue
        off = off_by(case, outcome.predicted)
        names, must_be_quiet = expected(case)
        seen = found(outcome.predicted)
        told = list(other_facts(case, outcome.predicted))
        worst += [max(off)] if off else []
        exact += bool(off) and max(off) <= TOLERANCE
        known += sum(name in seen for name in names)
        wanted_known += len(names)
        healthy += must_be_quiet
        quiet += must_be_quiet and not outcome.predicted["findings"]
        facts += len(told)
        right += sum(wanted == ours for _, wanted, ours in told)
        yield _line(case.id, off, names, seen, told, must_be_quiet, outcome.predicted)
    for reason, count in excluded.items():
        yield f"excluded: {count} ({reason})"
    yield f"traces parts: n={len(worst)} within_{TOLERANCE}_points={exact} worst={max(worst, default=0):.4f}"
    yield f"traces findings: named={wanted_known} present={known} healthy={healthy} without_findings={quiet}"
    yield f"traces facts: n={facts} exact={right}"
    total, good = len(worst) + wanted_known + healthy + facts, exact + known + quiet + right
    yield f"traces: n={total} exact={good} median=-% p90=-% covered=-% excluded={sum(excluded.values())}"


def _line(
    name: str,
    off: list[float],
    names: list[str],
    seen: set[str],
    told: list[tuple[str, Any, Any]],
    quiet: bool,
    answer: Any,
) -> str:
    parts = [f"parts off by {max(off):.4f}"] if off else []
    parts += [f"{one} {'found' if one in seen else 'MISSED'}" for one in names]
    parts += [f"{what} {ours} of {wanted}" for what, wanted, ours in told]
    if quiet:
        parts.append("healthy, " + ("nothing found" if not answer["findings"] else f"but {sorted(seen)}"))
    return f"{name}: {'; '.join(parts) or 'answered'}"
