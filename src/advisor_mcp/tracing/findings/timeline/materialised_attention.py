"""The finding `materialised-attention`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advisor_mcp.findings import Observation
from advisor_mcp.tracing.case import MS, Case
from advisor_mcp.tracing.families import TIMELINE

SHARE = 10.0


@TIMELINE.kind("materialised-attention")
def materialised_attention(case: Case) -> Iterator[Observation]:
    """Attention writes its whole score matrix to memory and reads it back for the softmax, in place of a fused kernel.

    ## Formula
    exposed time of softmax kernels / span, where fused attention kernels take less time than they do

    ## Threshold
    10 % of kernel time (chosen here: with fused attention only the loss has a softmax)

    ## Could also be
    - the softmax of a loss over a large vocabulary: the operator named below is then log_softmax or cross_entropy
    - attention weights that somebody asked for (output_attentions=True), which forbids the fused kernel

    ## Change
    torch.nn.functional.scaled_dot_product_attention, or attn_implementation="sdpa" (flash_attention_2, flash_attention_3) in transformers;
    an arbitrary mask may keep it from the flash kernel.

    ## Next measurement
    The kernels of the same step with sdpa: flash_fwd or fmha in place of softmax.

    ## References
    - arXiv:2205.14135 (FlashAttention)
    - https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
    """
    softmax = [one for one in case.kernels if one.kind == "softmax"]
    fused = sum(one.duration for one in case.kernels if one.kind == "attention")
    share = case.of_kernels(softmax)
    if share < SHARE or fused > sum(one.duration for one in softmax):
        return
    names = {one.name for one in softmax}
    events = np.flatnonzero(
        np.isin(case.events.name, [i for i, name in enumerate(case.timeline.names) if name in names])
    )
    operators = case.operators(events)
    if operators and all("log_softmax" in name or "cross_entropy" in name for name in operators):
        return
    exposed = case.exposed(softmax)
    if not case.matters(exposed):
        return
    yield Observation(
        message=f"{share:.1f} % of kernel time ({exposed / MS:,.1f} ms of the span) are softmax kernels on a materialised score "
        f"matrix{', launched by ' + ', '.join(operators) if operators else ''}.",
        measured=share,
        unit="percent of kernel time",
        saves_at_most_ms=exposed / MS,
        saves_at_most_percent=case.percent(exposed),
        rows=tuple(f"{one.duration / MS:,.1f} ms in {one.count} x {one.short}" for one in softmax[:5]),
    )
