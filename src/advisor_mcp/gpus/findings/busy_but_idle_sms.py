from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.devices import DeviceReading
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, together

LOOKS_FULL_PERCENT = 90

INEFFECTIVE_PERCENT = 50


@GPUS.kind("busy-but-idle-sms", "warning")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds GPUs that look fully used and are not: utilisation says only that some kernel ran, one thread of one kernel gives
    100 %. The GPM counters say how many of the SMs had work.

    ## Formula

    SM activity (GPM metric 2: busy SMs, averaged over the time between the two samples) below 50 % while
    utilization.gpu is at least 90 %.

    ## Threshold

    SM activity below 50 % "likely indicates ineffective GPU usage", and 80 % is necessary but not sufficient for effective
    use (NVIDIA's DCGM profiling metrics, SM Activity). 90 % for "looks full" is a choice of ours.

    ## Could also be

    - A phase of the step that is short of parallel work, such as an optimizer or a small decode batch: sample longer.
    - A collective that waits inside its kernel, which counts as utilisation.

    ## Change

    Give each kernel more work (larger batch, fused operations, CUDA graphs), or share the GPU.

    ## Next measurement

    A trace of some steps: `advisor-mcp diagnose-trace`, and a longer sample: `--sample-s 5`

    ## References

    - https://docs.nvidia.com/datacenter/dcgm/latest/user-guide/feature-overview.html
    """
    text = "utilisation looks full, but the SMs were busy {figure} % of the time"
    looks_full = (r for r in machine.readings if (r.utilization_percent or 0) >= LOOKS_FULL_PERCENT)
    told = (Seen(r.index, text, share, _row(r)) for r in looks_full if (share := _sm(r)) < INEFFECTIVE_PERCENT)
    yield from together(told, "%", worst=min)


def _sm(reading: DeviceReading) -> float:
    share = reading.activity.sm_percent if reading.activity else None
    return 100.0 if share is None else share


def _row(reading: DeviceReading) -> str:
    activity = reading.activity
    shares = {"occupancy": "sm_occupancy_percent", "tensor": "tensor_percent", "DRAM bandwidth": "dram_percent"}
    told = [f"{words} {value:g} %" for words, name in shares.items() if (value := getattr(activity, name)) is not None]
    return f"GPU {reading.index}: utilisation {reading.utilization_percent} %, {', '.join(told)}" if told else ""
