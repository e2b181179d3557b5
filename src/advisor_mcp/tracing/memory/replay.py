"""Replays one device's allocator events: what was in use when, and who held it at the peak."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from advisor_mcp.tracing.doubts import Doubt
from advisor_mcp.tracing.memory.history import Churn, DeviceMemory, Held, Holding, OutOfMemory, Peak
from advisor_mcp.tracing.memory.stacks import NO_STACK, UNKNOWN, Stack

BEFORE = "before the record began"
_ASKS = ("segment_alloc", "segment_map")
_GIVES_BACK = ("segment_free", "segment_unmap")


@dataclass(frozen=True, slots=True)
class Before:
    """What was in use and reserved before the first event, in bytes (None: unknown), and who held it to the end."""

    active: int | None
    reserved: int | None
    kept: Mapping[Stack, int]


@dataclass(frozen=True, slots=True)
class _Top:
    """The moment of the largest sum so far."""

    active: int = 0
    reserved: int = 0
    steps: int = 0
    event: int = 0
    time_us: int | None = None


@dataclass(frozen=True, slots=True)
class _Refused:
    size: int
    free: int
    active: int
    reserved: int
    site: str
    changes: int


class Replay:
    """Adds up events as they come: 12 bytes are kept of an allocation or a free, and a little of each block in use."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.net_active = self.net_reserved = 0
        self._events = self._changes = 0
        self._lowest = self._most_reserved = self._largest_request = 0
        self._top = _Top()
        self._first_us: int | None = None
        self._last_us: int | None = None
        self._unseen = self._doubled = self._without_stack = 0
        self._refused: list[_Refused] = []
        self._live: dict[int, tuple[int, int]] = {}
        self._deltas, self._holders = array("q"), array("I")
        self._groups: dict[tuple[str, str], int] = {(BEFORE, BEFORE): 0}
        self._churn = _Churning()

    def add(self, event: Mapping[str, Any], stack: Stack) -> None:
        """Take in one event as the snapshot holds it; actions of unknown kinds are counted and otherwise left alone."""
        action = str(event["action"])
        self.counts[action] += 1
        self._events += 1
        self._clock(event.get("time_us"))
        if action == "alloc":
            self._alloc(event["addr"], _size(event), stack, event.get("category"))
        elif action == "free_completed":
            self._free(event["addr"], _size(event))
        elif action in _ASKS:
            self._reserve(_size(event))
        elif action in _GIVES_BACK:
            self._reserve(-_size(event))
        elif action == "oom":
            self._refuse(_size(event), event.get("device_free"), stack)
        self._churn.add(action, event.get("size"), stack)

    def is_live(self, address: int) -> bool:
        """Whether the block at this address was allocated by an event and not freed by a later one."""
        return address in self._live

    def _clock(self, time: object) -> None:
        if type(time) is int:
            self._last_us = time
            if self._first_us is None:
                self._first_us = time

    def _alloc(self, address: int, size: int, stack: Stack, category: object) -> None:
        group = self._groups.setdefault((stack.site, str(category or stack.phase)), len(self._groups))
        self._doubled += address in self._live
        self._without_stack += stack is UNKNOWN
        self._live[address] = (size, group)
        self._largest_request = max(self._largest_request, size)
        self._step(size, group)
        if self.net_active > self._top.active:
            self._top = _Top(self.net_active, self.net_reserved, len(self._deltas), self._events, self._last_us)

    def _free(self, address: int, size: int) -> None:
        known = self._live.pop(address, None)
        self._unseen += known is None
        self._step(-size, known[1] if known else 0)
        self._lowest = min(self._lowest, self.net_active)

    def _step(self, delta: int, group: int) -> None:
        self._deltas.append(delta)
        self._holders.append(group)
        self.net_active += delta
        self._changes += 1

    def _reserve(self, delta: int) -> None:
        self.net_reserved += delta
        self._most_reserved = max(self._most_reserved, self.net_reserved)
        self._changes += 1

    def _refuse(self, size: int, free: object, stack: Stack) -> None:
        known = free if type(free) is int else 0
        self._refused.append(_Refused(size, known, self.net_active, self.net_reserved, stack.site, self._changes))

    def finished(self, device: int, before: Before, held: Held | None, doubts: Iterable[Doubt]) -> DeviceMemory:
        """The record of a device, given what was there before its first event and what it held at the end."""
        active = max(before.active or 0, -self._lowest, 0)
        usable = not self._skipped()
        reserved = before.reserved if self.counts.keys() & {*_ASKS, *_GIVES_BACK} or held else None
        return DeviceMemory(
            device=device,
            events=self._events,
            span_ms=self._ms(self._last_us),
            peak=self._peak(active, before, reserved) if usable else None,
            peak_reserved=None if reserved is None else reserved + self._most_reserved,
            held=held,
            largest_request=self._largest_request,
            unseen_frees=self._unseen,
            out_of_memory=tuple(self._oom(refused, active, reserved) for refused in self._refused),
            churn=self._churn.finished(self.counts),
            doubts=(*doubts, *self._doubts(before, active)),
        )

    def _ms(self, time_us: int | None) -> float | None:
        return None if time_us is None or self._first_us is None else (time_us - self._first_us) / 1000

    def _peak(self, active: int, before: Before, reserved: int | None) -> Peak:
        top = self._top
        sites, categories = self._holdings(active, before)
        return Peak(
            size=active + top.active,
            traced=top.active,
            before=active,
            reserved=None if reserved is None else reserved + top.reserved,
            after_ms=self._ms(top.time_us),
            event=top.event,
            by_site=sites,
            by_category=categories,
        )

    def _holdings(self, active: int, before: Before) -> tuple[tuple[Holding, ...], tuple[Holding, ...]]:
        """Who held what at the peak, by place in the code and by category, the most first."""
        totals = [0] * len(self._groups)
        for delta, group in zip(self._deltas[: self._top.steps], self._holders, strict=False):
            totals[group] += delta
        totals[0] += active - sum(before.kept.values())
        named = [*zip(self._groups, totals, strict=True)]
        named += [((stack.site, stack.phase), size) for stack, size in before.kept.items()]
        return _summed((site, size) for (site, _), size in named), _summed((kind, size) for (_, kind), size in named)

    def _oom(self, refused: _Refused, active: int, reserved: int | None) -> OutOfMemory:
        return OutOfMemory(
            size=refused.size,
            free_on_device=refused.free,
            active=active + refused.active,
            reserved=None if reserved is None else reserved + refused.reserved,
            site=refused.site,
            at_end=refused.changes == self._changes,
        )

    def _skipped(self) -> bool:
        """Whether allocations or frees were left out of the record (`skip_actions`), so that nothing adds up."""
        allocs, requested, completed = (self.counts[name] for name in ("alloc", "free_requested", "free_completed"))
        return bool((completed or requested) and not allocs) or bool(allocs and requested and not completed)

    def _doubts(self, before: Before, active: int) -> Iterator[Doubt]:
        if self._skipped():
            yield Doubt(
                "actions-skipped",
                "allocations or completed frees are missing from the record (skip_actions): no peak can be computed",
            )
        if self._unseen:
            yield Doubt(
                "history-truncated",
                f"{self._unseen:,} frees are of blocks that the record never saw allocated: it begins in the middle of the "
                "run (max_entries reached, or recording started late), so an earlier peak would not be seen",
            )
        if before.active is not None and before.active < -self._lowest:
            yield Doubt(
                "history-contradicts-segments",
                "the record frees more than can have been in use by what the segments hold at the end: the peak is at least "
                f"{active + self._top.active:,} bytes",
            )
        if self._doubled:
            yield Doubt(
                "events-missing",
                f"{self._doubled:,} allocations are at addresses still in use: frees are missing, and the peak is too high",
            )
        if self._without_stack and self._without_stack == self.counts["alloc"]:
            yield Doubt("no-stacks", "the record has no stacks: record with context='all' to see who holds the peak")


