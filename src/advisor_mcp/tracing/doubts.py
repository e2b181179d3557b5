"""What makes a record less than it seems: named, with one sentence, before anything is concluded from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Doubt:
    """A trust gate that a record did not pass; `sentence` says what it lowers or withholds."""

    name: str
    sentence: str
