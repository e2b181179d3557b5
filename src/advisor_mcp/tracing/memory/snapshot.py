"""CUDA allocator snapshots: the pickles that `torch.cuda.memory._dump_snapshot` writes.

Structure and meaning of the events: torch 2.13 torch/cuda/memory.py `_snapshot`, c10/core/CachingDeviceAllocator.h
`TraceEntry`, torch/csrc/cuda/memory_snapshot.cpp (which spells a block's middle state `active_pending_free`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, cast

from advisor_mcp.errors import UsageError
from advisor_mcp.tracing.doubts import Doubt
from advisor_mcp.tracing.memory.history import DeviceMemory, Held, MemoryHistory
from advisor_mcp.tracing.memory.plain_pickle import DROPPED, Limits, MadeDict, MadeList, load
from advisor_mcp.tracing.memory.replay import Before, Replay
from advisor_mcp.tracing.memory.stacks import UNKNOWN, Frame, Stack, Stacks

NO_POOL = (0, 0)
_FOREIGN = "this pickle is no CUDA allocator snapshot: give what torch.cuda.memory._dump_snapshot wrote"


class Block(NamedTuple):
    """A block of a segment as the snapshot shows it; sizes in bytes."""

    address: int
    size: int
    requested: int
    state: str
    stack: Stack


def read_snapshot(
    file: BinaryIO, limits: Limits | None = None, check: Callable[[], None] = lambda: None
) -> MemoryHistory:
    """What an allocator snapshot says, read as a stream from an opened (and already gunzipped) file.

    `check` is called between reads and may raise to stop the work. Raises `UsageError` with one sentence for a pickle that
    would build more than plain data, is damaged, is something else, or costs more than `limits`.
    """
    events = _Events()
    found = load(file, events, limits, check)
    if isinstance(found, list):  # torch.cuda.memory_snapshot() returns the segments alone
        found = {"segments": found}
    if not isinstance(found, dict) or not {"segments", "device_traces"} & found.keys():
        raise UsageError(_FOREIGN)
    try:
        return _history(found, events)
    except (TypeError, ValueError, AttributeError, KeyError):
        raise UsageError(_FOREIGN) from None


class _Events:
    """The fold of a snapshot: events are replayed as they come, frames, stacks and blocks are kept small."""

    def __init__(self) -> None:
        self.stacks = Stacks()
        self.replays: dict[int, tuple[Any, Replay]] = {}
        self.current = Replay()

    def __call__(self, made: Any, below: Any) -> Any:
        if type(made) is MadeList:
            return self.stacks.stack(made) if made and type(made[0]) is Frame else made
        if "action" in made:
            return self.event(made, below)
        if "filename" in made:
            return self.stacks.frame(made["filename"], made.get("line"), made.get("name"))
        return self.block(made) if "state" in made else made

    def event(self, made: MadeDict, below: Any) -> object:
        """Replay an event for the list it stands in: the list itself lies below its first event, events below the others."""
        if type(below) is MadeList:
            known = self.replays.get(id(below))
            self.current = known[1] if known else Replay()
            self.replays[id(below)] = (below, self.current)  # held, so that its id stays its own
        stack = made.get("frames")
        self.current.add(made, stack if type(stack) is Stack else UNKNOWN)
        return DROPPED

    def block(self, made: MadeDict) -> Block:
        stack = made.get("frames")
        size = whole(made.get("size"))
        requested = made.get("requested_size", size)
        kept = stack if type(stack) is Stack else UNKNOWN
        return Block(whole(made.get("address", 0) or 0), size, whole(requested), str(made["state"]), kept)

    def replay_of(self, trace: object) -> Replay | None:
        known = self.replays.get(id(trace))
        return known[1] if known and known[0] is trace else None


def whole(value: object) -> int:
    """The value as a count of bytes or an address; raises `TypeError` for anything else."""
    if type(value) is not int:
        raise TypeError("not a whole number")
    return value


def _history(found: Mapping[str, Any], events: _Events) -> MemoryHistory:
    segments = _by_device(found.get("segments") or ())
    traces = dict(enumerate(found.get("device_traces") or ()))
    used = sorted({*segments, *(device for device, trace in traces.items() if events.replay_of(trace))})
    if not used:
        raise UsageError(
            "the snapshot is empty: it has neither segments nor events; dump it while the program holds memory"
        )
    settings = found.get("allocator_settings")
    stated = settings if isinstance(settings, dict) else {}
    split, expandable = stated.get("max_split_size"), stated.get("expandable_segments")
    return MemoryHistory(
        source="allocator snapshot",
        devices=tuple(_device(n, segments.get(n, ()), events.replay_of(traces.get(n))) for n in used),
        expandable_segments=expandable if isinstance(expandable, bool) else None,
        max_split_bytes=split if type(split) is int and 0 < split < 1 << 62 else None,
    )


def _by_device(segments: Iterable[Any]) -> dict[int, list[Mapping[str, Any]]]:
    found: dict[int, list[Mapping[str, Any]]] = {}
    for segment in segments:
        whole(segment["total_size"])
        found.setdefault(whole(segment.get("device", 0)), []).append(segment)
    return found


def _device(device: int, segments: Iterable[Mapping[str, Any]], replay: Replay | None) -> DeviceMemory:
    listed = list(segments)
    doubts = list(_doubts_of(listed))
    held = _held(listed) if listed and not doubts else None
    if replay is None:
        doubts.append(
            Doubt("no-history", "no events were recorded: only what was held at the end is known, not the peak")
        )
        return DeviceMemory(device, 0, None, None, None, held, 0, 0, doubts=tuple(doubts))
    before = _before(listed, held, replay)
    return replay.finished(device, before, held, doubts)


def _before(segments: Iterable[Mapping[str, Any]], held: Held | None, replay: Replay) -> Before:
    """What was in use and reserved before the first event: what is there at the end less what the events added."""
    if held is None:
        return Before(None, None, {})
    kept: dict[Stack, int] = {}
    for block in _blocks(segments):
        if block.state != "inactive" and not replay.is_live(block.address):
            kept[block.stack] = kept.get(block.stack, 0) + block.size
    return Before(held.active - replay.net_active, held.reserved - replay.net_reserved, kept)


def _blocks(segments: Iterable[Mapping[str, Any]]) -> Iterator[Block]:
    for segment in segments:
        for block in segment.get("blocks", ()):
            if type(block) is not Block:
                raise TypeError("a block without a state")
            yield block


def _doubts_of(segments: Iterable[Mapping[str, Any]]) -> Iterator[Doubt]:
    listed = list(segments)
    wrong = sum(sum(block.size for block in _blocks([segment])) != segment["total_size"] for segment in listed)
    if wrong:
        yield Doubt(
            "segments-inconsistent",
            f"the blocks of {wrong} of {len(listed)} segments do not add up to the segment's size: what the allocator held "
            "at the end, its fragmentation and what was in use before the record began are withheld",
        )


def _held(segments: list[Mapping[str, Any]]) -> Held:
    blocks = list(_blocks(segments))
    free = [_free(segment) for segment in segments]
    in_use = [block for block in blocks if block.state == "active_allocated"]
    return Held(
        segments=len(segments),
        expandable_segments=sum(segment.get("is_expandable") is True for segment in segments),
        reserved=sum(segment["total_size"] for segment in segments),
        active=sum(block.size for block in blocks if block.state != "inactive"),
        allocated=sum(block.size for block in in_use),
        requested=sum(block.requested for block in in_use),
        blocks=len(in_use),
        split_free=sum(split for split, _ in free),
        releasable=sum(releasable for _, releasable in free),
        largest_free=max((block.size for block in blocks if block.state == "inactive"), default=0),
        private_pools=sum(
            segment["total_size"] for segment in segments if tuple(segment.get("segment_pool_id", NO_POOL)) != NO_POOL
        ),
    )


def _free(segment: Mapping[str, Any]) -> tuple[int, int]:
    """Free bytes of a segment that cannot be given back, and that can: an expandable segment gives back its free pages."""
    blocks = cast("list[Block]", segment.get("blocks", []))
    free = sum(block.size for block in blocks if block.state == "inactive")
    if segment.get("is_expandable") is True or free == segment["total_size"]:
        return 0, free
    return free, 0
