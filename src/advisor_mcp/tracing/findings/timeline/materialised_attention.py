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
    time of softmax kernels / kernel time, where fused attention kernels take less time than they do

    ## Threshold
    10 % of kernel time, and 1 % of the span exposed (both chosen here)

    ## Could also be
    - the softmax of a loss over a large vocabulary: the operator named below is then log_softmax or cross_entropy
    - attention weights that somebody asked for: transformers allows output_attentions=True with "eager" only

    ## Change
    torch.nn.functional.scaled_dot_product_attention, or attn_implementation="sdpa" ("flash_attention_2", "_3", "_4") in transformers;
    an arbitrary mask keeps sdpa from the flash kernel, but not from the memory-efficient one.

    ## Next measurement
    The kernels of the same step with sdpa: flash_fwd or fmha in place of softmax.

    ## References
    - arXiv:2205.14135 (FlashAttention)
    - https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
    - transformers 5.23: configuration_utils.py (output_attentions), modeling_utils.py (attn_implementation)
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
