"""MPT: LayerNorm, one fused q-k-v matrix, a plain GELU MLP, learned positions unless ALiBi or RoPE replaces them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span, Terms
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Norm,
    Plain,
    assemble,
    attend,
    by_kind,
    embedding_block,
    head_block,
    kv_cache,
)
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("mpt",)
DERIVED: dict[str, Terms] = GROUPED_DERIVED | {"qkv": ((1, ("qh", "hd")), (2, ("kvh", "hd")))}


@dataclass(frozen=True, slots=True)
class Fused:
    """Attention whose queries, keys and values come from one matrix."""

    bias: bool
    qk_norm: bool

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the fused projection, optional norms over the full width, the attention and its cache."""
        b.linear("attn.Wqkv", source, "qkv", ("qkv", "h"), "attention", self.bias)
        if self.qk_norm:
            b.norm("attn.q_ln", "qkv", "qn", "layer" if self.bias else "layer_no_bias", "q", "qk_norm")
            b.norm("attn.k_ln", "qkv", "kn", "layer" if self.bias else "layer_no_bias", "kv", "qk_norm")
        attend(b, span, reads=("qkv",))
        b.caches.append(kv_cache(span, ((2, ("kvh", "hd")),)))
        b.linear("attn.out_proj", "att", "o", ("h", "q"), "attention", self.bias)


def describe(c: Config) -> Architecture:
    """A configuration of llm-foundry's MPTConfig (which drops learned positions under ALiBi or RoPE)."""
    attention = c.part("attn_config") or Config({}, "attn_config.", c.notes)
    bias = not c.flag("no_bias")
    norm: Norm = "layer" if bias else "layer_no_bias"
    sizes = _axes(c, attention)
    positions = c.flag("learned_pos_emb", default=True) and not attention.flag("alibi") and not attention.flag("rope")
    if positions:
        sizes["positions"] = c.number("max_seq_len")
    fused = Fused(bias, attention.flag("qk_ln"))

    def layer(b: Draft, kind: str) -> None:
        b.norm("norm_1", "x", "a", norm)
        fused.write(b, "a", Span())
        b.add("x", "o", "r")
        b.norm("norm_2", "r", "m", norm)
        Plain(bias=bias).write(b, "m", prefix="ffn.")
        b.add("r", "y", "out")

    tied = c.flag("tie_word_embeddings", default=True)
    wte = "transformer.wte.weight"
    blocks = [
        embedding_block(wte, "transformer.wpe.weight" if positions else None),
        *by_kind(["full"] * c.layers("n_layers"), layer, "transformer.blocks.{layer}."),
        head_block(wte, tied, "transformer.norm_f", norm),
    ]
    return assemble(c, "mpt", blocks, sizes, DERIVED, tied)


def _axes(c: Config, attention: Config) -> dict[str, int]:
    h, heads = c.number("d_model"), c.number("n_heads")
    kind = attention.text("attn_type") or "multihead_attention"
    kv = {"multihead_attention": heads, "multiquery_attention": 1}.get(kind) or attention.number("kv_n_heads")
    if kind not in ("multihead_attention", "multiquery_attention", "grouped_query_attention"):
        raise CannotAnswer(f"attn_config.attn_type {shown(kind)} is not described for MPT")
    c.divides(heads, kv, "kv_n_heads does not divide n_heads")
    hd = c.divides(h, heads, "n_heads does not divide d_model")
    return {"h": h, "qh": heads, "kvh": kv, "hd": hd, "ffn": _width(c, h), "vocab": c.number("vocab_size")}


def _width(c: Config, h: int) -> int:
    feed = c.part("ffn_config")
    if feed is not None and (given := feed.optional("ffn_hidden_size")):
        return given
    ratio = c.data.get("expansion_ratio", 4)
    if (
        isinstance(ratio, bool)
        or not isinstance(ratio, int | float)
        or not 0 < ratio < 1e6
        or (Fraction(ratio) * h).denominator != 1
    ):
        raise UsageError(
            f"expansion_ratio in the configuration must make a whole width of d_model {h}, not {shown(ratio)}"
        )
    return int(Fraction(ratio) * h)
