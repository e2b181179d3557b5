"""Mixtral: Mistral's attention and eight (or more) experts in every layer."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Experts,
    Grouped,
    Mixture,
    assemble,
    by_kind,
    embedding_block,
    expert_axes,
    grouped_axes,
    head_block,
    pre_norm_layer,
)

MODEL_TYPES = ("mixtral",)
EXPERTS = Experts(router="block_sparse_moe.gate", prefix="block_sparse_moe.experts.{expert}.", names=("w1", "w3", "w2"))


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MixtralConfig; its intermediate_size is the width of one expert."""
    span = Span(window=c.optional("sliding_window"))

    def layer(b: Draft, kind: str) -> None:
        pre_norm_layer(b, Grouped(), Mixture(EXPERTS), span)

    tied = c.flag("tie_word_embeddings")
    sizes = (
        grouped_axes(c)
        | expert_axes(c, "num_local_experts", width="intermediate_size")
        | {"vocab": c.number("vocab_size")}
    )
    blocks = [embedding_block(), *by_kind(["moe"] * c.layers(), layer), head_block("model.embed_tokens.weight", tied)]
    return assemble(c, "mixtral", blocks, sizes, GROUPED_DERIVED, tied, [span])
