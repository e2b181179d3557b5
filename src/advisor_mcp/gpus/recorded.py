"""GPUs read back from a JSON recording: for machines that cannot be reached, for tests and for demonstrations."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor_mcp.errors import UsageError, nearest, shown
from advisor_mcp.gpus.devices import (
    ActivityReading,
    DeviceReading,
    DeviceSource,
    DriverReading,
    LinkReading,
    MigInstanceReading,
    Pause,
    ProcessReading,
    XidReading,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

VARIABLE = "ADVISOR_MCP_GPUS"
NOT_RECORDED = "not recorded"
_KEYS = ("made", "driver", "devices")
# these say what is wrong or missing, or how it was read, so their absence is not a missing value; MIG instances exist in
# MIG mode only
_NEVER_MISSING = frozenset({"vendor", "sample_s", "failure", "missing", "mig_instances"})
_PARTS = {
    "activity": ActivityReading,
    "links": LinkReading,
    "processes": ProcessReading,
    "mig_instances": MigInstanceReading,
    "xids": XidReading,
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """The GPUs of a recording, as they were when it was made."""

    readings: tuple[DeviceReading, ...]
    versions: DriverReading

    def devices(self, pause: Pause | None = None) -> list[DeviceReading]:
        """The recorded GPUs; nothing is waited for."""
        return list(self.readings)

    def driver(self) -> DriverReading:
        """The recorded driver."""
        return self.versions


def named_by_environment() -> Path | None:
    """The recording that ADVISOR_MCP_GPUS names, to be read in place of this machine's GPUs."""
    named = os.environ.get(VARIABLE, "").strip()
    return Path(os.path.expanduser(named)) if named else None


def read_recording(path: Path) -> Recorded:
    """Read a recording; raises `UsageError` for a file that is missing, is not JSON or has a field that does not exist.

    A field that a GPU of the recording leaves out is None with the reason "not recorded".
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(f"the recording {shown(path.name)} cannot be read; check {VARIABLE}") from None
    except ValueError:
        raise UsageError(f"the recording {shown(path.name)} is not JSON; record it again") from None
    return parse_recording(data, path.name)


def parse_recording(data: Any, name: str = "recording") -> Recorded:
    """A recording from its JSON form; raises `UsageError` naming the first thing that is wrong."""
    _check_keys(data, _KEYS, name)
    if not isinstance(data.get("devices"), list):
        raise UsageError(f"{name}: devices must be a list of GPUs; record it again")
    known = [field for field in _names(DriverReading) if field != "recorded"]
    _check_keys(data.get("driver", {}), known, f"{name}: driver")
    readings = tuple(_reading(entry, f"{name}: devices[{i}]") for i, entry in enumerate(data["devices"]))
    driver: DriverReading = _validated(DriverReading, data.get("driver", {}), f"{name}: driver")
    return Recorded(readings, replace(driver, recorded=str(data.get("made") or "in a way that it does not state")))


def recording(source: DeviceSource, made: str, pause: Pause | None = None) -> dict[str, Any]:
    """What a source shows now, in the JSON form that `parse_recording` reads; `made` says how it came about.

    With a pause it holds what happened between two samples too.
    """
    from pydantic import TypeAdapter

    driver = TypeAdapter(DriverReading).dump_python(
        source.driver(), mode="json", exclude_none=True, exclude={"recorded"}
    )
    devices = TypeAdapter(list[DeviceReading]).dump_python(source.devices(pause), mode="json", exclude_none=True)
    return {"made": made, "driver": driver, "devices": devices}


def _reading(entry: Any, where: str) -> DeviceReading:
    _check_keys(entry, _names(DeviceReading), where)
    for field, kind in _PARTS.items():
        found = entry.get(field)
        for row in found if isinstance(found, list) else [found] if isinstance(found, dict) else []:
            _check_keys(row, _names(kind), f"{where}.{field}")
    reading: DeviceReading = _validated(DeviceReading, entry, where)
    if reading.failure:
        return reading
    asked = [name for name in _names(DeviceReading) if name not in _NEVER_MISSING]
    absent = {name: NOT_RECORDED for name in asked if getattr(reading, name) is None}
    return replace(reading, missing=absent | dict(reading.missing))


def _names(kind: type[DataclassInstance]) -> list[str]:
    return [field.name for field in fields(kind)]


def _check_keys(data: Any, known: list[str] | tuple[str, ...], where: str) -> None:
    if not isinstance(data, dict):
        raise UsageError(f"{where} must be an object, not {shown(data)}; record it again")
    for key in data:
        if key not in known:
            raise UsageError(f"{where} has no field {shown(key)}{nearest(key, known) or '; record it again'}")


def _validated(kind: Any, data: Any, where: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}.{place} cannot be {shown(first['input'])}; record it again") from None
