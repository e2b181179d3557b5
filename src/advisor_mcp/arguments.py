"""The arguments that several tools share, so that a name means the same everywhere."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from advisor_mcp.errors import nearest, shown

FORMATS = ("none", "fp8", "fp8_block", "int8", "gptq", "awq", "mxfp4", "nvfp4", "nf4")
GGUF_TYPES = (
    "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q4_0", "iq4_xs", "iq4_nl", "q5_1", "q5_0", "q4_1", "q3_k_l",
    "q3_k_m", "q3_k_s", "q2_k", "q2_k_s", "iq3_m", "iq3_s", "iq3_xs", "iq3_xxs", "iq2_m", "iq2_s", "iq2_xs", "iq2_xxs",
    "iq1_m", "iq1_s", "mxfp4_moe",
)  # fmt: skip
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


def _quantization(value: Any) -> Any:
    name = value.lower() if isinstance(value, str) else value
    if name in FORMATS or name in GGUF_TYPES:
        return name
    guess = nearest(name, (*FORMATS, *GGUF_TYPES)) if isinstance(name, str) else ""
    raise ValueError(
        f"must be {', '.join(FORMATS)} or a GGUF type ({', '.join(GGUF_TYPES[:8])}, ...), not {shown(value)}{guess}"
    )


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
    str,
    BeforeValidator(_quantization),
    Field(
        description="Weight format: none, fp8, fp8_block, int8, gptq, awq, mxfp4, nvfp4, nf4 or a GGUF type (q4_k_m)"
    ),
]
Recompute = Annotated[
    Literal["none", "selective", "full"] | int,
    BeforeValidator(_recompute),
    Field(description="Activations computed again in the backward pass; a number means that many blocks"),
]
