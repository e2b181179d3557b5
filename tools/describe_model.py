"""describe_model: exact parameters, state, FLOPs and checkpoint bytes of a model from its configuration."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field

from advisor_mcp import arguments
from advisor_mcp.anatomy.inventory import Architecture, Sizes
from advisor_mcp.anatomy.reading import read_model
from advisor_mcp.declaration import Example, Tool
from advisor_mcp.formulas.flops import BACKWARD, forward
from advisor_mcp.formulas.parameters import Parameters, parameters
from advisor_mcp.formulas.precision import WeightFormat, requested_format, tensor_bytes, weight_bytes
from advisor_mcp.formulas.state import StateGroup, state_bytes, state_groups
from advisor_mcp.results import Answer, Derivation, Row

DEFAULT_LENGTH = 8192


class ParameterCounts(Row):
    total: int = Field(description="All parameters of the model, a tied head counted once")
    active: int = Field(description="total - routed experts x (1 - experts used / experts); total for a dense model")
    by_component: dict[str, int] = Field(description="Parameters per component")


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


class FlopsPerToken(Row):
    sequence_length: int
    forward: int = Field(description="Mean over a causal sequence; matrix products, attention and head")
    forward_attention: int = Field(description="The part of forward that grows with the length")
    forward_backward: int = Field(description="3 x forward")


class TensorRow(Row):
    name: str
    shape: str
    tensors: int = Field(description="How many tensors of this name and shape")
    parameters: int
    bytes: int
    component: str


class OperationRow(Row):
    block: str
    layers: int
    kind: str
    reads: str
    writes: str
    flops_per_token: int = Field(description="Over all its layers")


class ModelDescription(Answer):
    model: str
    family: str
    layers: int
    parameters: ParameterCounts
    state: State
    flops_per_token: FlopsPerToken
    checkpoint_bytes: int = Field(description="Weights in checkpoint_format, file headers aside")
    checkpoint_format: str
    tensors: list[TensorRow] | None = Field(default=None, description="The tensor inventory, grouped")
    operations: list[OperationRow] | None = Field(default=None, description="The operation inventory, grouped")


def describe_model(
    model: arguments.Model,
    sequence_length: arguments.SequenceLength = DEFAULT_LENGTH,
    dtype: arguments.Dtype | None = None,
    quantization: arguments.Quantization | None = None,
    kv_dtype: arguments.KvDtype = "auto",
    detail: arguments.Detail = "brief",
) -> ModelDescription:
    """Exact size of a model from its configuration. Parameters (total, active, per component), KV cache or state
    bytes per token and at a length, FLOPs per token, checkpoint bytes per format.
    """
    found = read_model(model)
    architecture = found.architecture
    sizes = architecture.bound()
    counted = parameters(architecture)
    fmt = requested_format(architecture, dtype, quantization)
    groups = state_groups(architecture, sizes, kv_dtype)
    state = _state(groups, sequence_length)
    stored = int(weight_bytes(architecture, sizes, fmt))
    full = detail == "full"
    return ModelDescription(
        summary=_summary(found.name, counted, state, stored, fmt),
        model=found.name,
        family=architecture.family,
        layers=architecture.layers,
        parameters=ParameterCounts(total=counted.total, active=counted.active, by_component=counted.by_component),
        state=state,
        flops_per_token=_flops(architecture, sequence_length),
        checkpoint_bytes=stored,
        checkpoint_format=_format(fmt),
        tensors=_tensors(architecture, sizes, fmt) if full else None,
        operations=_operations(architecture, sequence_length) if full else None,
        assumptions=[*found.assumptions, *architecture.notes, *_assumed(architecture, fmt, kv_dtype)],
        warnings=[*architecture.not_described, *_beyond(architecture, sequence_length)],
        sources=list(found.sources),
        derivation=_derivation(counted, state) if full else None,
    )


def _summary(name: str, counted: Parameters, state: State, stored: int, fmt: WeightFormat) -> str:
    active = f", {counted.active:,} active per token" if counted.active != counted.total else ""
    return (
        f"{name} has {counted.total:,} parameters{active}; {stored:,} bytes of weights as {_format(fmt)}; "
        f"one sequence of {state.sequence_length:,} tokens keeps {state.total_bytes:,} bytes of cache."
    )


def _format(fmt: WeightFormat) -> str:
    return (
        fmt.kept_dtype if fmt.quantization == "none" else f"{fmt.quantization} ({fmt.kept_dtype} where not quantised)"
    )


def _state(groups: list[StateGroup], sequence_length: int) -> State:
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
    )  # fmt: skip


def _flops(architecture: Architecture, sequence_length: int) -> FlopsPerToken:
    run = forward(architecture, architecture.workload(sequence_length))
    per_token = round(run.total / sequence_length)
    return FlopsPerToken(
        sequence_length=sequence_length,
        forward=per_token,
        forward_attention=round(run.attention / sequence_length),
        forward_backward=round((1 + BACKWARD) * run.total / sequence_length),
    )


def _assumed(architecture: Architecture, fmt: WeightFormat, kv_dtype: str) -> list[str]:
    notes = []
    if architecture.dtype is None and not fmt.declared and fmt.quantization == "none" and fmt.kept_dtype == "bf16":
        notes.append("the configuration names no dtype: bf16 is taken")
    if kv_dtype == "auto":
        notes.append("caches keep the model's dtype")
    return notes


def _beyond(architecture: Architecture, sequence_length: int) -> list[str]:
    limit = architecture.max_sequence_length
    if limit is None or sequence_length <= limit:
        return []
    return [f"{sequence_length:,} tokens exceed the {limit:,} the configuration is made for"]


def _tensors(architecture: Architecture, sizes: Sizes, fmt: WeightFormat) -> list[TensorRow]:
    rows = []
    for block, tensor in architecture.tensors():
        copies = 1
        for axis in tensor.copies:
            copies *= int(sizes[axis]) if isinstance(axis, str) else axis
        rows.append(
            TensorRow(
                name=tensor.name.replace("{layer}", _runs(block.layers)).replace("{expert}", f"0-{copies - 1}"),
                shape=" x ".join(str(n) for n in tensor.shape(sizes)),
                tensors=block.repeat * copies,
                parameters=int(block.repeat * tensor.elements(sizes)),
                bytes=int(block.repeat * tensor_bytes(tensor, sizes, fmt)),
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
            flops_per_token=round(block.repeat * sum(c * _product(axes, sizes) for c, axes in op.flops) / sequence_length),
        )
        for block in architecture.blocks if block.tower is None
        for op in block.ops
    ]  # fmt: skip


def _product(axes: tuple[str | int, ...], sizes: Sizes) -> float:
    found = 1.0
    for axis in axes:
        found *= sizes[axis] if isinstance(axis, str) else axis
    return found


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
