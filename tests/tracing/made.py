"""Traces made for tests: small, of known times, written as the PyTorch profiler writes them. Times are in microseconds."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, cast

from advisor_mcp.tracing.case import Case, cases
from advisor_mcp.tracing.diagnosis import Diagnosis, diagnose
from advisor_mcp.tracing.kineto import read_kineto
from advisor_mcp.tracing.timeline import Timeline

H100 = {"id": 0, "name": "NVIDIA H100 80GB HBM3", "computeMajor": 9, "computeMinor": 0, "numSms": 132}
V100 = {"id": 0, "name": "Tesla V100-SXM2-32GB", "computeMajor": 7, "computeMinor": 0, "numSms": 80}


@dataclass
class Made:
    """A trace under construction; `launch` of a device event is when the host called, None for no record of it."""

    head: dict[str, Any] = field(default_factory=lambda: {"schemaVersion": 1, "deviceProperties": [H100]})
    events: list[dict[str, Any]] = field(default_factory=list)
    correlation: int = 0

    def event(
        self, cat: str, name: str, start: float, dur: float, args: Any = None, tid: Any = 1, pid: Any = 100
    ) -> Made:
        """Any event."""
        made = {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid, "ts": start, "dur": dur}
        self.events.append(made | ({"args": args} if args is not None else {}))
        return self

    def kernel(
        self, name: str, start: float, dur: float, launch: float | None = None, *, stream: int = 7, device: int = 0,
        cat: str = "kernel", call: str = "cudaLaunchKernel", call_dur: float = 2, **args: Any,
    ) -> Made:  # fmt: skip
        """A kernel, or with `cat` a copy or a set, and the host's call."""
        self.correlation += 1
        if launch is not None:
            self.event("cuda_runtime", call, launch, call_dur, {"correlation": self.correlation})
        held = {"device": device, "stream": stream, "correlation": self.correlation, **args}
        return self.event(cat, name, start, dur, held, tid=stream, pid=device)

    def copy(
        self,
        start: float,
        dur: float,
        launch: float | None = None,
        name: str = "Memcpy HtoD (Pinned -> Device)",
        **args: Any,
    ) -> Made:
        """A copy."""
        return self.kernel(name, start, dur, launch, cat="gpu_memcpy", call=args.pop("call", "cudaMemcpyAsync"), **args)

    def call(self, name: str, start: float, dur: float) -> Made:
        """A call of the CUDA API that launches nothing."""
        return self.event("cuda_runtime", name, start, dur, {})

    def operator(self, name: str, start: float, dur: float, dims: Any = None, types: Any = None) -> Made:
        """An operator, with its shapes."""
        args = {} if dims is None else {"Input Dims": dims, "Input type": types}
        return self.event("cpu_op", name, start, dur, args)

    def range(self, name: str, start: float, dur: float) -> Made:
        """A user's range, such as a step."""
        return self.event("user_annotation", name, start, dur)

    def steps(self, *bounds: float) -> Made:
        """Profiler steps between the bounds."""
        for number, (start, end) in enumerate(itertools.pairwise(bounds)):
            self.range(f"ProfilerStep#{number}", start, end - start)
        return self

    def text(self) -> str:
        """The trace as JSON."""
        return json.dumps({**self.head, "traceEvents": self.events})

    def write(self, path: Path) -> Path:
        """The trace as a file."""
        path.write_text(self.text(), encoding="utf-8")
        return path

    def timeline(self, name: str = "made") -> Timeline:
        """The trace as it is read."""
        return read_kineto(cast(Any, BytesIO(self.text().encode())), name)

    def case(self) -> Case:
        """The first device of the trace."""
        return cases(self.timeline())[0]

    def diagnosis(self) -> Diagnosis:
        """What is found in the trace."""
        return diagnose([self.timeline()])

    def found(self) -> dict[str, float]:
        """What is found in the trace: the measured value by name."""
        return {one.kind.name: one.seen.measured for one in self.diagnosis().findings}

    def doubts(self) -> list[str]:
        """The names of the trust gates that the trace does not pass, but for its few kernels: made traces are small."""
        return [gate.kind.name for gate in self.diagnosis().gates if gate.kind.name != "few-kernels"]
