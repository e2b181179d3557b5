"""`advisor-mcp benchmark-device` and `advisor-mcp measurements list|forget`."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from advisor_mcp import __version__, batch
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.flags import PROGRAM, Parser
from advisor_mcp.formulas.ceilings import COPY, Ceiling, read_ceilings
from advisor_mcp.gpus.benchmarking import plan
from advisor_mcp.gpus.benchmarking.backend import Backend, Identity
from advisor_mcp.knowledge import measurements
from advisor_mcp.knowledge.measurements import Measurement
from advisor_mcp.results import number

ANSWERED, SECONDS, LONGEST_S = 0, 60.0, 3600.0
HEAD = "| ceiling | measured | 10th to 90th percentile | datasheet | share | n | how |\n|---|---|---|---|---|---|---|"


def benchmark(asked: Namespace, backend: Backend | None = None) -> str:
    """Measure this machine's device (or `backend`) and record what it reaches; the text to print, as Markdown or JSON.

    Raises `CannotAnswer` without torch or where nothing could be measured, `UsageError` for arguments that cannot be used.
    """
    parts = _parts(asked.only)
    if backend is None:
        from advisor_mcp.gpus.benchmarking.torch_backend import open_torch

        backend = open_torch(asked.device)
    chosen = plan.tasks(backend, parts)
    if asked.dry_run:
        return _dry(backend.identity, chosen, asked.seconds, asked.as_json)
    outcome = _run(backend, chosen, asked.seconds)
    if not outcome.rows:
        reasons = "; ".join(f"{what}: {why}" for what, why in outcome.skipped)
        reasons = reasons or f"{' and '.join(parts)} cannot be measured on a device of kind {outcome.identity.kind}"
        raise CannotAnswer(f"nothing was measured on {outcome.identity.name}: {reasons}")
    kept = "not recorded, as asked" if asked.no_record else _record(outcome)
    return _json(outcome, kept) if asked.as_json else _told(outcome, kept)


def benchmark_parser() -> Parser:
    """The arguments of `benchmark-device`."""
    parser = Parser(
        f"{PROGRAM} benchmark-device",
        description="Measure what this machine's device reaches: matrix products per dtype, copies, launches, and all-reduce "
        "between several GPUs. 'roofline' then uses these rates in the datasheet's place. Needs PyTorch.",
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=SECONDS, metavar="S", help="how long it may take (default: 60)"
    )
    parser.add_argument(
        "--device", help="a torch device such as cuda:1, mps or cpu (default: the first GPU, else the CPU)"
    )
    parser.add_argument("--only", metavar="A,B", help=f"of {', '.join(plan.PARTS)}, only these")
    parser.add_argument("--dry-run", action="store_true", help="list what would be measured and measure nothing")
    parser.add_argument("--no-record", action="store_true", help="print the figures and keep none")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= LONGEST_S:
        raise UsageError(f"--seconds must be from 1 to {LONGEST_S:g}, not {text}")
    return value


def _parts(text: str | None) -> Sequence[str]:
    named = plan.PARTS if text is None else tuple(part.strip() for part in text.split(",") if part.strip())
    if unknown := [name for name in named if name not in plan.PARTS]:
        raise UsageError(f"--only takes {', '.join(plan.PARTS)}, not {', '.join(unknown)}")
    return named


def _run(backend: Backend, chosen: Sequence[plan.Task], seconds: float) -> plan.Outcome:
    meter = batch.Meter()
    recorded = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        return plan.run(backend, chosen, seconds, recorded, meter, time.perf_counter, __version__)
    finally:
        meter.clear()


def _record(outcome: plan.Outcome) -> str:
    with measurements.writing() as store:
        store.add(outcome.rows)
        return store.problem or (
            f"{len(outcome.rows)} measurements are recorded; roofline uses them for {outcome.identity.id}, and "
            f"'{PROGRAM} measurements list' shows them"
        )


def _dry(identity: Identity, chosen: Sequence[plan.Task], seconds: float, as_json: bool) -> str:
    rows = [{"key": task.key, "unit": task.unit, "how": task.how} for task in chosen]
    if as_json:
        return json.dumps({"device": asdict(identity), "seconds": seconds, "tasks": rows}, ensure_ascii=False, indent=2)
    head = f"On {_named(identity)} about {seconds:g} s would measure, and nothing was measured:"
    return "\n".join([head, *(f"- {row['key']} in {row['unit']}: {row['how']}" for row in rows)])


def _named(identity: Identity) -> str:
    driver = f", driver {identity.driver}" if identity.driver else ""
    return f"{identity.name} ({identity.id}), {identity.software}{driver}"


def _told(outcome: plan.Outcome, kept: str) -> str:
    notes = [f"- not measured: {what}: {why}" for what, why in plan.unmeasured(outcome)]
    notes += [
        f"- {row.key} had not settled when its warm-up was over; give more --seconds, or look for what else runs here"
        for row in outcome.rows
        if not row.how.get("settled")
    ]
    table = [_row(row, _datasheet(row)) for row in outcome.rows]
    return "\n".join([f"{_named(outcome.identity)}:", "", HEAD, *table, "", *notes, f"- {kept}"])


def _row(row: Measurement, datasheet: float | None) -> str:
    share = "" if datasheet is None else f"{100 * row.value / datasheet:.1f} %"
    stated = "" if datasheet is None else _digits(datasheet)
    spread = f"{_digits(row.low)} to {_digits(row.high)}"
    cells = (
        row.key,
        f"{_digits(row.value)} {row.unit}",
        spread,
        stated,
        share,
        str(row.samples),
        str(row.how.get("what", "")),
    )
    return "| " + " | ".join(cells) + " |"


def _digits(value: float) -> str:
    return number(float(f"{value:.4g}"))


def _datasheet(row: Measurement) -> float | None:
    """The datasheet's figure for a recorded quantity, where the device is known and there is one."""
    try:
        ceilings = read_ceilings(row.subject, "datasheet")
        found: Ceiling | None = None
        if row.key == COPY:
            found = ceilings.bandwidth()
        elif row.key.startswith("matmul."):
            found = ceilings.rate(row.key.removeprefix("matmul."))
    except (UsageError, CannotAnswer):
        return None
    return None if found is None else found.value


