"""Qwen1.5-MoE, Qwen2-MoE and Qwen3-MoE: Qwen's attention, routed experts, and in Qwen2 a gated shared expert."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.qwen2 import LAYER_KINDS, attention, windows
from advisor_mcp.anatomy.inventory import Architecture, Span, Terms
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Experts,
    Feed,
    Gated,
    Mixture,
    assemble,
    by_kind,
    embedding_block,
    expert_axes,
    grouped_axes,
    head_block,
    pre_norm_layer,
)
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("qwen2_moe", "qwen3_moe")
SEPARATE = Experts()
JOINED_DERIVED: dict[str, Terms] = {"gate_up": ((2, ("moe_ffn",)),)}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Qwen2MoeConfig or Qwen3MoeConfig."""
    return decoder(c, c.text("model_type") or "qwen3_moe")


def decoder(c: Config, family: str, experts: Experts = SEPARATE) -> Architecture:
    """The decoder of these models, its experts held by the checkpoint as `experts` says."""
    shares = family == "qwen2_moe"
    window, sliding = _windows(c, family)
    sparse = sparse_layers(c)
    kinds = [
        f"{'moe' if moe else 'dense'}{'-sliding' if local else ''}" for moe, local in zip(sparse, sliding, strict=True)
    ]
    sizes = grouped_axes(c) | expert_axes(c, "num_experts") | {"vocab": c.number("vocab_size")}
    if shares:
        sizes["shared_ffn"] = c.number("shared_expert_intermediate_size")
    if not all(sparse):
        sizes["ffn"] = c.number("intermediate_size")
    feeds: dict[str, Feed] = {"dense": Gated(), "moe": mixture(shares, experts)}
    spans = {kind: Span(window=window if kind.endswith("sliding") else None) for kind in kinds}

    def layer(b: Draft, kind: str) -> None:
        pre_norm_layer(b, attention(c, family), feeds[kind.split("-")[0]], spans[kind])

    tied = c.flag("tie_word_embeddings")
    blocks = [embedding_block(), *by_kind(kinds, layer), head_block("model.embed_tokens.weight", tied)]
    derived = GROUPED_DERIVED if experts.layout == "separate" else GROUPED_DERIVED | JOINED_DERIVED
    return assemble(c, family, blocks, sizes, derived, tied, list(spans.values()))


def mixture(shares: bool, experts: Experts = SEPARATE) -> Mixture:
    """Routed experts, and where the family `shares` one expert among all tokens, that expert and its gate."""
    if not shares:
        return Mixture(experts)
    shared = Gated(axis="shared_ffn", role="shared_expert")
    return Mixture(experts, shared, "mlp.shared_expert.", shared_gate="mlp.shared_expert_gate")


def _windows(c: Config, family: str) -> tuple[int | None, list[bool]]:
    layers = c.layers()
    if family != "qwen2_moe" or not c.flag("use_sliding_window"):
        # Qwen3MoeConfig applies its window to every layer
        window, _ = windows(c)
        return window, [window is not None] * layers
    window = c.number("sliding_window", default=4096, of="Qwen2MoeConfig")
    if (kinds := c.layer_kinds("layer_types", layers, LAYER_KINDS)) is not None:
        return window, [kind == "sliding" for kind in kinds]
    last = c.number("max_window_layers", default=28, of="Qwen2MoeConfig", least=0)
    return window, [layer % 2 == 0 and layer < last for layer in range(layers)]


def sparse_layers(c: Config) -> list[bool]:
    """Which layers have experts: every `decoder_sparse_step`-th, unless `mlp_only_layers` names it."""
    step = c.number("decoder_sparse_step", default=1)
    dense = c.entries("mlp_only_layers") or []
    if not all(isinstance(index, int) for index in dense):
        raise UsageError("mlp_only_layers in the configuration must list layer numbers")
    return [layer not in dense and (layer + 1) % step == 0 for layer in range(c.layers())]
