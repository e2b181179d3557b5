"""The NVLinks of a GPU: state, version, speed and error counters of each."""

from __future__ import annotations

from typing import Any

from advisor_mcp.gpus.devices import LinkReading
from advisor_mcp.gpus.nvml.asking import Absent, ask, fields, one_field

ERRORS = (
    # the first three up to Hopper, the others from NVLink 5 on (nvml.h of NVML 13, at the fields' definitions)
    ("replay", "NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY"),
    ("recovery", "NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY"),
    ("crc", "NVML_FI_DEV_NVLINK_ERROR_DL_CRC"),
    ("received_with_error", "NVML_FI_DEV_NVLINK_COUNT_RCV_ERRORS"),
    ("link_recovery", "NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_EVENTS"),
)
"""The error counters of a link and the fields that hold them."""


def read_links(nvml: Any, handle: Any) -> tuple[LinkReading, ...] | Absent:
    """Every link that the GPU has, or why there are none to read; raises NVML's error where the driver cannot say."""
    count = one_field(nvml, handle, nvml.NVML_FI_DEV_NVLINK_LINK_COUNT)
    return count if isinstance(count, Absent) else tuple(_link(nvml, handle, link) for link in range(count))


def _link(nvml: Any, handle: Any, link: int) -> LinkReading:
    active, _ = ask(nvml, lambda: nvml.nvmlDeviceGetNvLinkState(handle, link))
    if active is None or active != nvml.NVML_FEATURE_ENABLED:
        return LinkReading(link=link, active=None if active is None else False)
    version, _ = ask(nvml, lambda: nvml.nvmlDeviceGetNvLinkVersion(handle, link))
    ids = [nvml.NVML_FI_DEV_NVLINK_GET_SPEED, *(getattr(nvml, field) for _, field in ERRORS)]
    found, _ = ask(nvml, lambda: fields(nvml, handle, [(field, link) for field in ids]))
    speed, *counts = found or [Absent("")] * len(ids)
    return LinkReading(
        link=link,
        active=True,
        version=version,
        speed_mbps=None if isinstance(speed, Absent) else speed,
        errors={name: count for (name, _), count in zip(ERRORS, counts, strict=True) if not isinstance(count, Absent)},
    )
