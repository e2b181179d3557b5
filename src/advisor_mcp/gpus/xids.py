"""What an Xid is and what NVIDIA's catalogue says to do at once, from `xids.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from advisor_mcp.findings import Severity

CATALOGUE = Path(__file__).with_name("xids.toml")

_ACTIONS: dict[str, tuple[Severity, str]] = {
    "IGNORE": ("info", "nothing at once"),
    "XID_154": ("info", "what the driver's recovery action says"),
    "RESTART_APP": ("warning", "restart the program"),
    "CHECK_UVM": ("warning", "check the unified-memory driver"),
    "UPDATE_SWFW": ("warning", "update driver and firmware"),
    "RESTART_VM": ("error", "restart the virtual machine"),
    "RESET_GPU": ("error", "reset the GPU"),
    "RESTART_BM": ("error", "restart the node"),
    "CHECK_MECHANICALS": ("error", "check how the board is seated and powered"),
    "CONTACT_SUPPORT": ("error", "contact the vendor's support"),
    "WORKFLOW_XID_45": ("warning", "follow the other Xids around it"),
    "WORKFLOW_XID_48": ("error", "follow NVIDIA's workflow for Xid 48"),
    "WORKFLOW_NVLINK_ERR": ("error", "follow NVIDIA's workflow for NVLink errors"),
    "WORKFLOW_NVLINK5_ERR": ("error", "follow NVIDIA's workflow for NVLink 5 errors"),
}
"""NVIDIA's immediate actions: how grave, and in words."""


@dataclass(frozen=True, slots=True)
class Advice:
    """An Xid by its catalogue entry: what it is, the action's name there, the action in words, and how grave that is."""

    code: int
    meaning: str
    action: str
    words: str
    severity: Severity


def advice(code: int) -> Advice | None:
    """The catalogue's entry, or None for a code that it does not explain."""
    found = _catalogue().get(str(code))
    if found is None:
        return None
    severity, words = _ACTIONS[found["action"]]
    return Advice(code, found["is"], found["action"], words, severity)


@lru_cache(maxsize=1)
def _catalogue() -> dict[str, Any]:
    import tomllib

    found: dict[str, Any] = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))["xids"]
    return found
