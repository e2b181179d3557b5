"""calculate_mfu: model FLOP utilisation from a measured training speed, under each convention in use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from advisor_mcp import access, arguments
from advisor_mcp.anatomy.reading import read_model
from advisor_mcp.declaration import Example, Tool
from advisor_mcp.errors import CannotAnswer, UsageError, shown
from advisor_mcp.formulas.devices import read_device
from advisor_mcp.formulas.utilisation import Utilisation, utilisation
from advisor_mcp.results import Answer, Derivation, Row
from advisor_mcp.tracing.training_logs import Throughput, read_throughput

Speed = Annotated[float, Field(gt=0, allow_inf_nan=False)]
LARGEST_LOG_BYTES = 64_000_000


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
    gpu_count: int
    dtype: str
    sequence_length: int
    tokens_per_s_per_gpu: float
    peak_tflops: float = Field(description="Dense peak of one GPU for dtype, never the sparse figure")
    achieved_tflops_per_gpu: float = Field(description="By matmul_causal, the FLOPs that the model needs")
    conventions: list[ConventionRow]
    measured: str = Field(description="The speed as it was given or read")


def calculate_mfu(
    model: arguments.Model,
    gpu: arguments.Gpu,
    sequence_length: arguments.SequenceLength,
    gpu_count: arguments.GpuCount = 1,
    tokens_per_s: Annotated[Speed | None, Field(description="Measured, over all GPUs")] = None,
    tokens_per_s_per_gpu: Annotated[Speed | None, Field(description="Measured, per GPU")] = None,
    step_time_s: Annotated[Speed | None, Field(description="Measured; needs global_batch_size")] = None,
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
    speed, measured = _speed(
        tokens_per_s, tokens_per_s_per_gpu, step_time_s, log, global_batch_size, sequence_length, gpu_count
    )
    peak = device.peak(dtype)
    rows = utilisation(found.architecture, sequence_length, speed, peak, recompute)
    causal, full = rows[0], rows[1]
    return MfuAnswer(
        summary=(
            f"{found.name} at {speed:,.0f} tokens/s per {device.id} reaches {100 * causal.mfu:.1f} % MFU "
            f"({dtype} peak {peak:g} TFLOP/s) counting causal attention, {100 * full.mfu:.1f} % counting it in full; {_others(rows)}."
        ),
        model=found.name,
        gpu=device.id,
        gpu_count=gpu_count,
        dtype=dtype,
        sequence_length=sequence_length,
        tokens_per_s_per_gpu=round(speed, 2),
        peak_tflops=peak,
        achieved_tflops_per_gpu=round(causal.tflops_per_gpu, 2),
        conventions=[_row(row) for row in rows],
        measured=measured,
        assumptions=[
            *found.assumptions,
            *found.architecture.notes,
            *device.assumptions,
            f"recompute {recompute}; all weights are trained",
        ],
        warnings=[*found.architecture.not_described, *_doubts(rows, dtype)],
        sources=["arxiv:2204.02311", "arxiv:2205.05198", *found.sources, *device.sources],
        next_measurement="repeat with the mean of at least 20 steps after warm-up, data loading included",
        derivation=_derivation(speed, peak) if detail == "full" else None,
    )


def _speed(
    total: float | None,
    per_gpu: float | None,
    step: float | None,
    log: str | None,
    batch: int | None,
    length: int,
    gpus: int,
) -> tuple[float, str]:
    given = {"tokens_per_s": total, "tokens_per_s_per_gpu": per_gpu, "step_time_s": step, "log": log}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise UsageError(
            f"give exactly one measured speed of {', '.join(given)}; {' and '.join(named) if named else 'none'} given"
        )
    if log is not None:
        read = read_throughput(_log_text(log))
        note = f"{read.framework} log: median of {read.lines - read.skipped} lines" + (
            f" after {read.skipped} warm-up" if read.skipped else ""
        )
        return _from_log(read, batch, length, gpus), note
    if step is not None:
        return _per_gpu(
            step, _batch(batch, "step_time_s"), length, gpus
        ), f"step_time_s {step:g}, {batch} sequences a step"
    return (
        (total / gpus, f"tokens_per_s {total:g}")
        if total is not None
        else (float(per_gpu or 0), f"tokens_per_s_per_gpu {per_gpu:g}")
    )


def _from_log(read: Throughput, batch: int | None, length: int, gpus: int) -> float:
    if read.unit == "tokens_per_s_per_gpu":
        return read.value
    if read.unit == "tokens_per_s":
        return read.value / gpus
    if read.unit == "samples_per_s":
        return read.value * length / gpus
    return _per_gpu(read.value, _batch(batch, f"the {read.framework} log, which states step times,"), length, gpus)


def _batch(batch: int | None, what: str) -> int:
    if batch is None:
        raise CannotAnswer(f"{what} needs global_batch_size to become tokens per second", needs=["global_batch_size"])
    return batch


def _per_gpu(step: float, batch: int, length: int, gpus: int) -> float:
    return batch * length / step / gpus


def _log_text(log: str) -> str:
    """The log itself: a text of several lines or with blanks is taken as it is, anything else is a path."""
    if "\n" in log or len(log) > 1024 or " " in log.strip():
        return log
    path = access.readable(log)
    try:
        if path.stat().st_size > LARGEST_LOG_BYTES:
            raise UsageError(
                f"{shown(log)} has {path.stat().st_size:,} bytes; pass the part with the steps you want ({LARGEST_LOG_BYTES:,} at most)"
            )
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        raise UsageError(f"there is no readable log at {shown(log)}; give a path or the log's text") from None


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
    return ", ".join(f"{100 * row.mfu:.1f} % by {row.convention.id}" for row in rows[2:])


def _doubts(rows: list[Utilisation], dtype: str) -> list[str]:
    if rows[0].mfu > 1:
        return [
            f"over 100 % of the {dtype} peak is not possible: check gpu_count, the unit of the speed, sequence_length and dtype"
        ]
    if rows[0].mfu > 0.75:
        return ["above 75 % MFU no published run is known here: check gpu_count, the unit of the speed and dtype"]
    return []


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
