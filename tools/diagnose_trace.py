"""Diagnose a trace: where the time went, what the bottleneck is, and what mending it can save at most."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from advisor_mcp.arguments import Detail
from advisor_mcp.declaration import BRIEF_BYTES, FULL_BYTES, Example, Progress, Silent, Tool, View
from advisor_mcp.tracing.reading import diagnosed
from advisor_mcp.tracing.report import DiagnosedTrace, report


def _listed(given: Any) -> Any:
    """One path as a list of one: models often leave the brackets out."""
    return [given] if isinstance(given, str) else given


Path = Annotated[str, Field(min_length=1, max_length=4096)]
Traces = Annotated[
    list[Path],
    Field(min_length=1, max_length=1024, description="Paths of files or folders; several are the ranks of one job"),
    BeforeValidator(_listed),
]


def diagnose_trace(
    trace: Traces,
    baseline: Annotated[
        list[Path] | None,
        Field(min_length=1, max_length=1024, description="The trace before a change: says what moved since"),
        BeforeValidator(_listed),
    ] = None,
    detail: Annotated[Detail, Field(description="full adds formulas, steps, kernels, what else it could be")] = "brief",
    progress: Progress | None = None,
) -> DiagnosedTrace:
    """Where the time of a profiler trace went, and what fixing it can save at most. Reads PyTorch profiler JSON (.gz), Nsight
    Systems sqlite, allocator snapshots, memory timelines, TORCH_TRACE logs, of any size. Says first how far a trace can be trusted.
    """
    watched = progress or Silent()
    found = diagnosed(trace, watched)
    before = diagnosed(baseline, watched) if baseline else None
    return report(found, detail, FULL_BYTES if detail == "full" else BRIEF_BYTES, before)


TOOL = Tool(
    function=diagnose_trace,
    title="Trace diagnosis",
    toolset="performance",
    positional=("trace",),
    views={
        "html": View(
            function="advisor_mcp.tracing.page.view:write",
            description="Write one self-contained page with the time split, the longest step's timeline, kernels and findings",
            metavar="OUT",
        )
    },
    examples=(
        Example(
            question="Why is my GPU idle?",
            arguments={"trace": ["docs/examples/trace/step.json"]},
            answer={"findings.0.name": "dataloader-stall", "devices.0.idle_percent": 30.5},
        ),
        Example(
            "Did it help, and what moved?",
            {"trace": ["after.json.gz"], "baseline": ["before.json.gz"]},
            needs="two traces",
        ),
    ),
)
