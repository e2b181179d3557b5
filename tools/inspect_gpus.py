"""Inspect GPUs: what they are, what they are doing, and what is wrong with them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from advisor_mcp.arguments import Detail
from advisor_mcp.declaration import Example, Option, Progress, Tool, View
from advisor_mcp.errors import UsageError
from advisor_mcp.formulas.devices import id_of
from advisor_mcp.gpus import open_devices
from advisor_mcp.gpus.recorded import named_by_environment
from advisor_mcp.gpus.report import inspect
from advisor_mcp.gpus.rows import InspectedGpus
from advisor_mcp.gpus.sampling import DEFAULT_S, SHORTEST_S, pause_for

Index = Annotated[int, Field(ge=0, le=4096)]
Indices = Annotated[
    list[Index] | None, Field(min_length=1, description="Indices as nvidia-smi prints them; all when left out")
]
Sample = Annotated[
    float | None,
    Field(
        gt=SHORTEST_S,
        le=60,
        description=f"Seconds to count SM activity, traffic and errors for; {DEFAULT_S} when left out",
    ),
]
PrometheusUrl = Annotated[
    str | None,
    Field(
        max_length=2_000,
        description="Ask a fleet instead: URL of a Prometheus with DCGM or AMD exporters, or 'default'",
    ),
]
Window = Annotated[
    str | None, Field(max_length=20, description="How far a fleet is looked back on: 30m, 1h, 7d; 1h when left out")
]


def inspect_gpus(
    progress: Progress,
    indices: Indices = None,
    sample_s: Sample = None,
    prometheus: PrometheusUrl = None,
    window: Window = None,
    detail: Annotated[Detail, Field(description="full adds all processes, counters, each finding's grounds")] = "brief",
) -> InspectedGpus:
    """What this machine's NVIDIA and AMD GPUs are, do, and suffer from. Memory, utilisation against real SM activity, clocks,
    power, heat, throttling, PCIe, NVLink, ECC, Xids, MIG and processes, with findings. Reads only; no GPU is an answer too.
    With prometheus: a fleet's idle GPUs by job, wasted GPU-hours, stragglers, throttling, ECC and Xid events.
    """
    if prometheus is not None:
        return _fleet(prometheus, window, indices, sample_s, detail, progress)
    if window is not None:
        raise UsageError("window is for a fleet; give it with prometheus, or leave it out")
    with open_devices(named_by_environment()) as source:
        return inspect(source, id_of, indices, detail, pause=pause_for(sample_s or DEFAULT_S, progress))


def _fleet(
    url: str,
    window: str | None,
    indices: list[int] | None,
    sample_s: float | None,
    detail: Detail,
    progress: Progress,
) -> InspectedGpus:
    from advisor_mcp.gpus import fleet

    if indices is not None:
        raise UsageError("indices name GPUs of this machine; leave them out with prometheus")
    if sample_s is not None:
        raise UsageError("sample_s is for GPUs of this machine; leave it out with prometheus")
    return fleet.inspect(url, window or "1h", detail, progress)


TOOL = Tool(
    function=inspect_gpus,
    title="Inspect GPUs",
    toolset="performance",
    idempotent=True,
    open_world=True,
    examples=(
        Example("What GPUs are here, and is anything wrong with them?", {}, needs="this machine's GPUs"),
        Example(
            "Which jobs of the cluster waste GPUs, and is any GPU failing?",
            {"prometheus": "http://localhost:9090", "window": "1h"},
            needs="a Prometheus that scrapes GPU exporters",
        ),
        Example("Who holds memory on GPU 0?", {"indices": [0], "detail": "full"}, needs="an NVIDIA or AMD GPU"),
        Example("Do the SMs really work, over five seconds?", {"sample_s": 5}, needs="a GPU of Hopper or later"),
    ),
    views={
        "watch": View(
            function="advisor_mcp.gpus.watch:watch",
            description="Keep showing the GPUs, their history and findings; q ends it",
            metavar="SECONDS",
            default="1",
            options={"count": Option(metavar="N", description="End after N refreshes")},
        )
    },
)
