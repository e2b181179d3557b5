"""Allocator snapshots as torch writes them, built from plain data: what `torch.cuda.memory._snapshot` documents."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any

MIB = 1 << 20
TORCH = "/opt/venv/lib/python3.11/site-packages/torch"


def frame(file: str, line: int, name: str) -> dict[str, Any]:
    return {"filename": file, "line": line, "name": name}


def stack(line: int, name: str = "train", inside: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """Innermost first: native code, then torch, then the user's own line."""
    native = frame("/pytorch/c10/cuda/CUDACachingAllocator.cpp", 0, "malloc")
    own = frame("/home/somebody/secret-project/train.py", line, name)
    return [native, *inside, own, frame("/usr/lib/python3.11/runpy.py", 88, "_run_code")]


FORWARD = stack(10, "forward")
BACKWARD = stack(20, "train", [frame(f"{TORCH}/_tensor.py", 626, "backward")])
OPTIMIZER = stack(30, "train", [frame(f"{TORCH}/optim/adamw.py", 100, "_init_group")])
EMPTY_CACHE = stack(40, "train", [frame(f"{TORCH}/cuda/memory.py", 222, "empty_cache")])


def event(action: str, size: int, addr: int = 0, frames: Sequence[dict[str, Any]] = (), **more: Any) -> dict[str, Any]:
    return {"action": action, "addr": addr, "size": size, "stream": 0, "frames": frames, **more}


def timed(events: Sequence[dict[str, Any]], step_us: int = 1000) -> list[dict[str, Any]]:
    return [{**each, "time_us": 1_700_000_000_000_000 + i * step_us} for i, each in enumerate(events)]


def block(
    size: int, state: str = "inactive", requested: int | None = None, address: int = 0, **more: Any
) -> dict[str, Any]:
    asked = size if requested is None else requested
    return {"size": size, "requested_size": asked, "address": address, "state": state, "frames": [], **more}


def segment(
    *blocks: dict[str, Any], device: int = 0, expandable: bool = False, pool: tuple[int, int] = (0, 0)
) -> dict[str, Any]:
    return {
        "device": device,
        "address": blocks[0]["address"],
        "total_size": sum(each["size"] for each in blocks),
        "stream": 0,
        "segment_type": "large",
        "segment_pool_id": pool,
        "is_expandable": expandable,
        "frames": [],
        "blocks": list(blocks),
    }


def snapshot(*traces: list[dict[str, Any]], segments: Sequence[dict[str, Any]] = (), **more: Any) -> dict[str, Any]:
    return {"segments": list(segments), "device_traces": list(traces), **more}


def dumped(value: object, protocol: int = 4) -> io.BytesIO:
    return io.BytesIO(pickle.dumps(value, protocol=protocol))
