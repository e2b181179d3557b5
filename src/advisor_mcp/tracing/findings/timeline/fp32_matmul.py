"""The finding `fp32-matmul`."""

from __future__ import annotations

from collections.abc import Iterator

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE
from advisor_mcp.tracing.kernels import is_fp32_product

SHARE = 10.0
TF32 = (8, 0)
TENSOR_CORES = (7, 0)


@TIMELINE.kind("fp32-matmul")
def fp32_matmul(case: Case) -> Iterator[Observation]:
    """Products and convolutions run on the fp32 units although the device has tensor cores.

    From compute capability 8.0 on one setting (TF32) puts them there: torch 2.13 has it on for convolutions and off for products. Tensor
    cores of 7.x know no other floating type than fp16, so that there it takes mixed precision and is told as an opportunity.

    ## Formula
    time of kernels that compute fp32 products without tensor cores (sgemm, ffma, scudnn, simt, ...) / kernel time

    ## Threshold
    10 % of kernel time, and 1 % of the span exposed (both chosen here)

    ## Could also be
    - fp32 on purpose, as in a reference run or a solver that needs it

    ## Change
    torch.backends.cuda.matmul.fp32_precision = "tf32" and torch.backends.cudnn.conv.fp32_precision = "tf32" (not mixed with the
    older allow_tf32), or bf16 under torch.autocast.

    ## Next measurement
    The same step under torch.autocast("cuda", dtype=torch.bfloat16), with the loss compared.

    ## References
    - https://docs.pytorch.org/docs/stable/notes/cuda.html (TensorFloat-32)
    - pytorch/kineto@041e7ce: tb_plugin/torch_tb_profiler/profiler/tensor_core.py
    """
    chosen = [one for one in case.kernels if is_fp32_product(one.name)]
    share = case.of_kernels(chosen)
    capability = case.facts.capability
    if share < SHARE or (capability is not None and capability < TENSOR_CORES):
        return
    exposed = case.exposed(chosen)
    if not case.matters(exposed):
        return
    before = capability is not None and capability < TF32
    yield Observation(
        message=f"{share:.1f} % of kernel time are fp32 products without tensor cores ({exposed / MS:,.1f} ms of the span), most of it "
        f"{chosen[0].short}.",
        measured=share,
        unit="percent of kernel time",
        saves_at_most_ms=exposed / MS,
        saves_at_most_percent=case.percent(exposed),
        change="Train or serve in fp16 under torch.autocast (this device has tensor cores for fp16 only)."
        if before
        else None,
        rows=tuple(f"{one.duration / MS:,.1f} ms in {one.count} x {one.short}" for one in chosen[:5]),
        severity="info" if before else None,
    )
