"""From readings to the rows of an answer: units that people use, codes in words, and why a figure is null."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

from advisor_mcp.gpus import decoding, xids
from advisor_mcp.gpus.devices import ActivityReading, DeviceReading, LinkReading
from advisor_mcp.gpus.rows import GpuModel, GpuRow, LinkRow, MigRow, NotAvailable, ProcessRow, XidRow
from advisor_mcp.results import Row, gib

AnyRow = TypeVar("AnyRow", bound=Row)
Lookup: TypeAlias = Callable[[str], str | None]
"""From a GPU's name, as the driver gives it, to its id in the knowledge base."""

REMAP_BINS = ("max", "high", "partial", "low", "none")
_BRIEF_GPU = frozenset(
    {
        "index",
        "utilization_percent",
        "sm_active_percent",
        "memory_used_gib",
        "memory_free_gib",
        "power_w",
        "temperature_c",
        "sm_clock_mhz",
        "throttled_by",
    }
)
_BRIEF_MODEL = frozenset(
    {
        "gpus",
        "name",
        "vendor",
        "gpu_id",
        "architecture",
        "compute_capability",
        "memory_total_gib",
        "memory_total_bytes",
        "power_limit_w",
        "sm_clock_max_mhz",
        "ecc_enabled",
        "mig_enabled",
    }
)
_FULL_PROCESS_ONLY = frozenset({"memory_bytes"})
_SECTIONS = frozenset({"processes", "mig_instances", "xids"})

_ACTIVITY = {
    "sm_active_percent": "sm_percent",
    "sm_occupancy_percent": "sm_occupancy_percent",
    "tensor_active_percent": "tensor_percent",
    "hmma_active_percent": "hmma_percent",
    "imma_active_percent": "imma_percent",
    "dmma_active_percent": "dmma_percent",
    "fp64_active_percent": "fp64_percent",
    "fp32_active_percent": "fp32_percent",
    "fp16_active_percent": "fp16_percent",
    "integer_active_percent": "integer_percent",
    "dram_active_percent": "dram_percent",
}
"""The figures of an activity, and the fields that they are read from."""

_WATTS = {f"power_limit{which}_mw": f"power_limit{which}_w" for which in ("", "_default", "_min", "_max")}
_FIGURES = {
    "power_mw": ("power_w",),
    **{field: (figure,) for field, figure in _WATTS.items()},
    "energy_mj": ("energy_j",),
    "clock_events": ("throttled_by", "clock_events"),
    "activity": tuple(_ACTIVITY),
    "links": ("links_up", "links_total", "link_version", "link_speed_mbps"),
    "row_remap_histogram": ("row_remap_spares",),
    **{f"memory_{part}_bytes": (f"memory_{part}_gib", f"memory_{part}_bytes") for part in ("used", "free", "reserved")},
}
"""The figures of a reading's field, where they are named otherwise than the field."""

_AS_READ = tuple(name for name in GpuRow.model_fields if name in DeviceReading.__slots__)
_MODEL_AS_READ = tuple(name for name in GpuModel.model_fields if name in DeviceReading.__slots__)


def models(readings: Sequence[DeviceReading], lookup: Lookup, full: bool) -> list[GpuModel]:
    """What the GPUs are, those alike in one row."""
    grouped = dict[tuple[Any, ...], tuple[GpuModel, list[int]]]()
    for reading in readings:
        if reading.name is None and reading.failure:
            continue
        model = _kept(_model(reading, lookup), full, GpuModel.model_fields.keys() - _BRIEF_MODEL)
        grouped.setdefault(tuple(model.model_dump().values()), (model, []))[1].append(reading.index)
    return [model.model_copy(update={"gpus": decoding.index_ranges(found)}) for model, found in grouped.values()]


def _model(reading: DeviceReading, lookup: Lookup) -> GpuModel:
    values: dict[str, Any] = {name: getattr(reading, name) for name in _MODEL_AS_READ}
    code, total = reading.architecture, reading.memory_total_bytes
    values |= {figure: _thousandth(getattr(reading, field)) for field, figure in _WATTS.items()}
    values["gpus"] = ""
    values["gpu_id"] = lookup(reading.name) if reading.name else None
    values["architecture"] = None if code is None else decoding.architecture_name(code)
    values["memory_total_gib"] = None if total is None else gib(total)
    return GpuModel(**(values | _link_kind(reading.links or ())))


def _link_kind(links: Sequence[LinkReading]) -> dict[str, Any]:
    versions = {link.version for link in links if link.version is not None}
    speeds = {link.speed_mbps for link in links if link.speed_mbps is not None}
    return {
        "link_version": decoding.link_version(versions.pop()) if len(versions) == 1 else None,
        "link_speed_mbps": speeds.pop() if len(speeds) == 1 else None,
    }


def gpu_row(reading: DeviceReading, full: bool) -> GpuRow:
    """One GPU's row; a brief one keeps what most questions need."""
    values: dict[str, Any] = {name: getattr(reading, name) for name in _AS_READ}
    for share in ("used", "free", "reserved"):
        count = values[f"memory_{share}_bytes"]
        values[f"memory_{share}_gib"] = None if count is None else gib(count)
    values |= _activity(reading.activity) | _in_words(reading) | _links_up(reading)
    values["uuid"] = decoding.short_uuid(reading.uuid) if reading.uuid else None
    values["power_w"] = _thousandth(reading.power_mw)
    values["energy_j"] = _thousandth(reading.energy_mj)
    if reading.limited_percent is not None:
        values["limited_percent"] = {cause: share for cause, share in reading.limited_percent.items() if share}
    spares = reading.row_remap_histogram
    values["row_remap_spares"] = None if spares is None else dict(zip(REMAP_BINS, spares, strict=True))
    return GpuRow(**(values if full else {name: values[name] for name in _BRIEF_GPU}))


