"""estimate_serving_memory: what serving a model takes per GPU, whether it fits, and for how many users."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from advisor_mcp import arguments
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.reading import Model, read_model
from advisor_mcp.declaration import Example, Tool
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.devices import Device, read_device
from advisor_mcp.formulas.evidence import evidence
from advisor_mcp.formulas.precision import WeightFormat, requested_format
from advisor_mcp.formulas.serving import (
    USUAL_RANKS,
    Capacity,
    ServingMemory,
    capacity,
    divides,
    largest_tensor_parallel,
    serving_memory,
)
from advisor_mcp.formulas.stored import format_name
from advisor_mcp.results import Answer, Derivation, Interval, Row, gib

STEP_TOKENS = 8192
UTILIZATION = 0.9


class Fit(Row):
    kv_tokens: int = Field(description="Tokens of sequences of this length that fit, over all replicas")
    kv_tokens_range: tuple[int, int]
    max_concurrency: int = Field(description="Sequences of this length held at once, over all replicas")
    max_concurrency_range: tuple[int, int]
    max_sequence_length: int = Field(description="Longest sequence for the asked concurrency, within the model's limit")


class ServingEstimate(Answer):
    model: str
    gpu: str | None = None
    gpu_count: int | None = None
    tensor_parallel: int
    replicas: int = Field(description="Copies of the model on the GPUs given: gpu_count / tensor_parallel")
    weight_format: str
    weights_gib: float = Field(description="Per GPU, an exact count")
    kv_gib: float = Field(description="Per GPU, caches of its share of the sequences, an exact count")
    state_gib: float = Field(description="Per GPU, state that does not grow with the length")
    workspace_gib: float = Field(description="Per GPU, activations of one step and its logits; a prediction")
    workspace_gib_range: Interval
    total_gib: float = Field(description="Per GPU; CUDA context and communication buffers are outside it")
    total_gib_range: Interval
    gpu_memory_gib: float | None = Field(default=None, description="What the driver reports for one GPU")
    budget_gib: float | None = Field(default=None, description="gpu_memory_gib x gpu_memory_utilization")
    fits: bool | None = Field(default=None, description="Whether total_gib is within budget_gib")
    capacity: Fit | None = None
    would_fit: list[str] | None = Field(default=None, description="Changes under which it fits, where it does not")


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
    architecture = found.architecture
    device = read_device(gpu) if gpu else None
    ranks, replicas = _layout(architecture, gpu_count, tensor_parallel)
    if found.checkpoint and dtype is None and quantization is None:
        _refuse_unknown_format(found)
    fmt = requested_format(architecture, dtype, quantization)
    asked = _Asked(architecture, fmt, kv_dtype, sequence_length, -(-concurrency // replicas), step_tokens)
    memory = asked.memory(ranks)
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
        assumptions=[*_assumptions(found, device, asked, gpu_count, tensor_parallel, ranks, replicas), total.sentence],
        warnings=[*_warnings(architecture, fmt, device, sequence_length), *_beyond_evidence(ranks, concurrency)],
        sources=[*found.sources, *(device.sources if device else ()), *total.sources],
        derivation=_derivation(memory, asked) if detail == "full" else None,
    )
    if device:
        _judge(answer, asked, memory, device, gpu_memory_utilization)
    answer.summary = _summary(answer, concurrency, sequence_length)
    return answer


PLAIN_FORMATS = {"F64", "F32", "F16", "BF16"}


def _refuse_unknown_format(found: Model) -> None:
    """Weight files in a format that no configuration declares (GGUF) are not taken for bf16."""
    formats = set(found.checkpoint.elements_by_format if found.checkpoint else ()) - PLAIN_FORMATS
    if formats and found.architecture.quantization is None:
        names = ", ".join(sorted(formats)[:4])
        raise CannotAnswer(
            f"{found.name} stores {names}, which its configuration does not declare; name the format to size it in",
            needs=["quantization, e.g. q4_k_m"],
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one replica has to hold, whatever it is split over."""

    architecture: Architecture
    fmt: WeightFormat
    kv_dtype: str
    sequence_length: int
    sequences: int
    step_tokens: int

    def memory(self, ranks: int) -> ServingMemory:
        return serving_memory(
            self.architecture, self.fmt, self.kv_dtype, self.sequence_length, self.sequences, ranks, self.step_tokens
        )

    def room(self, memory: ServingMemory, budget: float) -> Capacity:
        return capacity(memory, self.architecture, budget, self.sequence_length, self.sequences)


