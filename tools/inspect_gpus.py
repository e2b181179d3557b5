"""Inspect GPUs: what they are, what they are doing, and what is wrong with them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from advisor_mcp.arguments import Detail
from advisor_mcp.declaration import BRIEF_BYTES, Example, Tool
from advisor_mcp.formulas.devices import id_of
from advisor_mcp.gpus import open_devices
from advisor_mcp.gpus.recorded import named_by_environment
from advisor_mcp.gpus.report import InspectedGpus, inspect

Index = Annotated[int, Field(ge=0, le=4096)]
Indices = Annotated[
    list[Index] | None, Field(min_length=1, description="Indices as nvidia-smi prints them; all when left out")
]


def inspect_gpus(
    indices: Indices = None,
    detail: Annotated[Detail, Field(description="full adds all processes, clocks and error counters")] = "brief",
) -> InspectedGpus:
    """What this machine's NVIDIA GPUs are, do, and suffer from. Memory, utilisation, clocks, power, heat, throttling, PCIe,
    ECC, MIG and processes, with what is wrong in words. Reads only; a machine without a GPU is an answer.
    """
    with open_devices(named_by_environment()) as source:
        return inspect(source, id_of, indices, detail, BRIEF_BYTES)


TOOL = Tool(
    function=inspect_gpus,
    title="Inspect GPUs",
    toolset="performance",
    idempotent=True,
    examples=(
        Example("What GPUs are here, and is anything wrong with them?", {}, needs="this machine's GPUs"),
        Example("Who holds memory on GPU 0?", {"indices": [0], "detail": "full"}, needs="an NVIDIA GPU"),
    ),
)
