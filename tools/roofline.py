"""roofline: what bounds an operation or a whole model on a device, and the least time it can take."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema
from pydantic.fields import FieldInfo

from advisor_mcp import arguments
from advisor_mcp.declaration import Example, Tool
from advisor_mcp.errors import UsageError
from advisor_mcp.formulas.ceilings import Use, read_ceilings
from advisor_mcp.formulas.roofline_answers import (
    Asked,
    Attention,
    Matmul,
    Rates,
    RooflineAnswer,
    of_attention,
    of_matmul,
    of_model,
)
from advisor_mcp.formulas.steps import Phase, Workload
from advisor_mcp.results import Row


def _brief(row: type[Row]) -> dict[str, Any]:
    """An object's schema as a model need see it: its names, and what is optional with its default; values are checked in full."""
    names = ", ".join(name + _default(part) for name, part in row.model_fields.items())
    return {"type": "object", "description": f"{{{names}}}"}


def _default(part: FieldInfo) -> str:
    if part.is_required():
        return ""
    return "?" if part.default is None else f"={json.dumps(part.default)}"


def roofline(
    gpu: Annotated[arguments.Gpu, Field(description="E.g. h100-sxm, mi300x")],
    matmul: Annotated[Matmul | None, WithJsonSchema(_brief(Matmul))] = None,
    attention: Annotated[Attention | None, WithJsonSchema(_brief(Attention))] = None,
    model: Annotated[arguments.Model, Field(description="Name, path or configuration")] | None = None,
    phase: Annotated[Phase, Field(description="Of the model")] = "decode",
    sequence_length: arguments.SequenceLength = 8192,
    concurrency: Annotated[arguments.Count | None, Field(description="Sequences at once")] = None,
    micro_batch_size: Annotated[arguments.Count | None, Field(description="In training")] = None,
    tensor_parallel: arguments.TensorParallel = 1,
    dtype: arguments.Dtype | None = None,
    quantization: Annotated[arguments.Quantization, Field(description="Of weights: fp8, awq, nvfp4, q4_k_m, ...")]
    | None = None,
    kv_dtype: Annotated[arguments.KvDtype, Field(description="Of caches")] = "auto",
    ceilings: Annotated[Use, Field(description="auto: as measured here")] = "auto",
    detail: arguments.Detail = "brief",
) -> RooflineAnswer:
    """What bounds a matmul, attention or model on a GPU, and its least time. Gives FLOPs, bytes, intensity, tile and wave
    losses, alignment, the batch that leaves the memory roof.
    """
    if quantization not in (None, "none") and model is None:
        raise UsageError("quantization is for a model; give the dtype of a single operation")
    found = read_ceilings(gpu, ceilings)
    rates = Rates(found, dtype or "bf16")
    match matmul, attention, model:
        case Matmul(), None, None:
            return of_matmul(rates, matmul, full=detail == "full")
        case None, Attention(), None:
            return of_attention(rates, attention, None if kv_dtype == "auto" else kv_dtype)
        case None, None, str() | dict():
            work = Workload(phase, sequence_length, _batch(phase, concurrency, micro_batch_size))
            asked = Asked(model, work, tensor_parallel, dtype, quantization, kv_dtype)
            return of_model(found, asked, full=detail == "full")
        case _:
            raise UsageError("give exactly one of matmul, attention and model")


def _batch(phase: Phase, concurrency: int | None, micro_batch_size: int | None) -> int:
    given, other = (micro_batch_size, concurrency) if phase == "training" else (concurrency, micro_batch_size)
    if other is not None:
        wanted, unwanted = (
            ("micro_batch_size", "concurrency") if phase == "training" else ("concurrency", "micro_batch_size")
        )
        raise UsageError(f"phase {phase} takes {wanted}, not {unwanted}")
    return 1 if given is None else given


TOOL = Tool(
    function=roofline,
    title="Roofline",
    toolset="performance",
    positional=("gpu",),
    examples=(
        Example(
            "Is an 8192 x 8192 x 8192 bf16 product compute bound on an H100, and how fast can it be?",
            {"gpu": "h100-sxm", "matmul": {"m": 8192, "n": 8192, "k": 8192}},
            {
                "flops": 1_099_511_627_776,
                "bytes": 402_653_184,
                "bound": "compute",
                "attainable_ms": 1.111,
            },  # 1.0995e12 / 989.4e12
        ),
        Example(
            "How many tokens per second can Llama 3.1 8B decode at most on one H100 at 8k context?",
            {"gpu": "h100-sxm", "model": "llama-3.1-8b", "phase": "decode", "sequence_length": 8192},
            {"bound": "memory", "attainable_ms": 4.801},  # (7,504,924,672 x 2 + 1,073,741,824) bytes / 3.35e12
        ),
    ),
)
