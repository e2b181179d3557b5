"""What a device's kernels did, by the operators behind them, and how near that is to what the device can do."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from advisor_mcp import knowledge
from advisor_mcp.tracing.shapes import Cost, cost
from advisor_mcp.tracing.timeline import UNKNOWN, Device, Work

if TYPE_CHECKING:
    from advisor_mcp.tracing.case import Case

SHORTEST_NS = 20_000
"""A run below it is decided by latencies, not by rates."""

MOST_CALLS = 20_000
"""Calls whose operators are looked up, the longest first: they hold nearly all of the time."""


@dataclass(frozen=True)
class Ceilings:
    """What a device's datasheet promises: dense TFLOP/s per dtype and GB/s of memory."""

    id: str
    tflops: dict[str, float]
    bandwidth: float | None


@dataclass(frozen=True)
class Operation:
    """All runs of one operator with one set of shapes: nanoseconds of its kernels, summed, and the least one run costs."""

    name: str
    shape: str
    cost: Cost
    runs: int
    duration: int

    @property
    def tflops(self) -> float:
        """TFLOP/s that were reached."""
        return self.cost.flops * self.runs / self.duration / 1e3

    @property
    def bandwidth(self) -> float:
        """GB/s that were reached, every operand moved once."""
        return self.cost.bytes * self.runs / self.duration

    def bound(self, ceilings: Ceilings) -> float | None:
        """Nanoseconds that the runs take at least on a device: the longer of computing and moving; None where a rate is not known."""
        rate = ceilings.tflops.get(
            "tf32" if self.cost.dtype == "fp32" and "tf32" in ceilings.tflops else self.cost.dtype or ""
        )
        if not ceilings.bandwidth or (rate is None and self.cost.product is not None):
            return None
        computing = self.cost.flops / (rate * 1e3) if rate else 0.0
        return self.runs * max(computing, self.cost.bytes / ceilings.bandwidth)

    @property
    def shown(self) -> str:
        """The operator and its shapes, as people write them."""
        if self.cost.product:
            m, n, k, count = self.cost.product
            return f"{self.name} {f'{count} x ' if count > 1 else ''}[{m} x {k}] x [{k} x {n}]"
        shapes = re.sub(r"\s+", "", self.shape.partition("|")[0]).replace(",[]", "")
        return f"{self.name} {shapes if len(shapes) < 70 else shapes[:69] + '…'}"


def ceilings(device: Device) -> Ceilings | None:
    """The datasheet of a device by the driver's name for it; None where that is not known."""
    fact = knowledge.find("gpu", device.name) if device.name else None
    if fact is None:
        return None
    rates = {name: float(rate) for name, rate in fact.get("dense_tflops", {}).items()}
    bandwidth = fact.get("memory_bandwidth_gb_s")
    return Ceilings(fact["id"], rates, float(bandwidth) if bandwidth else None)


class Worked:
    """The operators behind a case's kernels."""

    def __init__(self, case: Case) -> None:
        self.case = case

    @cached_property
    def operations(self) -> list[Operation]:
        """Operators whose cost is known, the longest first. An operator's time is that of all kernels it launched."""
        case = self.case
        # the operator around the launch of a graph is not the one that a node of the graph belongs to
        own = (case.launch != UNKNOWN) & ~np.isin(case.launch, case.hosts.graph_launches)
        rows = np.flatnonzero((case.events.work == Work.COMPUTE) & own)
        rows = rows[np.argsort(-case.events.duration[rows], kind="stable")[:MOST_CALLS]]
        sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        calls: dict[tuple[str, str], set[int]] = defaultdict(set)
        for row in rows:
            call = int(case.launch[row])
            found = case.operator_row(int(case.host.start[call]), int(case.host.thread[call]))
            if found is None or not found[2]:
                continue
            key = found[1], found[2]
            sums[key][1] += int(case.events.duration[row])
            calls[key].add(found[0])
        made = []
        for (name, shape), (_, duration) in sums.items():
            least = cost(name, shape)
            if least is not None and duration:
                made.append(Operation(name, shape, least, len(calls[name, shape]), duration))
        return sorted(made, key=lambda one: -one.duration)

    @cached_property
    def large(self) -> list[Operation]:
        """Those whose runs take long enough that neither their launch nor a partly filled device decides."""
        return [one for one in self.operations if one.duration / one.runs >= SHORTEST_NS]

    @cached_property
    def ceilings(self) -> Ceilings | None:
        """The device's datasheet."""
        return ceilings(self.case.facts)
