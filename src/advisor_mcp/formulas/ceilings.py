"""What a device can do at most: its datasheet's rates, or those that `advisor-mcp benchmark-device` measured on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.devices import Device, read_device
from advisor_mcp.knowledge import measurements
from advisor_mcp.knowledge.measurements import Measurement

KIND = "ceiling"
COPY, LAUNCH, ALL_REDUCE = "copy.device", "launch", "all_reduce"
Use = Literal["auto", "datasheet"]


def matmul_key(dtype: str) -> str:
    """The key under which the matrix product's rate of a dtype is recorded."""
    return f"matmul.{dtype}"


@dataclass(frozen=True, slots=True)
class Ceiling:
    """One rate: its value and unit, the measurement it comes from (None: the datasheet), and the datasheet's own figure."""

    name: str
    value: float
    unit: str
    measured: Measurement | None = None
    datasheet: float | None = None

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        if self.measured is None:
            return "datasheet"
        instead = f" instead of the datasheet's {self.datasheet:g}" if self.datasheet else ""
        return f"measured here {self.measured.date}, n={self.measured.samples},{instead or ' no datasheet figure'}"


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The ceilings of one kind of device; `device` is None for one that is known from measurements alone."""

    id: str
    device: Device | None
    measured: Mapping[str, Measurement] = field(default_factory=dict)

    def rate(self, dtype: str) -> Ceiling:
        """TFLOP/s of matrix products of that dtype; raises `CannotAnswer` where neither source has a figure."""
        found = self.measured.get(matmul_key(dtype))
        known = None if self.device is None else self.device.dense_tflops.get(dtype)
        if found is not None:
            return Ceiling(dtype, found.value, found.unit, found, known)
        if self.device is None:
            raise self._missing(f"{dtype} TFLOP/s")
        return Ceiling(dtype, self.device.peak(dtype), "TFLOP/s", None, known)

    def has(self, dtype: str) -> bool:
        """Whether either source has a rate for that dtype."""
        return matmul_key(dtype) in self.measured or (self.device is not None and dtype in self.device.dense_tflops)

    def fastest(self, dtypes: Iterable[str]) -> str:
        """The dtype of these with the highest rate; the last one where the device has none of them."""
        listed = list(dtypes)
        return max(
            (name for name in listed if self.has(name)), key=lambda name: self.rate(name).value, default=listed[-1]
        )

    def bandwidth(self) -> Ceiling:
        """10^9 bytes per second to and from the device's memory; raises `CannotAnswer` where neither source has a figure."""
        found = self.measured.get(COPY)
        known = None if self.device is None else self.device.memory_gb_s
        if found is not None:
            return Ceiling("memory", found.value, found.unit, found, known)
        if known is None:
            raise self._missing("memory bandwidth in GB/s")
        return Ceiling("memory", known, "GB/s", None, known)

    def launch(self) -> Ceiling | None:
        """Microseconds between kernels that the host launches one after another; only a measurement says."""
        found = self.measured.get(LAUNCH)
        return None if found is None else Ceiling("launch", found.value, found.unit, found)

    def _missing(self, what: str) -> CannotAnswer:
        return CannotAnswer(
            f"no {what} is known for {self.id}; measure it with 'advisor-mcp benchmark-device', or add the fact to a content folder",
            needs=[f"{what} of {self.id}"],
        )


def read_ceilings(gpu: str, use: Use = "auto") -> Ceilings:
    """The ceilings of a known device, with what was measured here in the datasheet's place unless `use` is "datasheet".

    A device that is only known from measurements (`cpu`, an unlisted GPU) is taken from those alone. Raises `UsageError`
    with the nearest name for one that is not known at all.
    """
    try:
        device = read_device(gpu)
    except UsageError:
        found = measurements.latest(KIND, gpu) if use == "auto" else {}
        if not found:
            raise
        return Ceilings(gpu, None, found)
    return Ceilings(device.id, device, measurements.latest(KIND, device.id) if use == "auto" else {})
