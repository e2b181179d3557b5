"""Answers about rooflines: one operation, or a whole model folded over its operations, under a device's ceilings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from advisor_mcp import arguments
from advisor_mcp.anatomy.reading import read_model
from advisor_mcp.errors import UsageError
from advisor_mcp.formulas import tiles
from advisor_mcp.formulas.ceilings import Ceiling, Ceilings
from advisor_mcp.formulas.precision import WeightFormat, requested_format, weight_bytes
from advisor_mcp.formulas.roofline import Attainable, Limit, Roof, Work, attention, matmul, rows_to_ridge, under
from advisor_mcp.formulas.serving import check_tensor_parallel
from advisor_mcp.formulas.state import state_bytes, state_groups
from advisor_mcp.formulas.steps import ARITHMETIC, Lowered, Part, Step, Workload, fewest, lower, step, tokens_to_ridge
from advisor_mcp.formulas.stored import format_name
from advisor_mcp.results import Answer, Derivation, Row, gib, number

SOURCES = ("doc:lbl-roofline", "paper:roofline-cacm")
MATERIALISED = "repo:pytorch/pytorch@008887dc557e:aten/src/aten/native/transformers/attention.cpp"
MEASURE = "advisor-mcp benchmark-device, there: the rates that are reached, and the cost of a launch"
SAID_TILES = "one tile at a time on each SM; libraries choose among several tiles, and split-K or persistent kernels are not modelled"


class Matmul(Row):
    """A batch of products (m, k) by (k, n)."""

    m: arguments.Count
    n: arguments.Count
    k: arguments.Count
    batch: arguments.Count = 1


class Attention(Row):
    """One layer's attention, causal unless said; absent KV heads are one per head, an absent context is the queries' own."""

    batch: arguments.Count = 1
    query_heads: arguments.Count
    kv_heads: arguments.Count | None = None
    head_dim: arguments.Count
    query_length: arguments.Count
    context_length: arguments.Count | None = None
    causal: bool = True
    materialised: bool = False


class CeilingRow(Row):
    """A rate and where it comes from."""

    ceiling: str
    value: float
    unit: str
    origin: str = Field(description="datasheet, or measured here with its date and samples")


class OperationGroup(Row):
    """One group of a model's operations."""

    group: str
    dtype: str
    bound: Limit
    ms: float = Field(description="The least time")
    share_percent: float
    intensity: float | None = Field(default=None, description="FLOPs per byte")
    operations: int | None = Field(default=None, description="Over all layers; this and the next with detail=full")
    flops: int | None = None
    bytes: int | None = Field(default=None, description="Weights, caches and states")
    tokens_to_ridge: int | None = Field(default=None, description="Tokens in a step from which on it is compute bound")


class TileRow(Row):
    """A product cut into tiles of one size."""

    tile: str
    tiles: int
    waves: int
    tile_efficiency_percent: float = Field(description="Useful results over computed ones")
    wave_efficiency_percent: float = Field(description="Tiles over the places for them in whole waves")
    efficiency_percent: float


class RooflineAnswer(Answer):
    """What `roofline` answers."""

    gpu: str
    dtype: str = Field(description="Of the products, or the weight format of a model")
    flops: int
    bytes: int = Field(description="The fewest that cross the memory's interface")
    intensity: float = Field(description="FLOPs per byte")
    ridge: float = Field(description="FLOPs per byte from which on the device is compute bound")
    bound: Limit
    attainable_ms: float = Field(
        description="A bound from below, not a prediction; a model's operations one after another, experts chosen alike"
    )
    floor_ms: float | None = Field(
        default=None, description="The bound if all operations overlapped and tokens shared experts"
    )
    attainable_tflops: float
    attainable_tokens_per_s: float | None = Field(default=None, description="At attainable_ms")
    rows_to_ridge: int | None = Field(default=None, description="m from which on the product is compute bound")
    concurrency_to_ridge: int | None = Field(
        default=None, description="Sequences from which on decoding is compute bound"
    )
    launches_ms: float | None = Field(default=None, description="Launching each operation once, without CUDA graphs")
    operations: list[OperationGroup] | None = None
    tiling: list[TileRow] | None = Field(default=None, description="The largest tile and the one that wastes least")
    ceilings: list[CeilingRow]


