"""GPUs as they are now: live through NVML, or read back from a recording."""

from advisor_mcp.gpus.devices import (
    DeviceReading,
    DeviceSource,
    DriverReading,
    MigInstanceReading,
    ProcessReading,
    open_devices,
)

__all__ = [
    "DeviceReading",
    "DeviceSource",
    "DriverReading",
    "MigInstanceReading",
    "ProcessReading",
    "open_devices",
]