def _layout(architecture: Architecture, gpu_count: int | None, tensor_parallel: int | None) -> tuple[int, int]:
    """Ranks per replica and replicas: one replica over as many of the GPUs as divide the model, unless told otherwise."""
    ranks = tensor_parallel or (largest_tensor_parallel(architecture, gpu_count) if gpu_count else 1)
    count = gpu_count or ranks
    if count % ranks:
        raise UsageError(
            f"tensor_parallel {ranks} does not divide gpu_count {count}; each replica takes tensor_parallel GPUs"
        )
    return ranks, count // ranks


def _interval(bounds: tuple[float, float]) -> Interval:
    return gib(bounds[0]), gib(bounds[1])


def _judge(answer: ServingEstimate, asked: _Asked, memory: ServingMemory, device: Device, utilization: float) -> None:
    """Set the verdict, the capacity with its range, and where it does not fit what would."""
    budget = device.memory_bytes * utilization
    answer.gpu_memory_gib, answer.budget_gib = gib(device.memory_bytes), gib(budget)
    answer.fits = memory.total <= budget
    found = evidence("serving-memory-total")
    least, room, most = (asked.room(memory, budget / ratio) for ratio in (found.high, 1, found.low))
    copies = answer.replicas
    answer.capacity = Fit(
        kv_tokens=copies * room.kv_tokens,
        kv_tokens_range=(copies * least.kv_tokens, copies * most.kv_tokens),
        max_concurrency=copies * room.max_concurrency,
        max_concurrency_range=(copies * least.max_concurrency, copies * most.max_concurrency),
        max_sequence_length=room.max_sequence_length,
    )
    low, high = answer.total_gib_range
    if low <= answer.budget_gib < high:
        answer.warnings.append(
            f"the budget of {answer.budget_gib} GiB lies inside the range of the total: measure before you rely on it"
        )
    if answer.fits:
        answer.next_measurement = (
            "start the engine once and compare its logged weight and KV-cache sizes with weights_gib and kv_tokens"
        )
    else:
        answer.would_fit = _would_fit(asked, answer.tensor_parallel, budget, device)


def _would_fit(asked: _Asked, ranks: int, budget: float, device: Device) -> list[str]:
    """At most three changes, each alone, under which one replica fits: more ranks, a smaller format, fewer sequences."""
    found = []
    for more in USUAL_RANKS:
        if more > ranks and divides(asked.architecture, more) and asked.memory(more).total <= budget:
            found.append(f"tensor_parallel {more} ({more} x {device.id} a replica)")
            break
    if asked.fmt.quantization == "none":
        for name in ("fp8", "awq"):
            smaller = replace(asked, fmt=requested_format(asked.architecture, None, name))
            if smaller.memory(ranks).total <= budget:
                found.append(f"quantization {name}")
                break
    fewer = asked.room(asked.memory(ranks), budget).max_concurrency
    if 0 < fewer < asked.sequences:
        found.append(f"concurrency {fewer:,} a replica")
    return found


