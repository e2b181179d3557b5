"""NVIDIA's Xid codes: what they stand for and what its catalogue says to do at once.

Facts of NVIDIA's Xid catalogue (docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html, for Ampere and newer) as
transcribed on 2025-10-29 by leptonai/gpud, components/accelerator/nvidia/xid/catalog_generated.go @73e270e3.
"""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.findings import Severity

RESET, RESTART, REBOOT, IGNORE, SUPPORT = "RESET_GPU", "RESTART_APP", "RESTART_BM", "IGNORE", "CONTACT_SUPPORT"
_ACTIONS: dict[str, str] = {
    RESET: "drain the GPU, then reset it",
    RESTART: "restart the application; the GPU can go on",
    REBOOT: "drain the node and restart the machine",
    IGNORE: "nothing at once; follow the other events of that time",
    SUPPORT: "contact the vendor's support",
    "CHECK_MECHANICALS": "check seating and auxiliary power",
    "RESTART_VM": "restart the virtual machine",
    "UPDATE_SWFW": "update driver and firmware",
    "WORKFLOW_XID_45": "follow the Xid that came before it; alone, restart the fabric manager",
    "WORKFLOW_XID_48": "follow NVIDIA's workflow for uncorrected ECC errors: drain, reset, look at row remapping",
    "WORKFLOW_NVLINK_ERR": "follow NVIDIA's NVLink workflow: drain, reset, check the link",
    "WORKFLOW_NVLINK5_ERR": "follow NVIDIA's NVLink 5 workflow for the sub-code in the kernel log",
    "XID_154": "do what the message of Xid 154 names as recovery action",
}
_HARMLESS = (IGNORE,)
_OF_THE_APPLICATION = (RESTART,)


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


_CATALOGUE = (
    Xid(8, "GPU stopped processing", RESTART),
    Xid(11, "invalid or corrupted push buffer stream", RESTART),
    Xid(13, "graphics engine exception", RESTART),
    Xid(25, "invalid or illegal push buffer stream", RESTART),
    Xid(31, "GPU memory page fault", RESTART),
    Xid(32, "invalid or corrupted push buffer stream", RESTART),
    Xid(37, "driver firmware error", IGNORE),
    Xid(38, "driver firmware error", IGNORE),
    Xid(39, "copy engine exception", RESTART),
    Xid(40, "copy engine exception", RESTART),
    Xid(41, "copy engine exception", RESTART),
    Xid(43, "GPU stopped processing", IGNORE),
    Xid(44, "graphics engine fault during context switch", IGNORE),
    Xid(45, "preemptive cleanup after earlier errors", "WORKFLOW_XID_45"),
    Xid(46, "GPU stopped processing", RESET),
    Xid(48, "double-bit ECC error", "WORKFLOW_XID_48"),
    Xid(54, "auxiliary power is not connected", "CHECK_MECHANICALS"),
    Xid(60, "video processor exception", RESTART),
    Xid(62, "internal micro-controller halt", RESET),
    Xid(63, "memory row remapped", IGNORE),
    Xid(64, "memory row could not be remapped", RESET),
    Xid(66, "illegal access by the driver", IGNORE),
    Xid(67, "illegal access by the driver", IGNORE),
    Xid(68, "video decoder exception", RESTART),
    Xid(69, "graphics engine class error", RESTART),
    Xid(74, "NVLink error", "WORKFLOW_NVLINK_ERR"),
    Xid(78, "vGPU start error", "UPDATE_SWFW"),
    Xid(79, "GPU has fallen off the bus", REBOOT),
    Xid(80, "corrupted data sent to the GPU", RESTART),
    Xid(92, "high rate of single-bit ECC errors", IGNORE),
    Xid(93, "InfoROM wear limit", IGNORE),
    Xid(94, "contained memory error", RESTART),
    Xid(95, "uncontained memory error", RESET),
    Xid(109, "context switch timeout", RESET),
    Xid(110, "security fault", RESET),
    Xid(119, "GSP remote call timed out", RESET),
    Xid(120, "GSP error", RESET),
    Xid(121, "C2C error", IGNORE),
    Xid(136, "link training failed", RESET),
    Xid(137, "NVLink privilege error", IGNORE),
    Xid(140, "unrecovered ECC error", RESET),
    Xid(141, "CUDA fast path error", IGNORE),
    Xid(143, "GPU initialisation error", RESET),
    Xid(144, "NVLink SAW error", "WORKFLOW_NVLINK5_ERR"),
    Xid(145, "NVLink RLW error", "WORKFLOW_NVLINK5_ERR"),
    Xid(146, "NVLink TLW error", "WORKFLOW_NVLINK5_ERR"),
    Xid(147, "NVLink TREX error", "WORKFLOW_NVLINK5_ERR"),
    Xid(148, "NVLink control error", "WORKFLOW_NVLINK5_ERR"),
    Xid(149, "NVLink NETIR error", "WORKFLOW_NVLINK5_ERR"),
    Xid(150, "NVLink MSE error", "WORKFLOW_NVLINK5_ERR"),
    Xid(151, "key rotation error", "RESTART_VM"),
    Xid(154, "GPU recovery action changed", "XID_154"),
    Xid(155, "NVLink error that software defined", RESET),
    Xid(156, "resource retired", RESET),
    Xid(157, "resource could not be retired", IGNORE),
    Xid(158, "GPU fatal timeout", RESET),
    Xid(160, "channel retired", IGNORE),
    Xid(161, "channel could not be retired", IGNORE),
)
_BY_CODE = {xid.code: xid for xid in _CATALOGUE}


def named(code: int) -> Xid:
    """A code's entry; one that the table lacks is for support to name, as the catalogue says of unused codes."""
    return _BY_CODE.get(code) or Xid(code, "not in the table here", SUPPORT)
