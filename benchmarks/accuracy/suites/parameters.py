"""Exact parameter counts: total, by component, and active."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.accuracy.cases import Case
from benchmarks.accuracy.suites import rows


def cases(data: Path) -> Iterator[Case]:
    """Three cases a configuration; a row without an active count has two."""
    for row in rows(data / "configs" / "truth.jsonl"):
        arguments = {"model": str(data / "configs" / row["file"])}
        family = row.get("family", "other")
        components = {name: count for name, count in row["breakdown"].items() if count}
        active = row.get("active_params", row["total_params"] if "experts" not in row else None)
        for what, read, measured in (
            ("total", "parameters.total", row["total_params"]),
            ("components", "parameters.by_component", components),
            ("active", "parameters.active", active),
        ):
            if measured is not None:
                yield Case(
                    f"{row['model']} {what}",
                    family,
                    "describe_model",
                    arguments,
                    read,
                    measured,
                    "transformers on the meta device",
                )
