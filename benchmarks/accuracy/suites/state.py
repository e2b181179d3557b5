"""Exact cache bytes of one sequence in bf16 at three lengths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.accuracy.cases import Case
from benchmarks.accuracy.suites import rows


def cases(data: Path) -> Iterator[Case]:
    """One case a configuration and length."""
    files = {row["model"]: row for row in rows(data / "configs" / "truth.jsonl")}
    for row in rows(data / "configs" / "kv.jsonl"):
        truth = files[row["model"]]
        totals = row.get("total_cache_bytes_bf16")
        if not totals:
            yield Case(
                row["model"], truth["family"], "describe_model", {}, "", 0, excluded_by="the source states no totals"
            )
            continue
        for length, measured in totals.items():
            arguments = {
                "model": str(data / "configs" / truth["file"]),
                "sequence_length": int(length),
                "kv_dtype": "bf16",
            }
            yield Case(
                f"{row['model']} {length}", truth["family"], "describe_model", arguments, "state.total_bytes", measured
            )
