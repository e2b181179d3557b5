"""Gemma 2 and 3: four norms a layer, sliding and full attention in turn; Gemma 3 normalises q and k and may see images."""

from __future__ import annotations

from advisor_mcp.anatomy import towers
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block, Span
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Gated,
    Grouped,
    assemble,
    by_kind,
    embedding_block,
    grouped_axes,
    head_block,
    sandwich_layer,
)

MODEL_TYPES = ("gemma2", "gemma3_text", "gemma3")
LAYER_KINDS = {"full_attention": "full", "sliding_attention": "sliding"}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Gemma2Config, Gemma3TextConfig or Gemma3Config (text and vision)."""
    family = c.text("model_type") or "gemma2"
    if family != "gemma3":
        return _decoder(c, family, "model.", c, [], {})
    text = c.part("text_config") or c
    vision = c.part("vision_config")
    sizes: dict[str, int] = {}
    blocks = towers.siglip(vision, text.number("hidden_size"), sizes) if vision else []
    return _decoder(text, family, "language_model.model." if vision else "model.", c, blocks, sizes)


def _decoder(
    c: Config, family: str, root: str, top: Config, before: list[Block], sizes: dict[str, int]
) -> Architecture:
    defaults = _Defaults.of(family)
    bias = c.flag("attention_bias")
    attention = Grouped(q_bias=bias, kv_bias=bias, o_bias=bias, qk_norm=family != "gemma2")
    kinds = _kinds(c, defaults.pattern)
    spans = {"full": Span(), "sliding": Span(window=c.number("sliding_window", default=4096, of=defaults.name))}

    def layer(b: Draft, kind: str) -> None:
        sandwich_layer(b, attention, Gated(), spans[kind])

    tied = top.flag("tie_word_embeddings", default=c.flag("tie_word_embeddings", default=True))
    axes = grouped_axes(c, defaults.name, defaults.heads, defaults.kv_heads, head_dim=256)
    axes |= {
        "ffn": c.number("intermediate_size"),
        "vocab": c.number("vocab_size", default=defaults.vocab, of=defaults.name),
    }
    embedding = f"{root}embed_tokens.weight"
    decoder = by_kind(kinds, layer, f"{root}layers.{{layer}}.")
    blocks = [*before, embedding_block(embedding), *decoder, head_block(embedding, tied, f"{root}norm")]
    used = [spans[kind] for kind in dict.fromkeys(kinds)]
    return assemble(c, family, blocks, sizes | axes, GROUPED_DERIVED, tied, used)


class _Defaults:
    """What transformers 5.23.0 fills in where a file leaves it out."""

    def __init__(self, name: str, heads: int, kv_heads: int, vocab: int, pattern: int) -> None:
        self.name, self.heads, self.kv_heads, self.vocab, self.pattern = name, heads, kv_heads, vocab, pattern

    @classmethod
    def of(cls, family: str) -> _Defaults:
        if family == "gemma2":
            return cls("Gemma2Config", 8, 4, 256_000, 2)
        return cls("Gemma3TextConfig", 8, 4, 262_208, 6)


def _kinds(c: Config, pattern: int) -> list[str]:
    """Every `pattern`-th layer sees everything; older files give the pattern, newer ones the list."""
    layers = c.layers()
    listed = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    if listed is not None:
        return listed
    every = c.number("sliding_window_pattern", "_sliding_window_pattern", default=pattern)
    return ["sliding" if (index + 1) % every else "full" for index in range(layers)]