def _summary(answer: ServingEstimate, concurrency: int, sequence_length: int) -> str:
    held = -(-concurrency // answer.replicas)
    share = f" ({_sequences(held)} a replica)" if answer.replicas > 1 else ""
    need = f"{answer.total_gib:,} GiB per GPU for {_sequences(concurrency)} of {sequence_length:,} tokens{share}"
    layout = f"{answer.weight_format}, tensor parallel {answer.tensor_parallel}"
    layout += f" x {answer.replicas} replicas" if answer.replicas > 1 else ""
    if answer.capacity is None or answer.budget_gib is None:
        return f"{answer.model} as {layout} needs {need}."
    on = f"{answer.gpu_count:,} x {answer.gpu}"
    if answer.fits:
        most = _sequences(answer.capacity.max_concurrency)
        usable = f"of {answer.budget_gib:,} GiB usable; at most {most} of that length at once"
        return f"{answer.model} as {layout} fits on {on}: {need}, {usable}."
    instead = f" It would fit with {' or '.join(answer.would_fit)}." if answer.would_fit else ""
    return f"{answer.model} as {layout} does not fit on {on}: {need}, {answer.budget_gib:,} GiB usable.{instead}"


def _sequences(count: int) -> str:
    return "one sequence" if count == 1 else f"{count:,} sequences"


def _assumptions(
    found: Model,
    device: Device | None,
    asked: _Asked,
    gpu_count: int | None,
    tensor_parallel: int | None,
    ranks: int,
    replicas: int,
) -> list[str]:
    notes = [*found.assumptions, *found.architecture.notes, *(device.assumptions if device else ())]
    if tensor_parallel is None and gpu_count and gpu_count > 1:
        each = (
            "one replica over all of them"
            if replicas == 1
            else f"{replicas} replicas, each over as many as divide the model"
        )
        notes.append(f"tensor_parallel is not given: {ranks}, {each}")
    if found.architecture.dtype is None and not asked.fmt.declared:
        notes.append(f"the configuration names no dtype: weights are taken as {asked.fmt.kept_dtype}")
    if asked.fmt.note:
        notes.append(asked.fmt.note)
    step = min(asked.step_tokens, asked.sequence_length * asked.sequences)
    notes.append(
        f"engine-neutral: caches sized to the token, {step:,} tokens per forward pass, fused attention, logits for last tokens only; "
        "no CUDA context, graphs, communication buffers or block padding"
    )
    return notes


# what a format's products need of a device to run in that format; without it weights are stored so and computed with in bf16
ARITHMETIC = {"fp8": "fp8", "fp8_block": "fp8", "nvfp4": "fp4", "mxfp4": "fp4"}


def _warnings(architecture: Architecture, fmt: WeightFormat, device: Device | None, sequence_length: int) -> list[str]:
    found = list(architecture.not_described)
    needed = ARITHMETIC.get(fmt.quantization)
    if device and needed and needed not in device.dense_tflops:
        found.append(f"{device.id} has no {needed} arithmetic: weights stored so are computed with in a wider format")
    limit = architecture.max_sequence_length
    if limit and sequence_length > limit:
        found.append(f"{sequence_length:,} tokens exceed the {limit:,} that the configuration is made for")
    return found


def _beyond_evidence(ranks: int, concurrency: int) -> list[str]:
    if ranks == 1 and concurrency == 1:
        return []
    return [
        "the ranges rest on one GPU and one sequence at a time; for other layouts and batches they are an extrapolation"
    ]


def _derivation(memory: ServingMemory, asked: _Asked) -> list[Derivation]:
    return [
        Derivation(
            figure="weights_gib",
            formula="sum over tensors of elements per rank x bytes of their format",
            inputs={"bytes": memory.weights},
        ),
        Derivation(
            figure="kv_gib",
            formula="sequences x sum over groups of min(S, cap_tokens) x bytes_per_token on one rank",
            inputs={"S": asked.sequence_length, "sequences": asked.sequences, "bytes": memory.kv}
            | {f"{g.kind}_bytes_per_token": g.bytes_per_token for g in memory.groups},
        ),
        Derivation(
            figure="workspace_gib",
            formula="largest sum of live activations over the operations of one layer + sequences x vocabulary per rank x 6 bytes",
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
            "What does an fp8 Mixtral 8x7B need on two H100s with 16 users at 8k?",
            {"model": "mixtral-8x7b", "gpu": "h100-sxm", "gpu_count": 2, "concurrency": 16, "quantization": "fp8"},
            {"kv_gib": 8.0, "fits": True},  # 16 x 8,192 x 131,072 bytes / 2
        ),
    ),
)
