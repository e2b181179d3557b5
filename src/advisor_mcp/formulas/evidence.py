"""Ranges of predictions: how far such predictions were off on published measurements, from the knowledge base."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from advisor_mcp import content, knowledge
from advisor_mcp.errors import InternalError


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measured over predicted: the 10th and 90th percentile of `n` published measurements."""

    id: str
    low: float
    high: float
    n: int
    scope: str
    sources: tuple[str, ...]

    def interval(self, predicted: float) -> tuple[float, float]:
        """The 80 % range of a prediction."""
        return self.low * predicted, self.high * predicted

    @property
    def sentence(self) -> str:
        """What the range rests on."""
        return f"80 % ranges from {self.n} published measurements ({self.scope}): measured / predicted {self.low:g} to {self.high:g}"


def evidence(name: str) -> Evidence:
    """The evidence of that id."""
    return _evidence(name, tuple(content.active()))


@lru_cache(maxsize=256)
def _evidence(name: str, _folders: tuple[Path, ...]) -> Evidence:
    found = knowledge.find("evidence", name)
    if found is None:
        raise InternalError(f"the evidence {name!r} is missing from the knowledge base")
    return Evidence(found["id"], found["low"], found["high"], found["n"], found["scope"], tuple(found["sources"]))
