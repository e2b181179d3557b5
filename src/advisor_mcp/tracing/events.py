"""One event of a PyTorch profiler's trace: decoding it in every dialect, and its times and numbers whatever their types."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from math import prod
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from advisor_mcp.tracing.timeline import UNKNOWN, Mask

EXACT_BELOW = 2.0**42
"""Microseconds up to which a double resolves half a nanosecond; beyond, times are decoded as decimals."""

LATEST_US = 2**61 // 1000
"""Microseconds (73 years) that a time or duration may have: sums and differences of such times fit into 64 bits of nanoseconds."""


class Args(msgspec.Struct, gc=False):
    """The arguments that are read; every other one is skipped undecoded."""

    correlation: Any = None
    device: Any = None
    stream: Any = None
    bytes: Any = None
    grid: Any = None
    external: Any = msgspec.field(default=None, name="External id")
    dims: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Input Dims")
    types: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Input type")
    collective: Any = msgspec.field(default=None, name="Collective name")
    elements_in: Any = msgspec.field(default=None, name="In msg nelems")
    elements_out: Any = msgspec.field(default=None, name="Out msg nelems")
    group_size: Any = msgspec.field(default=None, name="Group size")
    dtype: Any = None
    group: Any = msgspec.field(default=None, name="Process Group Name")
    sequence: Any = msgspec.field(default=None, name="Seq")
    allocated: Any = msgspec.field(default=None, name="Total Allocated")
    reserved: Any = msgspec.field(default=None, name="Total Reserved")
    device_id: Any = msgspec.field(default=None, name="Device Id")
    device_type: Any = msgspec.field(default=None, name="Device Type")


class Event(msgspec.Struct, gc=False):
    """One event of a Chrome trace; `ts` and `dur` in microseconds."""

    ph: str | None = None
    cat: str | None = None
    name: str = ""
    ts: Any = None
    dur: Any = None
    pid: Any = None
    tid: Any = None
    args: Args | None = None


class _ExactEvent(Event, gc=False):
    """The same, with a time that loses nothing."""

    ts: Decimal | None = None


def decoder() -> Callable[[bytes], list[Event]]:
    """A function from a JSON array to its events. Once it has met a time that a double does not resolve it decodes decimals.

    The function raises `ValueError`, or `RecursionError`, for an array that it cannot read.
    """
    quick, exact = msgspec.json.Decoder(list[Event]), msgspec.json.Decoder(list[_ExactEvent])
    coarse = False

    def decode(raw: bytes) -> list[Event]:
        nonlocal coarse
        if not coarse:
            events = quick.decode(raw)
            coarse = any(type(event.ts) is float and abs(event.ts) >= EXACT_BELOW for event in events)
            if not coarse:
                return events
        return list[Event](exact.decode(raw))

    return decode


def convert(value: Mapping[str, Any]) -> Event:
    """An event from a decoded object, whatever the types of its fields."""
    given = value.get("args")
    args = None
    if isinstance(given, Mapping):
        args = Args(**{name: _held(name, given[wanted]) for name, wanted in _ARGS if wanted in given})
    ph, cat = (held if isinstance(held, str) else None for held in (value.get("ph"), value.get("cat")))
    times_and_places = {name: value.get(name) for name in ("ts", "dur", "pid", "tid")}
    return Event(ph=ph, cat=cat, name=str(value.get("name", "")), args=args, **times_and_places)


_ARGS = tuple(zip(Args.__struct_fields__, Args.__struct_encode_fields__, strict=True))


def _held(name: str, value: Any) -> Any:
    return msgspec.Raw(json.dumps(value).encode()) if name in ("dims", "types") else value


def nanoseconds(microseconds: list[Any]) -> tuple[npt.NDArray[np.int64], Mask]:
    """Times in microseconds (whole, floating, decimal, or the spelling of one) in nanoseconds rounded to the nearest, and a
    mask of those that are a time at all; the others are 0."""
    try:
        found = _decimals(microseconds) if type(microseconds[0]) is Decimal else _numbers(np.array(microseconds))
        if found is not None:
            return found, np.ones(len(found), np.bool_)
    except (ArithmeticError, IndexError, TypeError, ValueError):
        pass
    each = [nanosecond(value) for value in microseconds]
    return np.array([value or 0 for value in each], np.int64), np.array([value is not None for value in each], np.bool_)


def _numbers(given: npt.NDArray[Any]) -> npt.NDArray[np.int64] | None:
    if given.ndim != 1 or given.dtype.kind not in "iuf" or not (np.abs(given) < LATEST_US).all():
        return None
    below = np.floor(given)
    found: npt.NDArray[np.int64] = below.astype(np.int64) * 1000 + np.rint((given - below) * 1000).astype(np.int64)
    return found


def _decimals(given: list[Decimal]) -> npt.NDArray[np.int64] | None:
    if not (min(given) > -LATEST_US and max(given) < LATEST_US):
        return None
    return np.array([round(value * 1000) for value in given], np.int64)


def nanosecond(value: Any) -> int | None:
    """One time in microseconds, however it is spelled, in nanoseconds; None of what is no time."""
    try:
        found = Decimal(str(value))
        return round(found * 1000) if abs(found) < LATEST_US else None
    except (ArithmeticError, ValueError):
        return None


def whole(value: Any, default: int = UNKNOWN, limit: int = 2**62) -> int:
    """A whole number, however it is spelled, below a limit; else the default."""
    if type(value) is int:
        return value if -limit < value < limit else default
    try:
        found = int(value)
    except (TypeError, ValueError, OverflowError):
        return default
    return found if -limit < found < limit else default


def blocks(grid: Any) -> int:
    """The blocks of a grid of up to three dimensions; -1 where there is none."""
    if not isinstance(grid, list) or not 0 < len(grid) <= 3:
        return UNKNOWN
    return prod(grid) if all(type(side) is int and 0 < side < 2**20 for side in grid) else UNKNOWN


def correlation(args: Args) -> int:
    """What links a launch with its device event; roctracer wrote it under the other name."""
    return whole(args.correlation if args.correlation is not None else args.external)