def _in_words(reading: DeviceReading) -> dict[str, Any]:
    events, state = reading.clock_events, reading.performance_state
    found = None if events is None else decoding.clock_events(events)
    return {
        "performance_state": None if state is None else f"P{state}",
        "clock_events": None if found is None else [event.id for event in found],
        "throttled_by": None if found is None else [event.id for event in found if event.severity != "normal"],
        "recovery_action": decoding.recovery_action(reading.recovery_action or 0),
    }


def _activity(activity: ActivityReading | None) -> dict[str, float | None]:
    return {figure: getattr(activity, field, None) for figure, field in _ACTIVITY.items()}


def _links_up(reading: DeviceReading) -> dict[str, int | None]:
    if reading.links is None:
        return {"links_up": None, "links_total": None}
    return {"links_up": sum(link.active is True for link in reading.links), "links_total": len(reading.links)}


def _thousandth(value: int | None) -> int | None:
    return None if value is None else round(value / 1000)


def common(rows: Sequence[GpuRow]) -> tuple[dict[str, Any] | None, list[GpuRow]]:
    """The figures that several rows share, and the rows without them."""
    if len(rows) < 2:
        return None, list(rows)
    names = [name for name in GpuRow.model_fields if name != "index"]
    first = rows[0]
    shared = {
        name: value
        for name in names
        if (value := getattr(first, name)) is not None and all(getattr(row, name) == value for row in rows)
    }
    return shared or None, [row.model_copy(update=dict.fromkeys(shared)) for row in rows]


def process_rows(readings: Iterable[DeviceReading]) -> list[ProcessRow]:
    """Every process, those with the most memory first."""
    rows = [
        ProcessRow(
            gpu=reading.index,
            pid=process.pid,
            name=process.name,
            kind=process.kind,
            memory_gib=None if process.memory_bytes is None else gib(process.memory_bytes),
            memory_bytes=process.memory_bytes,
            sm_percent=process.sm_percent,
        )
        for reading in readings
        for process in reading.processes or ()
    ]
    return sorted(rows, key=lambda row: -(row.memory_bytes or 0))


def kept_processes(rows: Iterable[ProcessRow], full: bool) -> list[ProcessRow]:
    """Process rows as an answer of this detail has them."""
    return [_kept(row, full, _FULL_PROCESS_ONLY) for row in rows]


def mig_rows(readings: Iterable[DeviceReading]) -> Iterator[MigRow]:
    """The MIG instances of all GPUs."""
    for reading in readings:
        for instance in reading.mig_instances or ():
            total, used = instance.memory_total_bytes, instance.memory_used_bytes
            active = _activity(instance.activity)
            yield MigRow(
                gpu=reading.index,
                index=instance.index,
                name=instance.name,
                multiprocessors=instance.multiprocessors,
                memory_total_gib=None if total is None else gib(total),
                memory_used_gib=None if used is None else gib(used),
                sm_active_percent=active["sm_active_percent"],
                tensor_active_percent=active["tensor_active_percent"],
                dram_active_percent=active["dram_active_percent"],
            )


def link_rows(readings: Iterable[DeviceReading]) -> Iterator[LinkRow]:
    """The links that are down, of GPUs that have others up, and those that have counted errors."""
    for reading in readings:
        links = reading.links or ()
        used = any(link.active for link in links)
        for link in links:
            errors = {name: count for name, count in link.errors.items() if count}
            new = {name: count for name, count in (link.new_errors or {}).items() if count}
            if (used and link.active is False) or errors or new:
                yield LinkRow(
                    gpu=reading.index, link=link.link, active=link.active, errors=errors or None, new_errors=new or None
                )


def xid_rows(readings: Iterable[DeviceReading]) -> Iterator[XidRow]:
    """The Xids of the kernel log, with NVIDIA's advice."""
    for reading in readings:
        for event in reading.xids or ():
            known = xids.named(event.code)
            yield XidRow(
                gpu=reading.index,
                code=event.code,
                meaning=known.meaning,
                action=known.bucket,
                count=event.count,
                last_minutes_ago=None if event.age_s is None else round(event.age_s / 60),
            )


def _kept(row: AnyRow, full: bool, full_only: Iterable[str]) -> AnyRow:
    return row if full else row.model_copy(update=dict.fromkeys(full_only))


def not_available(readings: Sequence[DeviceReading], full: bool) -> list[NotAvailable]:
    """The null figures of the rows shown, by reason; GPUs that lack the same figures for one reason share a row."""
    everything = GpuModel.model_fields.keys() | GpuRow.model_fields.keys() | _SECTIONS
    shown = everything if full else _BRIEF_MODEL | _BRIEF_GPU | (_SECTIONS - {"xids"})
    by_gpu = dict[tuple[int, str], list[str]]()
    for reading in readings:
        for field, reason in reading.missing.items():
            for name in _FIGURES.get(field, (field,)):
                if name in shown:
                    by_gpu.setdefault((reading.index, reason), []).append(name)
    grouped = dict[tuple[str, tuple[str, ...]], list[int]]()
    for (index, reason), names in by_gpu.items():
        grouped.setdefault((reason, tuple(names)), []).append(index)
    return [
        NotAvailable(gpus=decoding.index_ranges(found), reason=reason, fields=list(names))
        for (reason, names), found in grouped.items()
    ]
