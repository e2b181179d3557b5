"""Peak memory of inference, one GPU, as torch's allocator reports it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.accuracy.cases import Case
from benchmarks.accuracy.suites import rows

FORMATS = {"bf16": {"dtype": "bf16"}, "gptq-int8": {"dtype": "fp16", "quantization": "int8"},
           "gptq-int4": {"dtype": "fp16", "quantization": "gptq"}, "awq": {"dtype": "fp16", "quantization": "awq"}}  # fmt: skip


def cases(data: Path) -> Iterator[Case]:
    """One case a row that states allocated bytes on one GPU; the whole prompt is one step there."""
    for row in rows(data / "truth" / "serve_memory.jsonl"):
        work, rule = row["workload"], _excluded(row)
        arguments: dict[str, Any] = {}
        if rule is None:
            arguments = {
                "model": row["model"]["name"],
                "sequence_length": work["input_len"] + work["output_len"],
                "concurrency": work["concurrency"] or 1,
                "step_tokens": work["input_len"],
                "kv_dtype": "bf16",
                **FORMATS[str(work["precision"]).lower()],
            }
        measured = (row["norm"].get("peak_bytes") or 0) / 2**30
        yield Case(
            row["id"], row["family"], "estimate_serving_memory", arguments, "total_gib", measured, excluded_by=rule
        )


def _excluded(row: Mapping[str, Any]) -> str | None:
    work, norm = row["workload"], row["norm"]
    if not norm.get("peak_bytes"):
        return "no peak stated"
    if norm.get("basis") != "HF max_memory_allocated":
        return "the peak is not what the allocator reports (nvidia-smi, a sum over GPUs, or unknown)"
    if row["hardware"]["count"] != 1:
        return "a sum over several GPUs"
    if "ALL prompt tokens" in str(row.get("notes")):
        return "an old transformers that builds logits for the whole prompt"
    if not work.get("input_len") or str(work["precision"]).lower() not in FORMATS:
        return "prompt length or weight format is not stated"
    return None
