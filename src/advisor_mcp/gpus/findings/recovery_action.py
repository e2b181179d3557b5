from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.gpus.decoding import recovery_action
from advisor_mcp.gpus.devices import DeviceReading
from advisor_mcp.gpus.health import GPUS, GpuObservation, Machine, Seen, together


@GPUS.kind("recovery-action", "error")
def check(machine: Machine) -> Iterator[GpuObservation]:
    """Finds what the driver itself asks for before a GPU works again as it should.

    ## Formula

    Field 230, NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, is not 0.

    ## Threshold

    Any action: it is NVIDIA's own verdict on the GPU.

    ## Change

    Do what the driver asks for, after its work is moved elsewhere.

    ## Next measurement

    The Xids in the kernel log say what happened.

    ## References

    - nvml.h (NVML 13), nvmlDeviceGpuRecoveryAction_t
    """
    yield from together(
        (Seen(r.index, _text(r), r.recovery_action or 0) for r in machine.readings if _text(r)), "action"
    )


def _text(reading: DeviceReading) -> str:
    action = recovery_action(reading.recovery_action or 0)
    return f"the driver asks to {action} (recovery action {reading.recovery_action})" if action else ""