@dataclass(frozen=True, slots=True)
class Rates:
    """The ceilings that a single operation of one dtype runs under."""

    ceilings: Ceilings
    dtype: str

    @property
    def used(self) -> list[Ceiling]:
        """The ceilings that bear on it."""
        launch = self.ceilings.launch()
        return [self.ceilings.rate(self.dtype), self.ceilings.bandwidth(), *([launch] if launch else [])]

    @property
    def roof(self) -> Roof:
        """Its two ceilings as numbers."""
        return Roof(1e12 * self.ceilings.rate(self.dtype).value, 1e9 * self.ceilings.bandwidth().value)

    def under(self, work: Work) -> Attainable:
        """The work under them."""
        launch = self.ceilings.launch()
        return under(self.roof, work, 1e-6 * launch.value if launch else 0.0)


def of_matmul(rates: Rates, asked: Matmul, full: bool) -> RooflineAnswer:
    """The answer about one matrix product, with its tiles and alignment."""
    work = matmul(asked.m, asked.n, asked.k, asked.batch, rates.dtype)
    rows = rows_to_ridge(asked.n, asked.k, rates.roof.ridge, rates.dtype)
    size = f"{asked.batch} x " if asked.batch > 1 else ""
    answer = _single(rates, work, f"matmul {size}({asked.m}, {asked.k}) x ({asked.k}, {asked.n})")
    answer.rows_to_ridge = rows
    _align(answer, rates, asked)
    answer.warnings += _plain_fp32(rates)
    if rows is None:
        answer.warnings.append(
            f"no m makes this product compute bound: n {asked.n} and k {asked.k} are too small for {answer.gpu}"
        )
    _tile(answer, rates.ceilings, asked, full)
    answer.summary += f" It is compute bound from m = {number(rows)} on." if rows is not None else ""
    answer.derivation = _derivation(work, rates.roof) if full else None
    return answer


def of_attention(rates: Rates, asked: Attention, kv_dtype: str | None) -> RooflineAnswer:
    """The answer about one attention; raises `UsageError` for queries beyond the context and heads that do not divide."""
    context, kv_heads = asked.context_length or asked.query_length, asked.kv_heads or asked.query_heads
    if asked.causal and asked.query_length > context:
        raise UsageError("query_length exceeds context_length; the context counts the queries' own positions too")
    if asked.query_heads % kv_heads:
        raise UsageError(f"kv_heads {kv_heads} does not divide query_heads {asked.query_heads}")
    work = attention(
        asked.batch, asked.query_heads, kv_heads, asked.head_dim, asked.query_length, context,
        causal=asked.causal, materialised=asked.materialised, dtype=rates.dtype, kv_dtype=kv_dtype,
    )  # fmt: skip
    kind = f"{'materialised' if asked.materialised else 'fused'} {'causal ' if asked.causal else ''}"
    positions = f"{asked.query_length:,} queries on {context:,} positions x {asked.batch}"
    subject = f"{kind}attention, {positions}, {asked.query_heads} heads on {kv_heads}"
    answer = _single(rates, work, subject)
    answer.assumptions += _of_scores(asked)
    answer.sources += [MATERIALISED] if asked.materialised else []
    return answer


def _of_scores(asked: Attention) -> list[str]:
    """What is taken of the pairs of queries and keys, and where their scores go."""
    if asked.materialised:
        pairs = "all pairs are multiplied, and masked afterwards where causal, which spares nothing"
        return [f"{pairs}; scores and probabilities are written and read once each"]
    seen = (
        "causal (the default): a query sees no later position; pairs that are masked are not multiplied (causal=false: all are)"
        if asked.causal
        else "not causal: every query sees every position"
    )
    return [seen, "scores stay on chip; the softmax's exponentials have a ceiling of their own, which is not counted"]


def _single(rates: Rates, work: Work, subject: str) -> RooflineAnswer:
    least = rates.under(work)
    tflops = work.flops / least.seconds / 1e12
    return RooflineAnswer(
        summary=(
            f"{subject} in {rates.dtype} on {rates.ceilings.id} is {least.limit} bound: at least {number(_ms(least.seconds))} ms, "
            f"at most {tflops:,.4g} TFLOP/s, at {work.intensity:,.4g} FLOPs per byte (ridge {rates.roof.ridge:,.4g})."
        ),
        gpu=rates.ceilings.id,
        dtype=rates.dtype,
        flops=round(work.flops),
        bytes=round(work.bytes),
        intensity=_short(work.intensity),
        ridge=_short(rates.roof.ridge),
        bound=least.limit,
        attainable_ms=_ms(least.seconds),
        attainable_tflops=_short(tflops),
        ceilings=_rows(rates.used),
        assumptions=[
            "each operand is read once and the result written once, whatever caches hold",
            *_told(rates.ceilings, rates.used),
        ],
        sources=[*SOURCES, *_sources(rates.ceilings)],
        next_measurement=_unmeasured(rates.used),
    )


