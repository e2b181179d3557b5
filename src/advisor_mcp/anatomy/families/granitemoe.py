"""Granite 3 mixtures: stacked experts in every layer, with a shared MLP in some releases."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.granite import attention, windows
from advisor_mcp.anatomy.inventory import Architecture, Span, Terms
from advisor_mcp.anatomy.parts import Draft, expert_axes
from advisor_mcp.anatomy.variants import StackedExperts, axes_of, decoder, spans_of

MODEL_TYPES = ("granitemoe", "granitemoeshared", "granitemoe_swa")
EXPERTS = StackedExperts(
    router="block_sparse_moe.router.layer",
    matrices=("block_sparse_moe.input_linear.weight", "block_sparse_moe.output_linear.weight"),
)
WINDOWED_EXPERTS = StackedExperts(
    router="block_sparse_moe.router",
    matrices=("block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.experts.down_proj"),
)
SHARED_DERIVED: dict[str, Terms] = {"shared_gate_up": ((2, ("shared_ffn",)),)}


@dataclass(frozen=True, slots=True)
class WithShared:
    """Granite's experts and the MLP that every token passes, whose gate and up matrices are joined."""

    routed: StackedExperts

    def write(self, b: Draft, source: str) -> None:
        """Add both and their sum."""
        self.routed.write(b, source, "routed")
        b.linear("shared_mlp.input_linear", source, "shared_gate_up", ("shared_gate_up", "h"), "shared_expert")
        b.op("gate", ("shared_gate_up",), "shared_act", (*b.tokens, "shared_ffn"))
        b.linear("shared_mlp.output_linear", "shared_act", "shared", ("h", "shared_ffn"), "shared_expert")
        b.add("routed", "shared", "y")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' GraniteMoeConfig, GraniteMoeSharedConfig or GraniteMoeSWAConfig."""
    family = c.text("model_type") or "granitemoe"
    sizes = axes_of(c) | expert_axes(c, "num_local_experts", "intermediate_size")
    shared = 0 if family == "granitemoe" else c.number("shared_intermediate_size", default=0, least=0)
    if shared:
        sizes["shared_ffn"] = shared
    windowed = family == "granitemoe_swa"
    spans = spans_of(c, 128, "GraniteMoeSWAConfig") if windowed else {"full": Span()}
    kinds = [f"moe-{reach}" for reach in (windows(c) if windowed else ["full"] * c.layers())]
    experts = WINDOWED_EXPERTS if windowed else EXPERTS
    feeds = {"moe": WithShared(experts) if shared else experts}
    heads = attention(c, sinks=windowed)
    tied, derived = c.flag("tie_word_embeddings"), SHARED_DERIVED if shared else {}
    return decoder(c, family, kinds, spans, heads, feeds, sizes, tied=tied, derived=derived)
