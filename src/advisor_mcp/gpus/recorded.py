"""GPUs read back from a JSON recording: for machines that cannot be reached, for tests and for demonstrations."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor_mcp.errors import UsageError, nearest, shown
from advisor_mcp.gpus.devices import DeviceReading, DeviceSource, DriverReading, MigInstanceReading, ProcessReading

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

VARIABLE = "ADVISOR_MCP_GPUS"
NOT_RECORDED = "not recorded"
_KEYS = ("made", "driver", "devices")
# these two say what is wrong or missing, so their absence is not a missing value; MIG instances exist in MIG mode only
_NEVER_MISSING = frozenset({"failure", "missing", "mig_instances"})


@dataclass(frozen=True, slots=True)
class Recorded:
    """The GPUs of a recording, as they were when it was made."""

    readings: tuple[DeviceReading, ...]
    versions: DriverReading

    def devices(self) -> list[DeviceReading]:
        """The recorded GPUs."""
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
    _check_keys(data.get("driver", {}), ("driver_version", "cuda_version", "absent"), f"{name}: driver")
    readings = tuple(_reading(entry, f"{name}: devices[{i}]") for i, entry in enumerate(data["devices"]))
    driver: DriverReading = _validated(DriverReading, data.get("driver", {}), f"{name}: driver")
    return Recorded(readings, replace(driver, recorded=str(data.get("made") or "in a way that it does not state")))


def recording(source: DeviceSource, made: str) -> dict[str, Any]:
    """What a source shows now, in the JSON form that `parse_recording` reads; `made` says how it came about."""
    from pydantic import TypeAdapter

    driver = TypeAdapter(DriverReading).dump_python(
        source.driver(), mode="json", exclude_none=True, exclude={"recorded"}
    )
    devices = TypeAdapter(list[DeviceReading]).dump_python(source.devices(), mode="json", exclude_none=True)
    return {"made": made, "driver": driver, "devices": devices}


def _reading(entry: Any, where: str) -> DeviceReading:
    _check_keys(entry, _names(DeviceReading), where)
    for field, kind in (("processes", ProcessReading), ("mig_instances", MigInstanceReading)):
        rows = entry.get(field)
        for row in rows if isinstance(rows, list) else []:
            _check_keys(row, _names(kind), f"{where}.{field}")
    found: DeviceReading = _validated(DeviceReading, entry, where)
    if found.failure:
        return found
    asked = [name for name in _names(DeviceReading) if name not in _NEVER_MISSING]
    absent = {name: NOT_RECORDED for name in asked if getattr(found, name) is None}
    return replace(found, missing=absent | dict(found.missing))


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