def _tile(answer: RooflineAnswer, ceilings: Ceilings, asked: Matmul, full: bool) -> None:
    """Add what tiles and waves waste, where the device's SMs are known and are such."""
    device = ceilings.device
    if device is None or device.vendor != "NVIDIA" or device.sm_count is None:
        needed = "is described for NVIDIA's GPUs with a known number of SMs"
        answer.assumptions.append(f"tile and wave quantisation {needed}, and left out for {ceilings.id}")
        return
    found = tiles.tilings(asked.m, asked.n, asked.batch, device.sm_count)
    largest, least = found[0], tiles.best(found)
    answer.tiling = [_tile_row(each) for each in (found if full else dict.fromkeys((largest, least)))]
    answer.assumptions.append(f"tiles over {device.sm_count} SMs, {SAID_TILES}")
    answer.sources += tiles.SOURCES
    if answer.bound == "compute":
        answer.summary += (
            f" Tiles and waves waste {100 * (1 - largest.share):.3g} % of it at {largest.rows}x{largest.columns}."
        )


def _tile_row(found: tiles.Tiling) -> TileRow:
    return TileRow(
        tile=f"{found.rows}x{found.columns}",
        tiles=found.tiles,
        waves=found.waves,
        tile_efficiency_percent=round(100 * found.tile_share, 2),
        wave_efficiency_percent=round(100 * found.wave_share, 2),
        efficiency_percent=round(100 * found.share, 2),
    )


def _align(answer: RooflineAnswer, rates: Rates, asked: Matmul) -> None:
    """Warn of leading dimensions that cannot be loaded whole, with the harm that it does on this vendor's devices."""
    vendor = rates.ceilings.device.vendor if rates.ceilings.device else ""
    harm = tiles.harm_of_unaligned(vendor, rates.dtype)
    found = tiles.unaligned(rates.dtype, {"n": asked.n, "k": asked.k})
    if harm is None or not found:
        return
    multiple = next(iter(found.values()))
    named = " and ".join(f"{name} = {getattr(asked, name)}" for name in found)
    verb = "are no multiples" if len(found) > 1 else "is no multiple"
    answer.warnings.append(
        f"{named} {verb} of {multiple} (16 bytes in {rates.dtype}): {harm}; pad to the next multiple"
    )
    answer.sources += [tiles.TENSILE] if vendor == "AMD" else []


