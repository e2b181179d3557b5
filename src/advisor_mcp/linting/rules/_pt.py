"""What the environment says of torch's allocator."""

from __future__ import annotations

import re
from collections.abc import Iterator

from advisor_mcp.linting.unit import Setting, Unit

VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


def allocator_settings(unit: Unit) -> Iterator[tuple[Setting, str]]:
    """The allocator's variables that are set, and their text."""
    for name in VARIABLES:
        value = unit.text(name)
        if name in unit and value:
            yield unit[name], value


def entries(value: str) -> list[str]:
    """The text between the commas that stand outside brackets, without blanks."""
    return [part for part in re.split(r",(?![^\[]*\])", re.sub(r"\s+", "", value)) if part]


def options(value: str) -> list[tuple[str, str]]:
    """Names and values of the entries that have both."""
    pairs = (entry.partition(":") for entry in entries(value))
    return [(name, text) for name, colon, text in pairs if colon and text and "=" not in name]
