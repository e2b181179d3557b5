from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, together


@GPUS.kind("retired-pages", "warning")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds memory pages (before Ampere, and on AMD) that wait to be retired after errors.

    ## Formula

    The driver's flag for pages that are pending retirement.

    ## Threshold

    Any: until the driver is loaded again the page may still be used (nvml.h, nvmlDeviceGetRetiredPagesPendingStatus).

    ## Could also be

    - A page that was marked after repeated corrected errors, with no data lost.

    ## Change

    Reload the driver, or restart the machine, when the GPU is free.

    ## Next measurement

    `nvidia-smi -q -d PAGE_RETIREMENT`, or `amd-smi bad-pages`

    ## References

    - https://docs.nvidia.com/deploy/dynamic-page-retirement/
    """
    text = "memory pages wait to be retired, {figure} were for uncorrected errors"
    waiting = (r for r in machine.readings if r.retired_pages_pending)
    yield from together((Seen(r.index, text, r.retired_pages_uncorrected or 0) for r in waiting), "pages")