def _plain_fp32(rates: Rates) -> list[str]:
    if rates.dtype != "fp32" or not rates.ceilings.has("tf32"):
        return []
    faster = rates.ceilings.rate("tf32").value
    return [f"fp32 runs beside the tensor cores; with tf32 allowed the roof is {number(faster)} TFLOP/s"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A model's step as it was asked for."""

    model: str | dict[str, Any]
    work: Workload
    tensor_parallel: int
    dtype: str | None
    quantization: str | None
    kv_dtype: str


def of_model(ceilings: Ceilings, asked: Asked, full: bool) -> RooflineAnswer:
    """The answer about a step of a whole model, group by group; see `steps.step`."""
    found = read_model(asked.model)
    architecture, work = found.architecture, asked.work
    check_tensor_parallel(architecture, asked.tensor_parallel)
    fmt = requested_format(architecture, asked.dtype, asked.quantization)
    lowered = lower(architecture, fmt, ceilings, asked.kv_dtype, asked.tensor_parallel)
    run = step(lowered, ceilings, work)
    rates = [ceilings.rate(name) for name in dict.fromkeys(part.dtype for part in run.parts if part.flops)]
    launch = ceilings.launch()
    used = [*rates, ceilings.bandwidth(), *([launch] if launch else [])]
    ridge = 1e3 * max(rate.value for rate in rates) / ceilings.bandwidth().value
    sequences = _concurrency(lowered, ceilings, work)
    shown = [part for part in run.parts if full or part.seconds >= 0.01 * run.seconds]
    left = len(run.parts) - len(shown)
    return RooflineAnswer(
        summary=_said(run, asked, f"{format_name(fmt)} on {ceilings.id}", found.name),
        gpu=ceilings.id,
        dtype=format_name(fmt),
        flops=round(run.flops),
        bytes=round(run.bytes),
        intensity=_short(run.flops / run.bytes),
        ridge=_short(ridge),
        bound=run.limit,
        attainable_ms=_ms(run.seconds),
        floor_ms=_ms(run.floor_s),
        attainable_tflops=_short(run.flops / run.seconds / 1e12),
        attainable_tokens_per_s=_short(work.tokens / run.seconds),
        concurrency_to_ridge=sequences,
        launches_ms=None if run.launch_s is None else _ms(run.launch_s),
        operations=[_group(part, run, ceilings, lowered, full) for part in shown],
        ceilings=_rows(used),
        assumptions=[
            *found.assumptions, *architecture.notes, *([fmt.note] if fmt.note else []), *_counted(lowered, asked), *_told(ceilings, used),
        ],
        warnings=[
            *_beyond_memory(lowered, fmt, ceilings, asked), *architecture.not_described, *_widened(fmt, ceilings),
            *_doubts(run, lowered, ceilings, work, sequences),
        ],
        sources=[*SOURCES, *found.sources, *_sources(ceilings)],
        next_measurement=_unmeasured(used),
        derivation=_derivation(Work(run.flops, run.bytes), Roof(1e9 * ridge, 1e9)) if full else None,
        omitted=[f"operations: {left} more, each below 1 % of the time"] if left else None,
    )  # fmt: skip


def _concurrency(lowered: Lowered, ceilings: Ceilings, work: Workload) -> int | None:
    """The fewest sequences at which a decoding step is compute bound as a whole; None where caches keep it from that."""
    if work.phase != "decode":
        return None

    def is_computing(sequences: int) -> bool:
        run = step(lowered, ceilings, Workload("decode", work.sequence_length, sequences))
        return sum(part.compute_s for part in run.parts) >= sum(part.memory_s for part in run.parts)

    return fewest(is_computing)


def _beyond_memory(lowered: Lowered, fmt: WeightFormat, ceilings: Ceilings, asked: Asked) -> list[str]:
    """What a step must hold at once where a device, or each rank, has not the memory for it: weights, and what goes with them.

    That is less than running takes: activations, and an optimizer in training, come on top.
    """
    if ceilings.device is None:
        return []
    work = asked.work
    weights = weight_bytes(lowered.architecture, lowered.sizes, fmt)
    if work.phase == "training":
        beside, what = weights, "gradients"
    else:
        groups = state_groups(lowered.architecture, lowered.sizes, asked.kv_dtype)
        beside = work.batch * state_bytes(groups, work.sequence_length)
        what = "caches"
    if weights + beside <= ceilings.device.memory_bytes:
        return []
    place = "each rank's" if asked.tensor_parallel > 1 else "the"
    further = "" if work.phase == "training" else ": see estimate_serving_memory"
    return [
        f"{number(gib(weights))} GiB of weights and {number(gib(beside))} GiB of {what} do not fit in {place} "
        f"{number(gib(ceilings.device.memory_bytes))} GiB of {ceilings.id}{further}"
    ]


def _widened(fmt: WeightFormat, ceilings: Ceilings) -> list[str]:
    wanted = ARITHMETIC.get(fmt.quantization, ())
    if not wanted or any(ceilings.has(name) for name in wanted):
        return []
    return [f"{ceilings.id} has no {wanted[0]} arithmetic: weights stored so are multiplied in {fmt.kept_dtype}"]


def _said(run: Step, asked: Asked, how: str, name: str) -> str:
    work, first = asked.work, run.parts[0]
    ranks = f", 1 of {asked.tensor_parallel} tensor-parallel ranks," if asked.tensor_parallel > 1 else ""
    batch = f"{work.batch:,} sequence{'s' if work.batch > 1 else ''} of {work.sequence_length:,} tokens"
    return (
        f"{name} {work.phase}, {batch}{ranks} as {how} is {run.limit} bound: a step takes at least {_bounds(run)}, "
        f"which is {number(round(work.tokens / run.seconds, 1))} tokens/s and {run.flops / run.seconds / 1e12:,.4g} TFLOP/s; "
        f"{100 * first.seconds / run.seconds:.0f} % of it goes to {first.group}."
    )


def _bounds(run: Step) -> str:
    """The step's least time, after those that it would be under milder assumptions, each with what is assumed."""
    floor, overlapped, least = _ms(run.floor_s), _ms(run.overlapped_s), _ms(run.seconds)
    shared, apart = floor != overlapped, overlapped != least
    said = [f"{number(floor)} ms if every token used the same experts"] if shared else []
    if shared or apart:
        said.append(
            f"{number(overlapped)} ms {'with experts chosen alike' if shared else 'if all operations overlapped'}"
        )
    if apart or not said:
        said.append(f"{number(least)} ms{' with operations one after another' if said else ''}")
    return ", ".join(said)


def _group(part: Part, run: Step, ceilings: Ceilings, lowered: Lowered, full: bool) -> OperationGroup:
    return OperationGroup(
        group=part.group,
        dtype=part.dtype,
        bound=part.limit,
        ms=_ms(part.seconds),
        share_percent=round(100 * part.seconds / run.seconds, 1),
        intensity=_short(part.flops / part.bytes) if part.bytes and part.flops else None,
        operations=part.operations if full else None,
        flops=round(part.flops) if full else None,
        bytes=round(part.bytes) if full else None,
        tokens_to_ridge=tokens_to_ridge(part, ceilings, lowered.sizes),
    )


def _counted(lowered: Lowered, asked: Asked) -> list[str]:
    notes = [
        "activations stay on chip and elementwise operations are fused: only weights, caches and states cross the memory's interface"
    ]
    if asked.work.phase == "training":
        notes.append(
            "weights are read in both passes and their gradients written; recomputation and the optimizer are not in it"
        )
    elif asked.work.phase == "prefill" and lowered.kept:
        notes.append("logits are made for the last token of each sequence")
    if any(item.experts > item.used for item in lowered.items):
        notes.append("each expert is as likely as any other")
    if asked.tensor_parallel > 1:
        notes.append("collectives between the ranks are not in it")
    return notes


def _doubts(run: Step, lowered: Lowered, ceilings: Ceilings, work: Workload, concurrency: int | None) -> list[str]:
    found = []
    if work.phase == "decode" and concurrency is None:
        found.append(
            "no concurrency makes this step compute bound: reading a sequence's cache takes longer than what is calculated with it"
        )
    limit = lowered.architecture.max_sequence_length
    if limit and work.sequence_length > limit:
        found.append(f"{work.sequence_length:,} tokens exceed the {limit:,} that the configuration is made for")
    if run.launch_s is not None and run.launch_s > run.seconds:
        found.append(
            f"launching {number(lowered.kernels)} operations one by one takes {number(_ms(run.launch_s))} ms, longer than the step: "
            "use CUDA graphs"
        )
    device = ceilings.device
    if device and device.l2_bytes and run.bytes < device.l2_bytes:
        found.append(
            f"all {number(round(run.bytes))} bytes fit in the L2 of {device.id}: a repeated step may be faster than this bound"
        )
    return found


def _rows(used: list[Ceiling]) -> list[CeilingRow]:
    return [
        CeilingRow(ceiling=each.name, value=_short(each.value), unit=each.unit, origin=each.origin) for each in used
    ]


def _told(ceilings: Ceilings, used: list[Ceiling]) -> list[str]:
    """What is to be said of where the ceilings come from."""
    device = ceilings.device
    notes = list(device.assumptions) if device else [f"{ceilings.id} is known from measurements of this machine alone"]
    unsure = device.unsure if device else {}
    for name, what in (("dense_tflops", "rates"), ("memory_bandwidth_gb_s", "memory bandwidth")):
        if name in unsure and any(each.measured is None for each in used):
            notes.append(f"the {what} of {ceilings.id} are {unsure[name]}, not read in an opened source")
    if any(each.measured for each in used):
        notes.append("rates measured here bound what this machine's libraries reached, not what the chip could")
    return notes


def _unmeasured(used: list[Ceiling]) -> str | None:
    """What to measure, unless all of it is: the rates, and a launch that only a measurement knows."""
    known = all(each.measured for each in used) and any(each.name == "launch" for each in used)
    return None if known else MEASURE


def _sources(ceilings: Ceilings) -> tuple[str, ...]:
    return ceilings.device.sources if ceilings.device else ()


def _short(value: float) -> float:
    """Four significant digits, all digits of whole numbers."""
    return float(f"{value:.4g}") if value < 10_000 else float(round(value))


def _ms(seconds: float) -> float:
    return _short(1e3 * seconds)


def _derivation(work: Work, roof: Roof) -> list[Derivation]:
    return [
        Derivation(
            figure="attainable_ms",
            formula="1000 x max(flops / rate, bytes / bandwidth), summed over operations; a launch where that is longer",
            inputs={"flops": work.flops, "bytes": work.bytes},
            source="paper:roofline-cacm",
        ),
        Derivation(figure="ridge", formula="rate / bandwidth", inputs={"ridge": roof.ridge}),
        Derivation(figure="intensity", formula="flops / bytes", inputs={"intensity": work.intensity}),
    ]
