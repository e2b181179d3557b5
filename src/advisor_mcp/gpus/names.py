"""From a GPU's name, as its driver gives it, to its id in the knowledge base."""

from __future__ import annotations

from advisor_mcp.knowledge import find

_PREFIXES = ("", "NVIDIA ", "AMD ", "AMD Instinct ")
_SUFFIXES = ("", " OAM")


def gpu_id(name: str) -> str | None:
    """The id as other tools take it, or None for a GPU that is not known."""
    for prefix in _PREFIXES:
        for suffix in _SUFFIXES:
            if name.startswith(prefix) and name.endswith(suffix):
                entry = find("gpu", name.removeprefix(prefix).removesuffix(suffix))
                if entry:
                    return str(entry["id"])
    return None
