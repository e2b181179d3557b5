"""Llama 1 to 3 and the models that share its layer: RMSNorm, grouped-query attention with RoPE, SwiGLU, two norms."""

from __future__ import annotations

from collections.abc import Sequence

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Attention,
    Draft,
    Feed,
    Gated,
    Grouped,
    assemble,
    by_kind,
    embedding_block,
    grouped_axes,
    head_block,
    pre_norm_layer,
)

MODEL_TYPES = ("llama",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' LlamaConfig."""
    bias = c.flag("attention_bias")
    return dense(c, "llama", Grouped(q_bias=bias, kv_bias=bias, o_bias=bias), Gated(bias=c.flag("mlp_bias")))


def dense(
    c: Config, family: str, attention: Attention, mlp: Feed,
    window: int | None = None, sliding: Sequence[bool] | None = None, head_dim: int | None = None,
) -> Architecture:  # fmt: skip
    """A decoder of pre-norm layers; `sliding` marks those that see only the last `window` tokens (absent: all, if any)."""
    marked = sliding if sliding is not None else [window is not None] * c.layers()
    kinds = ["sliding" if mark else "full" for mark in marked]
    spans = {"full": Span(), "sliding": Span(window=window)}

    def layer(b: Draft, kind: str) -> None:
        pre_norm_layer(b, attention, mlp, spans[kind])

    tied = c.flag("tie_word_embeddings")
    sizes = grouped_axes(c, head_dim=head_dim) | {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    blocks = [embedding_block(), *by_kind(kinds, layer), head_block("model.embed_tokens.weight", tied)]
    return assemble(c, family, blocks, sizes, GROUPED_DERIVED, tied, [spans[kind] for kind in dict.fromkeys(kinds)])