class _Churning:
    """Follows runs of segments given back, to tell a retry of the allocator from an explicit empty_cache()."""

    def __init__(self) -> None:
        self.freed = self.retries = self.flushes = 0
        self.retry_site: str | None = None
        self.flush_site: str | None = None
        self._run: Stack | None = None

    def add(self, action: str, size: object, stack: Stack) -> None:
        if action in _GIVES_BACK:
            self.freed += size if type(size) is int else 0
            if stack.empties_cache and self._run is not stack:
                self.flushes += 1
                self.flush_site = self.flush_site or stack.site
            self._run = stack
            return
        # a failed cudaMalloc gives back segments from within the request that asks again, so under the same stack
        if self._run and (action == "oom" or (action in _ASKS and self._run is stack is not UNKNOWN)):
            self.retries += 1
            self.retry_site = self.retry_site or (stack.site if stack.site != NO_STACK else None)
        self._run = None

    def finished(self, counts: Mapping[str, int]) -> Churn:
        asked, given = (sum(counts.get(name, 0) for name in names) for names in (_ASKS, _GIVES_BACK))
        return Churn(asked, given, self.freed, self.retries, self.retry_site, self.flushes, self.flush_site)


def _size(event: Mapping[str, Any]) -> int:
    size = event["size"]
    if type(size) is not int or not 0 <= size < 1 << 62:
        raise ValueError("a size that is none")
    return size


def _summed(named: Iterable[tuple[str, int]]) -> tuple[Holding, ...]:
    totals: Counter[str] = Counter()
    for name, size in named:
        totals[name] += size
    return tuple(Holding(name, size) for name, size in sorted(totals.items(), key=lambda x: (-x[1], x[0])) if size > 0)
