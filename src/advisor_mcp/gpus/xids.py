"""NVIDIA's Xid codes: what they stand for and what its catalogue says to do at once, from `xids.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from advisor_mcp.findings import Severity

CATALOGUE = Path(__file__).with_name("xids.toml")
SUPPORT = "CONTACT_SUPPORT"
_ACTIONS: dict[str, str] = {
    "RESET_GPU": "drain the GPU, then reset it",
    "RESTART_APP": "restart the application; the GPU can go on",
    "RESTART_BM": "drain the node and restart the machine",
    "IGNORE": "nothing at once; follow the other events of that time",
    SUPPORT: "contact the vendor's support",
    "CHECK_MECHANICALS": "check seating and auxiliary power",
    "CHECK_UVM": "check the unified-memory driver",
    "RESTART_VM": "restart the virtual machine",
    "UPDATE_SWFW": "update driver and firmware",
    "WORKFLOW_XID_45": "follow the Xid that came before it; alone, restart the fabric manager",
    "WORKFLOW_XID_48": "follow NVIDIA's workflow for uncorrected ECC errors: drain, reset, look at row remapping",
    "WORKFLOW_NVLINK_ERR": "follow NVIDIA's NVLink workflow: drain, reset, check the link",
    "WORKFLOW_NVLINK5_ERR": "follow NVIDIA's NVLink 5 workflow for the sub-code in the kernel log",
    "XID_154": "do what the message of Xid 154 names as recovery action",
}
_HARMLESS = ("IGNORE",)
_OF_THE_APPLICATION = ("RESTART_APP",)


@dataclass(frozen=True, slots=True)
class Xid:
    """A code of the catalogue; `bucket` is its immediate action in NVIDIA's word."""

    code: int
    meaning: str
    bucket: str

    @property
    def action(self) -> str:
        """The immediate action in words."""
        return _ACTIONS[self.bucket]

    @property
    def severity(self) -> Severity:
        """`error` where the GPU or node has to be taken out, `warning` for an application's, `info` for none."""
        return "info" if self.bucket in _HARMLESS else "warning" if self.bucket in _OF_THE_APPLICATION else "error"


def named(code: int) -> Xid:
    """A code's entry; one that the table lacks is for support to name, as the catalogue says of unused codes."""
    found = catalogue().get(str(code))
    return Xid(code, found["is"], found["action"]) if found else Xid(code, "not in the table here", SUPPORT)


@lru_cache(maxsize=1)
def catalogue() -> dict[str, Any]:
    """The entries by code as the file has them."""
    import tomllib

    found: dict[str, Any] = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))["xids"]
    return found
