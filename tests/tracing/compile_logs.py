"""Structured logs of torch.compile as torch writes them under TORCH_TRACE, built entry by entry."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

PATH = "/home/somebody/secret-project/train.py"


class Log:
    """Entries one after another, one millisecond apart."""

    def __init__(self, rank: int | None = None) -> None:
        self.lines: list[str] = []
        self.rank = rank
        self.ms = 0

    def add(
        self, kind: str, metadata: Any, payload: str | None = None, cid: tuple[int, int] | None = None, **more: Any
    ) -> Log:
        body: dict[str, Any] = {kind: metadata, **({"rank": self.rank} if self.rank is not None else {}), **more}
        if cid is not None:
            body |= {"frame_id": cid[0], "frame_compile_id": cid[1], "attempt": more.get("attempt", 0)}
        if payload is not None:
            body["has_payload"] = "0" * 32
        self.ms += 1
        self.lines.append(f"V1120 23:48:42.{self.ms:03}000 25225 torch/_dynamo/utils.py:1] {json.dumps(body)}")
        self.lines += ["\t" + line for line in (payload.split("\n") if payload is not None else ())]
        return self

    def start(self, cid: tuple[int, int], name: str = "step", line: int = 7) -> Log:
        self.add("str", [PATH, 3])
        return self.add("dynamo_start", {"stack": [{"line": line, "name": name, "filename": 3}]}, cid=cid)

    def metrics(self, cid: tuple[int, int], seconds: float = 0.25, name: str | None = "step", **more: Any) -> Log:
        attempt = more.pop("attempt", 0)
        found = {"co_name": name, "co_filename": PATH if name else None, "co_firstlineno": 7 if name else None}
        found |= {"entire_frame_compile_time_s": seconds, "graph_op_count": 3, **more}
        return self.add("compilation_metrics", found, cid=cid, attempt=attempt)

    def reasons(self, cid: tuple[int, int], *texts: str) -> Log:
        payload = texts[0] if len(texts) == 1 else "[\n" + ",\n".join(map(json.dumps, texts)) + "\n]"
        return self.artifact("recompile_reasons", payload, cid)

    def artifact(self, name: str, payload: str, cid: tuple[int, int] | None) -> Log:
        return self.add("artifact", {"name": name, "encoding": "string"}, payload, cid)

    def cache(self, cache: str, state: str, cid: tuple[int, int] = (0, 0), **payload: Any) -> Log:
        return self.artifact(f"{cache}_cache_{state}", json.dumps(payload), cid)

    def chromium(self, name: str, phase: str, ts: float, cid: tuple[int, int] = (0, 0), /, **args: Any) -> Log:
        event = {
            "name": name,
            "ts": ts,
            "args": {**args, "compile_id": f"{cid[0]}/{cid[1]}"},
            "ph": phase,
            "cat": "dynamo_timed",
        }
        return self.add("chromium_event", {}, json.dumps(event, indent=0), cid)

    @property
    def data(self) -> bytes:
        return ("\n".join(self.lines) + "\n").encode()

    @property
    def file(self) -> io.BytesIO:
        return io.BytesIO(self.data)


def files(logs: Iterable[Log]) -> list[io.BytesIO]:
    return [log.file for log in logs]


ITEM_BREAK = f"""Graph break in user code at {PATH}:8
Graph Break Reason: Encountered graph break when attempting to trace CALL: a function call, e.g. f(x, y):

Unsupported Tensor.item() call with capture_scalar_outputs=False
  Explanation: Dynamo does not support tracing `Tensor.item()` with config.capture_scalar_outputs=False.
  Hint: Set `torch._dynamo.config.capture_scalar_outputs = True` to include these operations.

User code traceback:
  File "{PATH}", line 10, in <module>
    g(torch.ones(3))
"""
PRINT_BREAK = f"""Graph break in user code at {PATH}:9
Graph Break Reason: Encountered graph break when attempting to trace CALL: a function call, e.g. f(x, y):

Failed to trace builtin operator
  Explanation: Dynamo does not know how to trace builtin operator `print` with argument types ['str']
  Hint: Please report an issue to PyTorch.
"""
OLD_BREAK = f"Graph break in user code at {PATH}:8\nReason: Unsupported: call_method TensorVariable() item\nUser code traceback:\n"
