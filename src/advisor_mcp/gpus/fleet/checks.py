"""What each finding needs to be looked for: without it a check is named as not made, never as passed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from advisor_mcp.gpus.fleet.evidence import Fleet
from advisor_mcp.gpus.fleet.metrics import ACTIVITY, preferred

NEEDS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "gpus-idle-in-job": (ACTIVITY,),
    "memory-held-without-job": (("memory_used",),),
    "gpus-half-idle": (ACTIVITY,),
    "utilisation-without-sm-activity": (("sm_active",), ("kernel_running",)),
    "tensor-cores-unused": (("sm_active",), ("tensor_active",)),
    "gpu-apart-from-its-job": (("clock", "sm_active", "engine_active"),),
    "hardware-slowdown": (("clock_events", "hw_thermal_time", "power_brake_time"),),
    "thermal-throttling": (("clock_events", "thermal_time", "socket_thermal"),),
    "xid-events": (("xid",),),
    "uncorrected-memory-errors": (("uncorrected_errors",),),
    "row-remapping": (("remap_failed", "remap_pending", "remapped_rows"),),
    "pcie-replays": (("pcie_replays",),),
    "nvlink-errors": (("nvlink_recoveries", "nvlink_crc_errors"),),
    "exporter-silent": (),
    "counters-fell-back": (("energy", "pcie_replays", "uncorrected_errors"),),
}
"""Per finding the groups of metrics of which it needs one each."""

_BY_JOB = ("memory-held-without-job", "gpu-apart-from-its-job")
JOB_LABELS = "a job label (dcgm-exporter: Kubernetes or HPC job mapping)"


def not_checked(fleet: Fleet) -> Iterator[tuple[str, str]]:
    """The findings that could not be looked for, each with the metric or label that it needs."""
    for name, groups in NEEDS.items():
        lacking = [preferred(group[0]) for group in groups if not fleet.present & set(group)]
        if not fleet.labelled and name in _BY_JOB:
            lacking.append(JOB_LABELS)
        if lacking:
            yield name, " and ".join(lacking)
