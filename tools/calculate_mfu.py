"""calculate_mfu: model FLOP utilisation from a measured training speed, under each convention in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from advisor_mcp import arguments
from advisor_mcp.anatomy.reading import read_model
from advisor_mcp.declaration import Example, Tool
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.ceilings import matmul_key, read_ceilings
from advisor_mcp.formulas.devices import read_device
from advisor_mcp.formulas.utilisation import Utilisation, doubts, total_over_active, utilisation
from advisor_mcp.measuring.log_files import log_text
from advisor_mcp.measuring.training_logs import Throughput, read_throughput
from advisor_mcp.results import Answer, Derivation, Row, number

Speed = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ConventionRow(Row):
    id: str
    flops_per_token: int = Field(description="Forward and backward, per trained token")
    achieved_tflops_per_gpu: float
    mfu_percent: float
    hfu_percent: float
    used_by: str


class MfuAnswer(Answer):
    model: str
    gpu: str
    gpu_count: int | None = Field(default=None, description="Where it was given")
    dtype: str
    sequence_length: int
    tokens_per_s_per_gpu: float
    peak_tflops: float = Field(description="Dense peak of one GPU for dtype, never the sparse figure")
    achieved_tflops_per_gpu: float = Field(description="By matmul_causal, the FLOPs that the model needs")
    measured_ceiling_tflops: float | None = Field(
        default=None,
        description="Best matrix product that advisor-mcp benchmark-device measured on this machine's GPU of that kind",
    )
    of_measured_ceiling_percent: float | None = Field(
        default=None, description="achieved_tflops_per_gpu of it; not an MFU"
    )
    conventions: list[ConventionRow]
    measured: str = Field(description="The speed as it was given or read")


def calculate_mfu(
    model: arguments.Model,
    gpu: arguments.Gpu,
    sequence_length: arguments.SequenceLength,
    gpu_count: arguments.GpuCount | None = None,
    tokens_per_s: Annotated[Speed | None, Field(description="Measured, over all GPUs; needs gpu_count")] = None,
    tokens_per_s_per_gpu: Annotated[Speed | None, Field(description="Measured, per GPU")] = None,
    step_time_s: Annotated[Speed | None, Field(description="Measured; needs global_batch_size and gpu_count")] = None,
    log: Annotated[str | None, Field(description="A training log's text or path, instead")] = None,
    global_batch_size: Annotated[arguments.Count | None, Field(description="Sequences per optimizer step")] = None,
    recompute: arguments.Recompute = "none",
    dtype: arguments.Dtype = "bf16",
    detail: arguments.Detail = "brief",
) -> MfuAnswer:
    """MFU and HFU of a training run from its speed. Gives achieved TFLOP/s per GPU and each convention in use
    side by side, from one measured speed: tokens/s, tokens/s/GPU, step time, or a pasted log.
    """
    found, device = read_model(model), read_device(gpu)
    run = _Run(sequence_length, gpu_count, global_batch_size)
    measured = _measured(run, tokens_per_s, tokens_per_s_per_gpu, step_time_s, log)
    peak = device.peak(dtype)
    rows = utilisation(found.architecture, sequence_length, measured.speed, peak, recompute)
    causal, full = rows[0], rows[1]
    ceiling = read_ceilings(gpu).measured.get(matmul_key(dtype))
    return MfuAnswer(
        summary=(
            f"{found.name} at {_speed_text(measured.speed)} tokens/s per {device.id} reaches {100 * causal.mfu:,.1f} % MFU "
            f"({dtype} peak {number(peak)} TFLOP/s) counting causal attention, {100 * full.mfu:,.1f} % counting it in full; "
            f"{_others(rows)}."
        ),
        model=found.name,
        gpu=device.id,
        gpu_count=gpu_count,
        dtype=dtype,
        sequence_length=sequence_length,
        tokens_per_s_per_gpu=_rounded(measured.speed),
        peak_tflops=peak,
        achieved_tflops_per_gpu=round(causal.tflops_per_gpu, 2),
        measured_ceiling_tflops=round(ceiling.value, 2) if ceiling else None,
        of_measured_ceiling_percent=round(100 * causal.tflops_per_gpu / ceiling.value, 2) if ceiling else None,
        conventions=[_row(row) for row in rows],
        measured=measured.how,
        assumptions=[
            *found.assumptions,
            *found.architecture.notes,
            *device.assumptions,
            f"recompute {recompute}; all weights are trained",
            *measured.assumptions,
            *(
                [f"the ceiling was measured here {ceiling.date}, n={ceiling.samples}; MFU stays a share of the peak"]
                if ceiling
                else []
            ),
        ],
        warnings=[
            *found.architecture.not_described,
            *measured.warnings,
            *doubts(rows, dtype),
        ],
        sources=["arxiv:2204.02311", "arxiv:2205.05198", *found.sources, *device.sources],
        next_measurement="repeat with the mean of at least 20 steps after warm-up, data loading included",
        derivation=_derivation(measured.speed, peak) if detail == "full" else None,
    )


@dataclass(frozen=True)
class _Run:
    """What turns a speed of the whole run into one per GPU, where it is known."""

    length: int
    gpus: int | None
    batch: int | None


@dataclass(frozen=True)
class _Measured:
    """Tokens per second per GPU, and where they come from."""

    speed: float
    how: str
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def _measured(run: _Run, total: float | None, per_gpu: float | None, step: float | None, log: str | None) -> _Measured:
    given = {"tokens_per_s": total, "tokens_per_s_per_gpu": per_gpu, "step_time_s": step, "log": log}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise UsageError(
            f"give exactly one measured speed of {', '.join(given)}; {' and '.join(named) if named else 'none'} given"
        )
    if log is not None:
        text, notes = log_text(log)
        return _from_log(read_throughput(text), run, notes)
    if step is not None:
        batch, gpus = _needed("step_time_s", global_batch_size=run.batch, gpu_count=run.gpus)
        return _Measured(
            batch * run.length / step / gpus, f"step_time_s {number(step)}, {number(batch)} sequences a step"
        )
    if total is not None:
        return _Measured(total / _gpus("tokens_per_s", run), f"tokens_per_s {number(total)}")
    speed = float(per_gpu or 0)
    return _Measured(speed, f"tokens_per_s_per_gpu {number(speed)}")


def _needed(what: str, **facts: int | None) -> list[int]:
    missing = [name for name, value in facts.items() if value is None]
    if missing:
        raise CannotAnswer(f"{what} needs {' and '.join(missing)} to become tokens per second per GPU", needs=missing)
    return [value for value in facts.values() if value is not None]


def _gpus(what: str, run: _Run) -> int:
    return _needed(what, gpu_count=run.gpus)[0]


def _from_log(read: Throughput, run: _Run, notes: tuple[str, ...]) -> _Measured:
    warnings: tuple[str, ...] = ()
    if read.unit == "tokens_per_s_per_gpu":
        speed = read.value
    elif read.unit == "tokens_per_s":
        speed = read.value / _gpus(f"the {read.framework} log, which states tokens over all GPUs,", run)
    elif read.unit == "step_time_s":
        speed, warnings = _from_step_times(read, run)
    else:
        all_gpus = read.unit == "samples_per_s"
        gpus = _gpus(f"the {read.framework} log, which states samples over all GPUs,", run) if all_gpus else 1
        speed = read.value * run.length / gpus
        notes = (*notes, "each sample of the log is taken as sequence_length tokens; shorter or padded ones are fewer")
    return _Measured(speed, _lines(read), notes, warnings)


def _from_step_times(read: Throughput, run: _Run) -> tuple[float, tuple[str, ...]]:
    """Tokens per second per GPU, and what the log says against the batch that was given."""
    what = f"the {read.framework} log, which states step times,"
    stated = read.tokens_per_step or (read.global_batch_size or 0) * run.length
    if run.batch is None and stated:
        return stated / read.value / _gpus(what, run), ()
    batch, gpus = _needed(what, global_batch_size=run.batch, gpu_count=run.gpus)
    tokens = batch * run.length
    differs = (
        f"the log states {number(stated)} tokens a step, global_batch_size and sequence_length make {number(tokens)}"
    )
    return tokens / read.value / gpus, (differs,) if stated and stated != tokens else ()


def _lines(read: Throughput) -> str:
    if read.whole_run:
        return f"{read.framework} log: mean since the start, evaluation and saving included"
    used = read.lines - read.skipped - read.other_batches
    return (
        f"{read.framework} log: median of {number(used)} line{'s' if used > 1 else ''}"
        + (f" after {read.skipped} warm-up" if read.skipped else "")
        + (f", {number(read.other_batches)} of other global batch sizes left out" if read.other_batches else "")
        + (f", {number(read.global_batch_size)} sequences a step" if read.global_batch_size else "")
        + (f", {number(read.tokens_per_step)} tokens a step" if read.tokens_per_step else "")
    )


def _row(row: Utilisation) -> ConventionRow:
    return ConventionRow(
        id=row.convention.id,
        flops_per_token=round(row.convention.flops_per_token),
        achieved_tflops_per_gpu=round(row.tflops_per_gpu, 2),
        mfu_percent=round(100 * row.mfu, 2),
        hfu_percent=round(100 * row.hfu, 2),
        used_by=row.convention.used_by,
    )


def _others(rows: list[Utilisation]) -> str:
    mixture = total_over_active(rows) > 1
    told = [row for row in rows[2:] if not (mixture and row.convention.id == "six_n_total")]
    return ", ".join(f"{100 * row.mfu:,.1f} % by {row.convention.id}" for row in told)


def _speed_text(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"


def _rounded(speed: float) -> float:
    return round(speed, 2) if speed >= 1 else float(f"{speed:.3g}")


def _derivation(speed: float, peak: float) -> list[Derivation]:
    return [
        Derivation(
            figure="conventions.mfu_percent",
            formula="100 x flops_per_token x tokens_per_s_per_gpu / (peak_tflops x 10^12)",
            inputs={"tokens_per_s_per_gpu": speed, "peak_tflops": peak},
            source="arxiv:2204.02311",
        ),
        Derivation(
            figure="conventions.hfu_percent",
            formula="mfu_percent x (1 + recomputed forward FLOPs / flops_per_token)",
            source="arxiv:2205.05198",
        ),
    ]


TOOL = Tool(
    function=calculate_mfu,
    title="Calculate MFU",
    toolset="performance",
    positional=("model",),
    examples=(
        Example(
            "What MFU is 11,000 tokens/s per GPU for Llama 3.1 8B at 8k on H100s?",
            {"model": "llama-3.1-8b", "gpu": "h100-sxm", "gpu_count": 64, "sequence_length": 8192, "tokens_per_s_per_gpu": 11000},
            {"tokens_per_s_per_gpu": 11000.0, "conventions.4.flops_per_token": 48_181_567_488},  # 6 x 8,030,261,248
        ),
        Example(
            "My nanoGPT log says 2,450 ms an iteration: is that good?",
            {
                "model": "mpt-7b", "gpu": "a100-sxm-80gb", "gpu_count": 8, "sequence_length": 2048, "global_batch_size": 32,
                "log": "iter 40: loss 2.8, time 2455.0ms, mfu 41.0%\niter 50: loss 2.7, time 2445.0ms, mfu 41.1%",
            },
            {"tokens_per_s_per_gpu": 3343.67},  # 32 x 2,048 tokens / 2.45 s / 8
        ),
    ),
)  # fmt: skip
