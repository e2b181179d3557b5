"""Inspect GPUs: what they are, what they are doing, and what is wrong with them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from advisor_mcp.arguments import Detail
from advisor_mcp.declaration import Example, Option, Progress, Silent, Tool, View
from advisor_mcp.gpus import open_devices
from advisor_mcp.gpus.names import gpu_id
from advisor_mcp.gpus.recorded import named_by_environment
from advisor_mcp.gpus.report import inspect
from advisor_mcp.gpus.rows import InspectedGpus
from advisor_mcp.gpus.sampling import DEFAULT_S, SHORTEST_S, pause_for

Index = Annotated[int, Field(ge=0, le=4096)]
Indices = Annotated[
    list[Index] | None, Field(min_length=1, description="Indices as nvidia-smi prints them; all when left out")
]
Sample = Annotated[
    float, Field(gt=SHORTEST_S, le=60, description="Seconds to count SM activity, traffic and errors for")
]


def inspect_gpus(
    indices: Indices = None,
    sample_s: Sample = DEFAULT_S,
    detail: Annotated[
        Detail, Field(description="full adds all processes, counters and each finding's grounds")
    ] = "brief",
    progress: Progress | None = None,
) -> InspectedGpus:
    """What this machine's NVIDIA and AMD GPUs are, do, and suffer from. Memory, utilisation against real SM activity, clocks,
    power, heat, throttling, PCIe, NVLink, ECC, Xids, MIG and processes, with findings. Reads only; no GPU is an answer too.
    """
    with open_devices(named_by_environment()) as source:
        return inspect(source, gpu_id, indices, detail, pause=pause_for(sample_s, progress or Silent()))


TOOL = Tool(
    function=inspect_gpus,
    title="Inspect GPUs",
    toolset="performance",
    idempotent=True,
    examples=(
        Example("What GPUs are here, and is anything wrong with them?", {}, needs="this machine's GPUs"),
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
