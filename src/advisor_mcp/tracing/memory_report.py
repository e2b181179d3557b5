"""The part of `diagnose_trace`'s answer that tells of device memory."""

from __future__ import annotations

from pydantic import Field

from advisor_mcp.results import Row, gib
from advisor_mcp.tracing.memory import DeviceMemory, Held, Holding, MemoryHistory, OutOfMemory

BRIEF_GPUS, FULL_GPUS = 3, 8
BRIEF_SHARES, FULL_SHARES = 3, 15
BRIEF_ERRORS, FULL_ERRORS = 1, 8
LONGEST_NAME = 70


class MemoryRow(Row):
    """The memory of one GPU over the record."""

    gpu: int
    peak_gib: float | None = Field(
        default=None, description="Most memory in use at once; null where no history was kept"
    )
    peak_bytes: int | None = None
    peak_after_ms: float | None = Field(default=None, description="Since the first event")
    reserved_at_peak_gib: float | None = Field(default=None, description="What the allocator held at the peak")
    peak_reserved_gib: float | None = Field(default=None, description="The most it ever held")
    before_bytes: int | None = Field(default=None, description="Of the peak, in use before the record began")
    traced_bytes: int | None = Field(default=None, description="Of the peak, added by recorded events")
    in_use_end_gib: float | None = Field(default=None, description="In use when the snapshot was taken")
    reserved_end_gib: float | None = Field(default=None, description="Held when the snapshot was taken")
    fragmentation_percent: float | None = Field(
        default=None, description="1 - in use / reserved, at the end; a cache that empty_cache() gives back counts too"
    )
    free_in_pieces_gib: float | None = Field(default=None, description="Free between blocks in use, at the end")
    largest_free_gib: float | None = Field(default=None, description="Largest free block at the end")
    requested_end_bytes: int | None = Field(default=None, description="What the program asked for of what is allocated")
    allocated_end_bytes: int | None = None
    segments: int | None = None
    expandable_segments: int | None = None
    private_pools_gib: float | None = Field(default=None, description="Held for private pools, such as CUDA graphs")
    alloc_retries: int | None = Field(default=None, description="Requests served after cached memory was given back")
    cache_flushes: int | None = Field(default=None, description="empty_cache() calls that gave memory back")
    events: int | None = None
    span_ms: float | None = None


class Share(Row):
    """A part of the peak."""

    name: str
    gib: float
    bytes: int | None = None
    percent: float


class Refusal(Row):
    """A request that failed for want of memory."""

    gpu: int
    asked_gib: float
    where: str
    in_use_gib: float
    reserved_gib: float | None = None
    free_on_device_gib: float


class MemorySection(Row):
    """What a record of device memory says."""

    source: str
    gpus: list[MemoryRow]
    at_peak_by_category: list[Share] = Field(description="Who held the fullest GPU's peak, by category or phase")
    at_peak_by_site: list[Share] = Field(description="And by the line of code that allocated it")
    out_of_memory: list[Refusal]
    doubts: list[str] = Field(description="What makes these figures less sure")
    more: list[str] = Field(description="What was left out to keep this short")


_BRIEF = frozenset(
    {
        "gpu",
        "peak_gib",
        "peak_bytes",
        "peak_after_ms",
        "peak_reserved_gib",
        "reserved_end_gib",
        "fragmentation_percent",
    }
)


def memory_section(history: MemoryHistory, full: bool) -> MemorySection:
    """A memory record as an answer gives it: at most about 1,200 bytes, or 8,000 with `full`."""
    gpus = FULL_GPUS if full else BRIEF_GPUS
    shares = FULL_SHARES if full else BRIEF_SHARES
    errors = FULL_ERRORS if full else BRIEF_ERRORS
    told = sorted(history.devices, key=lambda device: device is not history.fullest)[:gpus]
    peak = history.fullest.peak
    categories, sites = (peak.by_category, peak.by_site) if peak else ((), ())
    refused = [(device, each) for device in history.devices for each in device.out_of_memory]
    size = peak.size if peak else 0
    return MemorySection(
        source=history.source,
        gpus=[_row(device, full) for device in sorted(told, key=lambda device: device.device)],
        at_peak_by_category=[_share(held, size, True) for held in categories[:8]],
        at_peak_by_site=[_share(held, size, full) for held in sites[:shares]],
        out_of_memory=[_refusal(device, each) for device, each in refused[-errors:]],
        doubts=_doubts(history, full),
        more=list(
            _more(
                gpus=len(history.devices) - len(told),
                at_peak_by_site=len(sites) - shares,
                out_of_memory=len(refused) - errors,
            )
        ),
    )


def _more(**left: int) -> list[str]:
    return [f"{name}: {count} more" for name, count in left.items() if count > 0]


def _doubts(history: MemoryHistory, full: bool) -> list[str]:
    """The doubts, each said once; a brief answer has the beginning of the first."""
    said = list(dict.fromkeys(doubt.sentence for device in history.devices for doubt in device.doubts))
    return said[:8] if full else [sentence.split(": ")[0] for sentence in said[:1]]


def _row(device: DeviceMemory, full: bool) -> MemoryRow:
    peak, held, churn = device.peak, device.held, device.churn
    row = MemoryRow(
        gpu=device.device,
        peak_gib=_gib(peak.size if peak else None),
        peak_bytes=peak.size if peak else None,
        peak_after_ms=_ms(peak.after_ms if peak else None),
        reserved_at_peak_gib=_gib(peak.reserved if peak else None),
        peak_reserved_gib=_gib(device.peak_reserved),
        before_bytes=peak.before if peak else None,
        traced_bytes=peak.traced if peak else None,
        alloc_retries=churn.retries,
        cache_flushes=churn.flushes,
        events=device.events,
        span_ms=_ms(device.span_ms),
    )
    row = _with_end(row, held) if held else row
    return row if full else row.model_copy(update=dict.fromkeys(MemoryRow.model_fields.keys() - _BRIEF))


def _with_end(row: MemoryRow, held: Held) -> MemoryRow:
    end = {
        "in_use_end_gib": gib(held.active),
        "reserved_end_gib": gib(held.reserved),
        "fragmentation_percent": round(100 * held.fragmentation, 1),
        "free_in_pieces_gib": gib(held.split_free),
        "largest_free_gib": gib(held.largest_free),
        "requested_end_bytes": held.requested,
        "allocated_end_bytes": held.allocated,
        "segments": held.segments,
        "expandable_segments": held.expandable_segments,
        "private_pools_gib": gib(held.private_pools),
    }
    return row.model_copy(update=end)


def _share(held: Holding, whole: int, full: bool) -> Share:
    return Share(
        name=held.name[:LONGEST_NAME],
        gib=gib(held.size),
        bytes=held.size if full else None,
        percent=round(100 * held.size / whole, 1) if whole else 0.0,
    )


def _refusal(device: DeviceMemory, refused: OutOfMemory) -> Refusal:
    return Refusal(
        gpu=device.device,
        asked_gib=gib(refused.size),
        where=refused.site[:LONGEST_NAME],
        in_use_gib=gib(refused.active),
        reserved_gib=_gib(refused.reserved),
        free_on_device_gib=gib(refused.free_on_device),
    )


def _gib(count: int | None) -> float | None:
    return None if count is None else gib(count)


def _ms(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
