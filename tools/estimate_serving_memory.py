"""estimate_serving_memory: what serving a model takes per GPU, whether it fits, and for how many users."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from advisor_mcp import arguments
from advisor_mcp.anatomy.reading import Model, read_model
from advisor_mcp.declaration import Example, Tool
from advisor_mcp.errors import UsageError
from advisor_mcp.formulas.devices import Device, read_device
from advisor_mcp.formulas.evidence import evidence
from advisor_mcp.formulas.precision import WeightFormat, requested_format
from advisor_mcp.formulas.serving import Capacity, ServingMemory, capacity, serving_memory
from advisor_mcp.formulas.stored import format_name
from advisor_mcp.results import Answer, Derivation, Interval, Row, gib

STEP_TOKENS = 8192
UTILIZATION = 0.9


class Fit(Row):
    kv_tokens: int = Field(description="Tokens of sequences of this length that fit, over one replica")
    max_concurrency: int = Field(description="Sequences of this length held at once, over one replica")
    max_sequence_length: int = Field(description="Longest sequence for the asked concurrency, within the model's limit")


class ServingEstimate(Answer):
    model: str
    gpu: str | None = None
    gpu_count: int | None = None
    tensor_parallel: int
    replicas: int = Field(description="Copies of the model on the GPUs given: gpu_count / tensor_parallel")
    weight_format: str
    weights_gib: float = Field(description="Per GPU, an exact count")
    kv_gib: float = Field(description="Per GPU, caches of all sequences, an exact count")
    state_gib: float = Field(description="Per GPU, state that does not grow with the length")
    workspace_gib: float = Field(description="Per GPU, activations of one step and its logits; a prediction")
    workspace_gib_range: Interval
    total_gib: float = Field(description="Per GPU; CUDA context and communication buffers are outside it")
    total_gib_range: Interval
    gpu_memory_gib: float | None = Field(default=None, description="What the driver reports for one GPU")
    budget_gib: float | None = Field(default=None, description="gpu_memory_gib x gpu_memory_utilization")
    fits: bool | None = Field(default=None, description="Whether total_gib is within budget_gib")
    capacity: Fit | None = None


def estimate_serving_memory(
    model: arguments.Model,
    gpu: arguments.Gpu | None = None,
    gpu_count: arguments.GpuCount | None = None,
    tensor_parallel: arguments.TensorParallel | None = None,
    sequence_length: arguments.SequenceLength = 8192,
    concurrency: arguments.Concurrency = 1,
    dtype: arguments.Dtype | None = None,
    quantization: arguments.Quantization | None = None,
    kv_dtype: arguments.KvDtype = "auto",
    gpu_memory_utilization: Annotated[
        float, Field(gt=0, le=1, description="Share of each GPU the engine may use")
    ] = UTILIZATION,
    step_tokens: Annotated[arguments.Count, Field(description="Most tokens of one forward pass")] = STEP_TOKENS,
    detail: arguments.Detail = "brief",
) -> ServingEstimate:
    """GPU memory to serve a model: weights, KV cache, workspace per GPU. Says whether it fits, how many sequences or
    tokens fit, and the longest sequence, for tensor parallelism and any weight or cache format.
    """
    found = read_model(model)
    device = read_device(gpu) if gpu else None
    ranks, replicas = _layout(gpu_count, tensor_parallel)
    fmt = requested_format(found.architecture, dtype, quantization)
    memory = serving_memory(found.architecture, fmt, kv_dtype, sequence_length, concurrency, ranks, step_tokens)
    total, workspace = evidence("serving-memory-total"), evidence("serving-memory-workspace")
    answer = ServingEstimate(
        summary="",
        model=found.name,
        gpu=device.id if device else None,
        gpu_count=ranks * replicas if device else None,
        tensor_parallel=ranks,
        replicas=replicas,
        weight_format=format_name(fmt),
        weights_gib=gib(memory.weights),
        kv_gib=gib(memory.kv),
        state_gib=gib(memory.state),
        workspace_gib=gib(memory.workspace),
        workspace_gib_range=_interval(workspace.interval(memory.workspace)),
        total_gib=gib(memory.total),
        total_gib_range=_interval(total.interval(memory.total)),
        assumptions=_assumptions(
            found, device, fmt, gpu_count, tensor_parallel, ranks, min(step_tokens, sequence_length * concurrency)
        ),
        sources=[*found.sources, *(device.sources if device else ()), *total.sources],
        next_measurement="start the engine once and compare its logged weight and KV-cache sizes with weights_gib and capacity.kv_tokens",
        derivation=_derivation(memory, sequence_length, concurrency) if detail == "full" else None,
    )
    answer.assumptions.append(total.sentence)
    if device:
        _judge(answer, found, device, memory, gpu_memory_utilization, sequence_length, concurrency)
    answer.summary = _summary(answer, sequence_length, concurrency)
    limit = found.architecture.max_sequence_length
    if limit and sequence_length > limit:
        answer.warnings.append(f"{sequence_length:,} tokens exceed the {limit:,} that the configuration is made for")
    answer.warnings.extend(found.architecture.not_described)
    return answer


def _layout(gpu_count: int | None, tensor_parallel: int | None) -> tuple[int, int]:
    """Ranks per replica and replicas: all GPUs form one replica unless tensor_parallel says otherwise."""
    ranks = tensor_parallel or gpu_count or 1
    count = gpu_count or ranks
    if count % ranks:
        raise UsageError(
            f"tensor_parallel {ranks} does not divide gpu_count {count}; each replica takes tensor_parallel GPUs"
        )
    return ranks, count // ranks


def _interval(bounds: tuple[float, float]) -> Interval:
    return gib(bounds[0]), gib(bounds[1])


def _judge(
    answer: ServingEstimate,
    found: Model,
    device: Device,
    memory: ServingMemory,
    utilization: float,
    sequence_length: int,
    concurrency: int,
) -> None:
    budget = device.memory_bytes * utilization
    answer.gpu_memory_gib, answer.budget_gib = gib(device.memory_bytes), gib(budget)
    answer.fits = memory.total <= budget
    room: Capacity = capacity(memory, found.architecture, budget, sequence_length, concurrency)
    answer.capacity = Fit(
        kv_tokens=room.kv_tokens, max_concurrency=room.max_concurrency, max_sequence_length=room.max_sequence_length
    )
    low, high = answer.total_gib_range
    if low <= answer.budget_gib < high:
        answer.warnings.append(
            f"the budget of {answer.budget_gib} GiB lies inside the range of the total: measure before you rely on it"
        )


def _summary(answer: ServingEstimate, sequence_length: int, concurrency: int) -> str:
    need = f"{answer.total_gib} GiB per GPU for {_sequences(concurrency)} of {sequence_length:,} tokens"
    layout = f"{answer.weight_format}, tensor parallel {answer.tensor_parallel}"
    if answer.capacity is None or answer.budget_gib is None:
        return f"{answer.model} ({layout}) needs {need}."
    if answer.fits:
        copies = f" on each of {answer.replicas} replicas" if answer.replicas > 1 else ""
        return (
            f"{answer.model} ({layout}) fits on {answer.gpu_count} x {answer.gpu}: {need} of {answer.budget_gib} GiB usable; "
            f"up to {answer.capacity.max_concurrency} such sequences at once{copies}."
        )
    return f"{answer.model} ({layout}) does not fit on {answer.gpu_count} x {answer.gpu}: {need}, {answer.budget_gib} GiB usable."


def _sequences(count: int) -> str:
    return "one sequence" if count == 1 else f"{count:,} sequences"


def _assumptions(
    found: Model,
    device: Device | None,
    fmt: WeightFormat,
    gpu_count: int | None,
    tensor_parallel: int | None,
    ranks: int,
    step: int,
) -> list[str]:
    notes = [*found.assumptions, *found.architecture.notes, *(device.assumptions if device else ())]
    if tensor_parallel is None and gpu_count and gpu_count > 1:
        notes.append(f"tensor_parallel is not given: one replica over all {ranks} GPUs")
    if found.architecture.dtype is None and not fmt.declared:
        notes.append(f"the configuration names no dtype: weights are taken as {fmt.kept_dtype}")
    if fmt.note:
        notes.append(fmt.note)
    notes.append(
        f"engine-neutral: caches sized to the token, {step:,} tokens per forward pass, fused attention, logits for last tokens only; "
        "no CUDA context, graphs, communication buffers or block padding"
    )
    return notes


def _derivation(memory: ServingMemory, sequence_length: int, concurrency: int) -> list[Derivation]:
    return [
        Derivation(
            figure="weights_gib",
            formula="sum over tensors of elements per rank x bytes of their format",
            inputs={"bytes": memory.weights},
        ),
        Derivation(
            figure="kv_gib",
            formula="concurrency x sum over groups of min(S, cap_tokens) x bytes_per_token on one rank",
            inputs={"S": sequence_length, "concurrency": concurrency, "bytes": memory.kv}
            | {f"{g.kind}_bytes_per_token": g.bytes_per_token for g in memory.groups},
        ),
        Derivation(
            figure="workspace_gib",
            formula="largest sum of live activations over the operations of one layer + concurrency x vocabulary per rank x 6 bytes",
            inputs={"activation_bytes": memory.activations, "logits_bytes": memory.logits},
        ),
    ]


TOOL = Tool(
    function=estimate_serving_memory,
    title="Estimate serving memory",
    toolset="sizing",
    positional=("model",),
    examples=(
        Example(
            "Can I serve Llama-3.1-70B at 32k context on 4 H100s, and with how many users?",
            {"model": "llama-3.1-70b", "gpu": "h100-sxm", "gpu_count": 4, "sequence_length": 32768},
            {
                "weights_gib": 32.86,  # 70,552,387,584 x 2 bytes / 4, and all 1,318,912 of the norms on every rank
                "kv_gib": 2.5,  # 327,680 bytes per token x 32,768 / 4
                "fits": True,
            },
        ),
        Example(
            "What does an fp8 Mixtral 8x7B need on two A100 80GB with 16 users at 8k?",
            {"model": "mixtral-8x7b", "gpu": "a100-sxm-80gb", "gpu_count": 2, "concurrency": 16, "quantization": "fp8"},
            {"kv_gib": 8.0, "fits": True},  # 16 x 8,192 x 131,072 bytes / 2
        ),
    ),
)
