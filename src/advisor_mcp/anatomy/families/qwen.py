"""Qwen 1: Llama's layer with one biased q-k-v matrix and a configured width that is twice the width of the MLP."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span, Terms
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Gated,
    assemble,
    attend,
    by_kind,
    embedding_block,
    head_block,
    kv_cache,
)
from advisor_mcp.errors import CannotAnswer, UsageError

MODEL_TYPES = ("qwen",)
DERIVED: dict[str, Terms] = GROUPED_DERIVED | {"qkv": ((3, ("qh", "hd")),)}
TOWERS = ("visual", "audio")


@dataclass(frozen=True, slots=True)
class Joined:
    """Multi-head attention whose queries, keys and values come from one matrix, biased whatever `no_bias` says."""

    o_bias: bool

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the joined projection, the attention and its cache."""
        b.linear("attn.c_attn", source, "qkv", ("qkv", "h"), "attention", bias=True)
        b.op("rope", ("qkv",), "qkv_r", (*b.tokens, "qkv"))
        attend(b, span, reads=("qkv_r",))
        b.caches.append(kv_cache(span, ((2, ("kvh", "hd")),)))
        b.linear("attn.c_proj", "att", "o", ("h", "q"), "attention", self.o_bias)


def describe(c: Config) -> Architecture:
    """A configuration of QWenConfig, which Qwen 1 ships with its checkpoints (Qwen-VL and Qwen-Audio are not described)."""
    for tower in TOWERS:
        if c.part(tower) is not None:
            raise CannotAnswer(f"the configuration has {tower}, a tower of Qwen 1 that is not described")
    bias = not c.flag("no_bias", default=True)
    attention, mlp = Joined(bias), Gated(names=("w2", "w1", "c_proj"), bias=bias)

    def layer(b: Draft, kind: str) -> None:
        b.norm("ln_1", "x", "a")
        attention.write(b, "a", Span())
        b.add("x", "o", "r")
        b.norm("ln_2", "r", "m")
        mlp.write(b, "m")
        b.add("r", "y", "out")

    tied = c.flag("tie_word_embeddings")
    wte = "transformer.wte.weight"
    blocks = [
        embedding_block(wte),
        *by_kind(["full"] * c.layers("num_hidden_layers", "n_layer"), layer, "transformer.h.{layer}."),
        head_block(wte, tied, "transformer.ln_f"),
    ]
    return assemble(c, "qwen", blocks, _axes(c), DERIVED, tied)


def _axes(c: Config) -> dict[str, int]:
    h, heads = c.number("hidden_size", "n_embd"), c.number("num_attention_heads", "n_head")
    both = c.number("intermediate_size", "ffn_hidden_size", default=22016, of="QWenConfig", least=2)
    hd = c.number("kv_channels", default=128, of="QWenConfig")
    vocab = c.number("vocab_size")
    if heads * hd != h:
        raise UsageError(
            f"the configuration contradicts itself: {heads} heads of kv_channels {hd} do not make hidden_size {h}"
        )
    # each of the two branches has half the configured width
    return {"h": h, "qh": heads, "kvh": heads, "hd": hd, "ffn": both // 2, "vocab": vocab}
