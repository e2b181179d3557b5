"""The arguments that several tools share, so that a name means the same everywhere."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from advisor_mcp.errors import shown

LARGEST = 2**40  # above any length, count or size in use; keeps products exact and quick


def _not_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"must be a whole number, not {shown(value)}")
    return value


def _bounded(value: int) -> int:
    if value > LARGEST:
        raise ValueError(f"must be at most {LARGEST:,}, not {shown(value)}")
    return value


def _model(value: Any) -> Any:
    if not isinstance(value, str | dict):
        raise ValueError(f"must be a name, a path or a configuration object, not {shown(value)}")
    if isinstance(value, str) and not value.strip():
        raise ValueError("must not be empty; give a known name, a path to a config.json or a configuration object")
    return value


def _recompute(value: Any) -> Any:
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1_000_000
    if not whole and value not in ("none", "selective", "full"):
        raise ValueError(f"must be none, selective, full or a number of blocks, not {shown(value)}")
    return value


Detail = Annotated[Literal["brief", "full"], Field(description="full adds inventories and derivations")]
Model = Annotated[
    str | dict[str, Any],
    BeforeValidator(_model),
    Field(description="Known name, path to a config.json or checkpoint folder, or a config.json object"),
]
Gpu = Annotated[str, Field(min_length=1, description="Accelerator, e.g. h100-sxm, a100-sxm-80gb, mi300x")]
Count = Annotated[int, Field(ge=1), BeforeValidator(_not_boolean), AfterValidator(_bounded)]
GpuCount = Annotated[Count, Field(description="GPUs in all")]
SequenceLength = Annotated[Count, Field(description="Tokens per sequence, prompt and answer")]
Concurrency = Annotated[Count, Field(description="Sequences held at once")]
TensorParallel = Annotated[Count, Field(description="Ranks each layer is split over")]
Dtype = Annotated[Literal["fp32", "bf16", "fp16", "fp8"], Field(description="Number format")]
KvDtype = Annotated[
    Literal["auto", "fp32", "bf16", "fp16", "fp8", "int8"],
    Field(description="Format of caches and states; auto keeps each one's own"),
]
Quantization = Annotated[
    Literal["none", "fp8", "fp8_block", "int8", "gptq", "awq", "mxfp4", "nvfp4", "nf4"],
    Field(description="Weight format"),
]
Recompute = Annotated[
    Literal["none", "selective", "full"] | int,
    BeforeValidator(_recompute),
    Field(description="Activations computed again in the backward pass; a number means that many blocks"),
]
