from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.gpus.fleet.evidence import EFFECTIVE, FLEET, Fleet, Use, plural, worst

LOW = 0.1
MEMORY_BOUND = 0.6


@FLEET.kind("tensor-cores-unused")
def tensor_cores_unused(fleet: Fleet) -> Iterator[Observation]:
    """Jobs whose multiprocessors are busy while the tensor cores hardly run and the memory is not the limit: matrix
    products in FP32, shapes that fall back to CUDA cores, or work that is no matrix product.

    ## Formula
    mean(PIPE_TENSOR_ACTIVE), mean(SM_ACTIVE) and mean(DRAM_ACTIVE) over the job's GPUs.

    ## Threshold
    SM_ACTIVE at least 0.8 (NVIDIA's "necessary for effective use") and PIPE_TENSOR_ACTIVE below 0.1: as 1 is a tensor
    instruction at the full rate all the time, a tenth bounds the tensor cores' FLOP utilisation by 10 %. DRAM_ACTIVE
    below 0.6, three quarters of the 0.8 that NVIDIA gives as the most that is reached: above, memory sets the pace.

    ## Could also be
    - decoding or embedding work that memory bounds, where DRAM activity is not exported
    - work without matrix products: data preparation, simulation, sampling
    - small matrix products between long pointwise kernels

    ## Change
    Train and serve in BF16, FP16 or FP8 (or allow TF32), keep dimensions at multiples of 8 (16 bytes), compile pointwise chains.

    ## Next measurement
    The kernels by time in a profiler trace of one step: names with gemm, mma or attention should lead.

    ## References
    - NVIDIA DCGM user guide, feature overview, profiling metrics, tensor activity and memory bandwidth utilisation
    """
    found = [(use.hours, tensor, use) for use in fleet.worked for tensor in _unused(use)]
    if not found:
        return
    hours, tensor, use = max(found, key=lambda each: (each[0], each[2].name))
    dram = use.mean("dram_active")
    memory = "DRAM activity not exported" if dram is None else f"DRAM activity {100 * dram:.0f} %"
    sm = use.mean("sm_active") or 0
    yield Observation(
        message=f"{use.name}: tensor cores active {100 * tensor:.1f} % while SM activity is {100 * sm:.0f} % ({memory})"
        + (f", and {plural(len(found) - 1, 'more job')} like it" if len(found) > 1 else ""),
        measured=100 * tensor,
        unit="% tensor activity",
        where=f"{use.name}: {plural(use.gpus, 'GPU')}, {hours:.1f} GPU-hours",
        saves_at_most_percent=fleet.percent(sum(hours for hours, _, _ in found)),
        rows=worst((hours, f"{use.name}: {100 * tensor:.1f} %, {hours:.1f} GPU-hours") for hours, tensor, use in found),
    )


def _unused(use: Use) -> Iterator[float]:
    tensor, sm, dram = use.mean("tensor_active"), use.mean("sm_active"), use.mean("dram_active")
    if tensor is None or sm is None:
        return
    if sm >= EFFECTIVE and tensor < LOW and (dram or 0) < MEMORY_BOUND:
        yield tensor
