"""An accelerator as the formulas need it, read from the knowledge base."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from advisor_mcp import content, knowledge
from advisor_mcp.errors import CannotAnswer, UsageError, nearest, shown

# The compute capability from which on tensor cores take a dtype, and the AMD chips whose matrix cores do not take one
# (doc:transformer-engine-support-matrix; repo:rocm/rocm@e396b4898f45:docs/reference/precision-support.rst).
SINCE: Mapping[str, tuple[int, int]] = {"bf16": (8, 0), "fp8": (8, 9)}
WITHOUT: Mapping[str, tuple[str, ...]] = {"gfx90a": ("fp8",)}


@dataclass(frozen=True)
class Device:
    """One accelerator: its memory in bytes, dense TFLOP/s per dtype, and where that comes from.

    `compute_capability` is NVIDIA's, or AMD's name of the chip. `memory_gb_s` is the bandwidth of its memory in 10^9 bytes
    per second, `sm_count` the streaming multiprocessors (compute units) that work is spread over. `unsure` says for a field
    that was not read in an opened source how sure it is.
    """

    id: str
    name: str
    memory_bytes: int
    dense_tflops: dict[str, float]
    sources: tuple[str, ...]
    assumptions: tuple[str, ...]
    vendor: str = ""
    compute_capability: str = ""
    memory_gb_s: float | None = None
    sm_count: int | None = None
    l2_bytes: int | None = None
    unsure: dict[str, str] = field(default_factory=dict)

    def peak(self, dtype: str) -> float:
        """Dense TFLOP/s for products of that dtype; raises `CannotAnswer` where there is none, or no figure is known."""
        if dtype not in self.dense_tflops:
            raise self._refusal(dtype)
        return self.dense_tflops[dtype]

    def lacks(self, dtype: str) -> bool:
        """Whether the chip is known to have no matrix units for that dtype."""
        if dtype in WITHOUT.get(self.compute_capability, ()):
            return True
        number = re.fullmatch(r"(\d+)\.(\d+)", self.compute_capability)
        return number is not None and (int(number[1]), int(number[2])) < SINCE.get(dtype, (0, 0))

    def _refusal(self, dtype: str) -> CannotAnswer:
        known = ", ".join(self.dense_tflops)
        if self.lacks(dtype):
            chip = (
                f"compute capability {self.compute_capability}" if self.vendor == "NVIDIA" else self.compute_capability
            )
            return CannotAnswer(
                f"{self.id} ({chip}) has no {dtype} matrix units", needs=[f"a dtype that it has ({known})"]
            )
        return CannotAnswer(
            f"no dense {dtype} rate is known for {self.id} (known: {known})",
            needs=[f"dense {dtype} TFLOP/s of {self.id}"],
        )


def read_device(gpu: str) -> Device:
    """The device of that id, name or alias; raises `UsageError` with the nearest name for one that is not known."""
    return _read_device(gpu, tuple(content.active()))


@lru_cache(maxsize=256)
def _read_device(gpu: str, _folders: tuple[Path, ...]) -> Device:
    fact = knowledge.find("gpu", gpu)
    if fact is None:
        raise UsageError(
            f"unknown GPU {shown(gpu)}{nearest(gpu, knowledge.names('gpu'), cutoff=0.75)} "
            "(all are listed by search_knowledge with kinds=['gpu'])"
        )
    notes = [] if fact["id"] == gpu else [f"{shown(gpu)} is read as {fact['id']} ({fact['name']})"]
    memory = fact.get("memory_bytes")
    if memory is None:
        memory = int(fact["memory_gb"] * 1e9)
        notes.append(
            f"the driver's figure for {fact['id']} is not known; its marketed {fact['memory_gb']} GB is taken as 10^9 bytes each"
        )
    return Device(
        fact["id"],
        fact["name"],
        int(memory),
        _rates(fact),
        tuple(fact.get("sources", ())[:1]),
        tuple(notes),
        vendor=str(fact.get("vendor", "")),
        compute_capability=str(fact.get("compute_capability", "")),
        memory_gb_s=fact.get("memory_bandwidth_gb_s"),
        sm_count=fact.get("sm_count"),
        l2_bytes=int(fact["l2_mb"] * 2**20) if "l2_mb" in fact else None,
        unsure=dict(fact.get("per_field_confidence", {})),
    )


def id_of(name: str) -> str | None:
    """The id of the accelerator that a driver calls by that name, or None for one that is not known."""
    bare = [name.removeprefix(maker).removesuffix(" OAM") for maker in ("NVIDIA ", "AMD Instinct ", "AMD ")]
    facts = (knowledge.find("gpu", each) for each in dict.fromkeys([name, *bare]))
    return next((str(fact["id"]) for fact in facts if fact), None)


def _rates(fact: dict[str, Any]) -> dict[str, float]:
    return {name: float(rate) for name, rate in fact.get("dense_tflops", {}).items()}