def _json(outcome: plan.Outcome, kept: str) -> str:
    told = {
        "device": asdict(outcome.identity),
        "measurements": [_plain(row) | {"datasheet": _datasheet(row)} for row in outcome.rows],
        "not_measured": [{"what": what, "why": why} for what, why in plan.unmeasured(outcome)],
        "recorded": kept,
    }
    return json.dumps(told, ensure_ascii=False, indent=2)


def _plain(row: Measurement) -> dict[str, Any]:
    return {name: value for name, value in asdict(row).items() if value is not None}


def recorded(asked: Namespace) -> str:
    """List the recorded measurements, or forget some of them; the text to print."""
    if asked.action == "forget":
        return _forget(asked.ids, everything=asked.all)
    if asked.ids or asked.all:
        raise UsageError("list takes no numbers and no --all")
    with measurements.writing() as store:
        rows = store.all()
    if asked.as_json:
        return json.dumps([_plain(row) for row in rows], ensure_ascii=False, indent=2)
    if not rows:
        return f"nothing is recorded; '{PROGRAM} benchmark-device' measures this machine"
    lines = [f"| {row.id} | {row.recorded} | {row.subject} {_row(row, _datasheet(row))}" for row in rows]
    title, rule = HEAD.split("\n")
    return "\n".join([f"| id | recorded | device {title}", f"|---|---|---{rule}", *lines])


def measurements_parser() -> Parser:
    """The arguments of `measurements`."""
    parser = Parser(f"{PROGRAM} measurements", description="List what was measured on this machine, or forget it.")
    parser.add_argument("action", choices=("list", "forget"), metavar="list|forget")
    parser.add_argument("ids", nargs="*", type=_number, metavar="ID", help="with forget: the numbers that list shows")
    parser.add_argument("--all", action="store_true", help="with forget: every measurement")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print the list as JSON")
    return parser


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise UsageError(f"a measurement is named by its number in '{PROGRAM} measurements list', not {text!r}")
    return int(text)


def _forget(ids: Sequence[int], everything: bool) -> str:
    if everything == bool(ids):
        raise UsageError("forget takes the numbers that 'measurements list' shows, or --all")
    with measurements.writing() as store:
        known = {row.id for row in store.all()}
        if missing := [number_ for number_ in ids if number_ not in known]:
            raise UsageError(
                f"there is no measurement {', '.join(map(str, missing))}; see '{PROGRAM} measurements list'"
            )
        gone = store.forget([number_ for number_ in known if number_ is not None] if everything else ids)
    return f"{gone} measurement{'s are' if gone != 1 else ' is'} forgotten"
