"""Printed MFU of training runs whose source states its convention: 6N + 12LHQT over the dense peak."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.accuracy.cases import Case
from benchmarks.accuracy.suites import rows

GPUS = {
    "NVIDIA H100 SXM 80GB": "h100-sxm",
    "NVIDIA A100 SXM 80GB": "a100-sxm-80gb",
    "NVIDIA A100 SXM 40GB": "a100-sxm-40gb",
}


def cases(data: Path) -> Iterator[Case]:
    """One case a row with a printed MFU, its tokens per second and a stated attention convention."""
    for row in rows(data / "truth" / "train_throughput.jsonl"):
        norm, work = row["norm"], row["workload"]
        rule = _excluded(row)
        arguments: dict[str, Any] = {}
        if rule is None:
            arguments = {
                "model": _mpt(row["model"]["arch"], work["seq_len"]),
                "gpu": GPUS[row["hardware"]["gpu"]],
                "gpu_count": row["hardware"]["count"],
                "sequence_length": work["seq_len"],
                "tokens_per_s": row["measured"]["tokens_per_s_total"],
                "recompute": "full" if "full" in str(work.get("activation_checkpointing")) else "none",
                "dtype": "fp8" if "fp8" in str(work.get("precision")) else "bf16",
            }
        measured = round(100 * (norm.get("mfu") or 0), 2)
        yield Case(
            row["id"],
            row["family"],
            "calculate_mfu",
            arguments,
            "conventions.palm.mfu_percent",
            measured,
            excluded_by=rule,
        )


def _excluded(row: Mapping[str, Any]) -> str | None:
    if not row["norm"].get("mfu"):
        return "no printed MFU"
    if not str(row["norm"].get("attention_flops_convention") or "").startswith("12LdT"):
        return "the convention of the printed MFU is not stated, or another one"
    if row["hardware"]["gpu"] not in GPUS or not str(row["model"]["name"]).startswith("MPT"):
        return "not an MPT model on a known GPU"
    return None


def _mpt(arch: Mapping[str, Any], length: int) -> dict[str, Any]:
    return {
        "model_type": "mpt", "d_model": arch["hidden"], "n_heads": arch["heads"], "n_layers": arch["layers"],
        "expansion_ratio": arch["ffn"] / arch["hidden"], "vocab_size": arch["vocab"], "max_seq_len": length,
        "no_bias": not arch["linear_bias"], "learned_pos_emb": arch["learned_pos_emb"], "tie_word_embeddings": arch["tied_embeddings"],
    }  # fmt: skip
