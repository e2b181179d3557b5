"""Measure accuracy: `python -m benchmarks.accuracy SUITE --data DIR [--json]`."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from advisor_mcp.catalogue import default_catalogue
from advisor_mcp.errors import AdvisorError
from advisor_mcp.knowledge import measurements
from benchmarks.accuracy import suites
from benchmarks.accuracy.cases import Case, Outcome, report


def run(case: Case) -> Outcome:
    """Call the case's tool as a client would, and read the figure and its range."""
    try:
        answer = default_catalogue().call(case.tool, case.arguments).data()
    except AdvisorError as error:
        return Outcome(case, error=error.message)
    value = _at(answer, case.read)
    interval = _at(answer, f"{case.read}_range")
    scaled = value * case.scale if isinstance(value, int | float) and case.scale != 1 else value
    return Outcome(case, scaled, tuple(bound * case.scale for bound in interval) if interval else None)


def row(outcome: Outcome) -> dict[str, Any]:
    """What `--json` prints of a case."""
    case = outcome.case
    return {
        "id": case.id,
        "group": case.group,
        "predicted": outcome.predicted,
        "measured": case.measured,
        "range": outcome.interval,
        "error": outcome.error,
    }


def _at(data: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(data, list):
            data = next((row for row in data if row.get("id") == part), None)
        elif isinstance(data, dict):
            data = data.get(part)
        if data is None:
            return None
    return data


def main(argv: list[str] | None = None) -> int:
    """Run one suite and print its figures."""
    names = sorted(module.name for module in pkgutil.iter_modules(suites.__path__))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("suite", choices=names)
    parser.add_argument("--data", type=Path, required=True, help="a folder laid out as configs/, truth/, ...")
    parser.add_argument("--json", action="store_true", help="one JSON object per case instead of the report")
    options = parser.parse_args(argv)
    suite = importlib.import_module(f"benchmarks.accuracy.suites.{options.suite}")
    found = list(suite.cases(options.data))
    excluded = Counter(case.excluded_by for case in found if case.excluded_by)
    # a suite whose answers are no single figure runs its cases, and prints its figures and its rows itself
    with measurements.ignored():
        outcomes = [getattr(suite, "run", run)(case) for case in found if not case.excluded_by]
    if options.json:
        for outcome in outcomes:
            print(json.dumps(getattr(suite, "row", row)(outcome)))
    elif hasattr(suite, "report"):
        print("\n".join(suite.report(outcomes, excluded)))
    else:
        print("\n".join(report(options.suite, outcomes, excluded)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
