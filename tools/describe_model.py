"""describe_model: exact parameters, state, FLOPs and checkpoint bytes of a model from its configuration."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field

from advisor_mcp import arguments
from advisor_mcp.anatomy.inventory import Architecture, Sizes, count, total
from advisor_mcp.anatomy.reading import Model, read_model
from advisor_mcp.declaration import Example, Tool
from advisor_mcp.errors import CannotAnswer
from advisor_mcp.formulas.adapters import ALL, Adapters, lora
from advisor_mcp.formulas.flops import BACKWARD, absorbed, forward
from advisor_mcp.formulas.parameters import Parameters, parameters
from advisor_mcp.formulas.precision import WeightFormat, tensor_bytes
from advisor_mcp.formulas.state import StateGroup, engine_bytes, state_bytes, state_groups
from advisor_mcp.formulas.stored import Contents, Weights, contents, weights
from advisor_mcp.results import Answer, Derivation, Row

DEFAULT_LENGTH = 8192


class ParameterCounts(Row):
    total: int = Field(description="All parameters of the model, a tied head counted once")
    active: int | None = Field(
        default=None, description="total - routed experts x (1 - experts used / experts); total for a dense model"
    )
    by_component: dict[str, int] = Field(default_factory=dict, description="Parameters per component")


class Group(Row):
    kind: str = Field(description="full, sliding, chunked, latent, compressed or recurrent")
    layers: int
    bytes_per_token: float | int = Field(description="Over all its layers, up to cap_tokens")
    tokens_per_entry: int
    cap_tokens: int | None = Field(default=None, description="The most tokens it keeps")
    fixed_bytes: float | int = Field(description="Bytes whatever the length")
    dtype: str


class State(Row):
    sequence_length: int
    groups: list[Group]
    bytes_per_token: float | int = Field(description="Growth per token of the groups that have no cap")
    fixed_bytes: float | int
    total_bytes: int = Field(description="One sequence of sequence_length tokens, the algorithm's own need")
    engines: dict[str, int] | None = Field(default=None, description="Bytes that engines allocate for it, detail=full")


class FlopsPerToken(Row):
    sequence_length: int
    forward: int = Field(description="Mean over a causal sequence; matrix products, attention and head")
    forward_attention: int = Field(description="The part of forward that grows with the length")
    forward_backward: int = Field(description="3 x forward")
    forward_full: int = Field(description="forward with attention counted as if later tokens were seen too")
    forward_absorbed: int | None = Field(default=None, description="forward with latent attention as engines decode it")


class TensorRow(Row):
    name: str
    shape: str
    tensors: int = Field(description="How many tensors of this name and shape")
    parameters: int
    bytes: int | None = Field(default=None, description="In checkpoint_format")
    component: str


class OperationRow(Row):
    block: str
    layers: int
    kind: str
    reads: str
    writes: str
    flops_per_token: int = Field(description="Over all its layers")


class CheckpointRow(Row):
    parameters: int | None = Field(default=None, description="What its files hold; absent where packed formats hide it")
    basis: str = Field(description="files: counted from their headers; configuration: what it implies")
    tensors: int | None = Field(default=None, description="Tensors in the files")
    formats: dict[str, int] | None = Field(default=None, description="Elements per number format in the files")
    differences: list[str] = Field(default_factory=list, description="What sets it apart from the model")


class LoraRow(Row):
    rank: int
    targets: list[str]
    parameters: int = Field(description="Trainable parameters of the adapters, exact")
    modules: int = Field(description="Matrices that get an adapter")


class Compared(Row):
    figure: str
    model: int | float
    versus: int | float
    ratio: float = Field(description="versus / model")


class ModelDescription(Answer):
    model: str
    family: str | None = None
    layers: int | None = None
    parameters: ParameterCounts
    state: State | None = None
    flops_per_token: FlopsPerToken | None = None
    checkpoint_bytes: int | None = Field(default=None, description="Weights in checkpoint_format, file headers aside")
    checkpoint_format: str
    checkpoint: CheckpointRow
    lora: LoraRow | None = None
    compared_with: str | None = None
    comparison: list[Compared] | None = None
    tensors: list[TensorRow] | None = Field(default=None, description="The tensor inventory, grouped")
    operations: list[OperationRow] | None = Field(default=None, description="The operation inventory, grouped")


def describe_model(
    model: arguments.Model,
    sequence_length: arguments.SequenceLength = DEFAULT_LENGTH,
    dtype: arguments.Dtype | None = None,
    quantization: arguments.Quantization | None = None,
    kv_dtype: arguments.KvDtype = "auto",
    lora_rank: Annotated[arguments.Count | None, Field(description="Also count LoRA adapters of this rank")] = None,
    lora_targets: Annotated[
        list[str] | None, Field(description="Their modules, e.g. q_proj; all-linear when left out")
    ] = None,
    versus: Annotated[arguments.Model | None, Field(description="A second model, set beside the first")] = None,
    detail: arguments.Detail = "brief",
) -> ModelDescription:
    """Exact size of a model from its configuration or weight files. Parameters (total, active, per component), KV cache
    or state bytes per token and at a length, FLOPs per token, checkpoint bytes per format, LoRA adapters.
    """
    found = read_model(model)
    if isinstance(found.described, CannotAnswer):
        return _counted_from_files(found, found.described)
    answer = _describe(found, sequence_length, dtype, quantization, kv_dtype, detail == "full")
    if lora_rank is not None:
        adapters = lora(found.architecture, lora_rank, lora_targets or [ALL])
        answer.lora = _lora(lora_rank, adapters)
        answer.warnings.extend(f"{name} holds stacked experts, which get no adapter" for name in adapters.skipped)
        if any(t.role == "routed_experts" and t.copies for _, t in found.architecture.tensors()):
            answer.warnings.append(
                "every expert is counted as matrices of its own; a library that stacks them adapts fewer"
            )
    if versus is not None:
        other = _describe(read_model(versus), sequence_length, dtype, quantization, kv_dtype, full=False)
        answer.compared_with, answer.comparison = other.model, _compare(answer, other)
        answer.summary = f"{answer.summary} Beside it: {other.summary}"
        answer.sources = list(dict.fromkeys([*answer.sources, *other.sources]))
    return answer


def _describe(
    found: Model, sequence_length: int, dtype: str | None, quantization: str | None, kv_dtype: str, full: bool
) -> ModelDescription:
    architecture = found.architecture
    sizes = architecture.bound()
    counted = parameters(architecture)
    stored = weights(found, dtype, quantization)
    groups = state_groups(architecture, sizes, kv_dtype)
    state = _state(groups, sequence_length, full)
    held = contents(found)
    return ModelDescription(
        summary=_summary(found.name, counted, state, stored),
        model=found.name,
        family=architecture.family,
        layers=architecture.layers,
        parameters=ParameterCounts(total=counted.total, active=counted.active, by_component=counted.by_component),
        state=state,
        flops_per_token=_flops(architecture, sequence_length),
        checkpoint_bytes=stored.bytes,
        checkpoint_format=stored.format,
        checkpoint=_checkpoint(found, held),
        tensors=_tensors(architecture, sizes, stored.fmt) if full else None,
        operations=_operations(architecture, sequence_length) if full else None,
        assumptions=[
            *found.assumptions,
            *architecture.notes,
            *stored.assumptions,
            *(["caches keep the model's dtype"] if kv_dtype == "auto" else []),
        ],
        warnings=[*stored.warnings, *architecture.not_described, *_beyond(architecture, sequence_length)],
        sources=list(found.sources),
        derivation=_derivation(counted, state) if full else None,
    )


def _counted_from_files(found: Model, why: CannotAnswer) -> ModelDescription:
    """The count of a model whose family or configuration is missing but whose weight files are there."""
    held = contents(found)
    if held.parameters is None or found.checkpoint is None:
        raise why
    size = found.checkpoint.bytes
    return ModelDescription(
        summary=f"{found.name} has {held.parameters:,} parameters in {size:,} bytes of weights, counted from its files.",
        model=found.name,
        parameters=ParameterCounts(total=held.parameters),
        checkpoint_bytes=size,
        checkpoint_format="stored",
        checkpoint=_checkpoint(found, held),
        assumptions=list(found.assumptions),
        warnings=[f"only the weight files could be read, so state and FLOPs are not answered: {why.message}"],
        sources=list(found.sources),
        next_measurement="give " + " and ".join(why.needs) if why.needs else None,
    )


def _checkpoint(found: Model, held: Contents) -> CheckpointRow:
    files = found.checkpoint
    return CheckpointRow(
        parameters=held.parameters,
        basis="files" if held.from_files else "configuration",
        tensors=len(files.tensors) if files else None,
        formats=files.elements_by_format if files else None,
        differences=list(held.differences),
    )


def _lora(rank: int, adapters: Adapters) -> LoraRow:
    return LoraRow(rank=rank, targets=list(adapters.targets), parameters=adapters.parameters, modules=adapters.modules)


def _compare(first: ModelDescription, second: ModelDescription) -> list[Compared]:
    pairs = {
        "parameters.total": (first.parameters.total, second.parameters.total),
        "parameters.active": (first.parameters.active, second.parameters.active),
        "checkpoint_bytes": (first.checkpoint_bytes, second.checkpoint_bytes),
    }
    if first.state and second.state and first.flops_per_token and second.flops_per_token:
        pairs |= {
            "state.bytes_per_token": (int(first.state.bytes_per_token), int(second.state.bytes_per_token)),
            "state.total_bytes": (first.state.total_bytes, second.state.total_bytes),
            "flops_per_token.forward": (first.flops_per_token.forward, second.flops_per_token.forward),
        }
    return [
        Compared(figure=name, model=a, versus=b, ratio=round(b / a, 4))
        for name, (a, b) in pairs.items()
        if a and b is not None
    ]


def _summary(name: str, counted: Parameters, state: State, stored: Weights) -> str:
    active = f", {counted.active:,} active per token" if counted.active != counted.total else ""
    weight = f"{stored.bytes:,} bytes of weights as {stored.format}; " if stored.bytes is not None else ""
    return (
        f"{name} has {counted.total:,} parameters{active}; {weight}"
        f"one sequence of {state.sequence_length:,} tokens keeps {state.total_bytes:,} bytes of cache."
    )


def _state(groups: list[StateGroup], sequence_length: int, full: bool) -> State:
    return State(
        sequence_length=sequence_length,
        groups=[
            Group(
                kind=g.kind, layers=g.layers, bytes_per_token=g.bytes_per_token, tokens_per_entry=g.tokens_per_entry,
                cap_tokens=g.cap_tokens, fixed_bytes=g.fixed_bytes, dtype=g.dtype,
            )
            for g in groups
        ],
        bytes_per_token=sum(g.bytes_per_token for g in groups if g.cap_tokens is None),
        fixed_bytes=sum(g.fixed_bytes for g in groups),
        total_bytes=state_bytes(groups, sequence_length),
        engines=engine_bytes(groups, sequence_length) if full else None,
    )  # fmt: skip


def _flops(architecture: Architecture, sequence_length: int) -> FlopsPerToken:
    sizes = architecture.workload(sequence_length)
    run, folded = forward(architecture, sizes), absorbed(architecture, sizes)
    whole = forward(architecture, architecture.workload(sequence_length, causal=False))
    per_token = round(run.total / sequence_length)
    return FlopsPerToken(
        sequence_length=sequence_length,
        forward=per_token,
        forward_attention=round(run.attention / sequence_length),
        forward_backward=round((1 + BACKWARD) * run.total / sequence_length),
        forward_full=round(whole.total / sequence_length),
        forward_absorbed=None if folded is None else round(folded / sequence_length),
    )


def _beyond(architecture: Architecture, sequence_length: int) -> list[str]:
    limit = architecture.max_sequence_length
    if limit is None or sequence_length <= limit:
        return []
    return [f"{sequence_length:,} tokens exceed the {limit:,} the configuration is made for"]


def _tensors(architecture: Architecture, sizes: Sizes, fmt: WeightFormat | None) -> list[TensorRow]:
    rows = []
    for block, tensor in architecture.stored():
        copies = int(count(tensor.copies, sizes))
        rows.append(
            TensorRow(
                name=tensor.name.replace("{layer}", _runs(block.layers)).replace("{expert}", f"0-{copies - 1}"),
                shape=" x ".join(str(n) for n in tensor.shape(sizes)),
                tensors=block.repeat * copies,
                parameters=int(block.repeat * tensor.elements(sizes)),
                bytes=int(block.repeat * tensor_bytes(tensor, sizes, fmt)) if fmt else None,
                component=tensor.role,
            )
        )
    return rows


def _runs(layers: tuple[int, ...]) -> str:
    """Layer numbers as text: 0-2, or 0-58/2 for every second one, or a count where neither says it."""
    steps = {b - a for a, b in pairwise(layers)}
    if len(layers) == 1:
        return str(layers[0])
    if steps == {1}:
        return f"{layers[0]}-{layers[-1]}"
    return f"{layers[0]}-{layers[-1]}/{steps.pop()}" if len(steps) == 1 else f"{{{len(layers)} layers}}"


def _operations(architecture: Architecture, sequence_length: int) -> list[OperationRow]:
    sizes = architecture.workload(sequence_length)
    return [
        OperationRow(
            block=block.name, layers=block.repeat, kind=op.kind, reads=" ".join(op.reads), writes=" ".join(op.out),
            flops_per_token=round(block.repeat * total(op.flops, sizes) / sequence_length),
        )
        for block in architecture.blocks if block.tower is None
        for op in block.ops
    ]  # fmt: skip


def _derivation(counted: Parameters, state: State) -> list[Derivation]:
    return [
        Derivation(
            figure="parameters.total",
            formula="sum of elements over the tensor inventory",
            inputs=dict(counted.by_component),
        ),
        Derivation(
            figure="state.total_bytes",
            formula="sum over groups of fixed_bytes + whole entries of min(S, cap_tokens) x bytes_per_token",
            inputs={"S": state.sequence_length},
        ),
        Derivation(
            figure="flops_per_token.forward",
            formula="sum over operations of 2 x multiply-adds / S; causal pairs S(S+1)/2, windowed the sum of min(i, window)",
            inputs={"S": state.sequence_length},
        ),
    ]


TOOL = Tool(
    function=describe_model,
    title="Describe a model",
    toolset="sizing",
    positional=("model",),
    examples=(
        Example(
            "How big is Llama 3.1 70B, and what does a 32k context cost?",
            {"model": "llama-3.1-70b", "sequence_length": 32768},
            {
                "parameters.total": 70_553_706_496,
                "state.bytes_per_token": 327_680,  # 80 layers x 2 x 8 KV heads x 128 x 2 bytes
                "state.total_bytes": 10_737_418_240,
                "checkpoint_bytes": 141_107_412_992,
            },
        ),
        Example(
            "How many parameters of DeepSeek-V3 are active, and what does its latent cache cost per token?",
            {"model": "deepseek-v3"},
            {"parameters.total": 671_026_404_352, "state.bytes_per_token": 70_272},  # 61 layers x (512 + 64) x 2 bytes
        ),
        Example(
            "How large is gpt-oss-120b on disk?",
            {"model": "gpt-oss-120b"},
            {"checkpoint_bytes": 65_248_815_744},  # the sum of its published safetensors files
        ),
    ),
)
