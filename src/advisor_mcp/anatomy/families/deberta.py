"""DeBERTa 1: attention over content and relative positions, with queries, keys and values from one matrix without biases."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.classics import Layer, Matrices, heads_of
from advisor_mcp.anatomy.config import LARGEST_FIELD, Config
from advisor_mcp.anatomy.encoders import encoder, only_encoder, task
from advisor_mcp.anatomy.families.bert import blocks
from advisor_mcp.anatomy.families.deberta_v2 import embedding_of, heads_for, position_terms
from advisor_mcp.anatomy.inventory import Architecture, Axis, Block, Span, Terms
from advisor_mcp.anatomy.parts import Draft, attend
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = ("deberta",)
SELF = "attention.self."


@dataclass(frozen=True, slots=True)
class Disentangled:
    """Attention to content and, by `terms`, of content to positions ("c2p") and of positions to content ("p2c")."""

    terms: tuple[str, ...]

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the joint projection, the attention, the products with positions, and the output projection."""
        b.linear(f"{SELF}in_proj", source, "qkv.raw", ("qkv", "h"), "attention")
        biases = [b.tensor(f"{SELF}{name}_bias", ("q",), "attention") for name in ("q", "v")]
        b.op("add", ("qkv.raw",), "qkv", (*b.tokens, "qkv"), weights=biases)
        attend(b, span, reads=("qkv",))
        if "c2p" in self.terms:
            self._term(b, "c2p", "pos_proj", False)
        if "p2c" in self.terms:
            self._term(b, "p2c", "pos_q_proj", True)
        b.linear("attention.output.dense", "att", "o", ("h", "q"), "attention", True)

    def _term(self, b: Draft, term: str, name: str, bias: bool) -> None:
        # distances up to the sequence's length on either side: 2 s rows of the table
        weights = [b.tensor(f"{SELF}{name}.weight", ("q", "h"), "attention", matrix=True)]
        if bias:
            weights.append(b.tensor(f"{SELF}{name}.bias", ("q",), "attention"))
        b.op("linear", ("positions",), f"{term}.positions", (2, "s", "q"), ((4, ("s", "h", "q")),), weights)
        flops: Terms = ((4, (*b.tokens, "s", "qh", "hd")),)
        b.op("position_scores", ("qkv", f"{term}.positions"), term, (*b.tokens, "qh", 2, "s"), flops)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' DebertaConfig; products with positions are those of a sequence within the table."""
    only_encoder(c)
    if c.flag("talking_head"):
        raise CannotAnswer("talking_head is set, and attention with talking heads is not described for DeBERTa")
    sizes = heads_of(c) | {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    tied = c.flag("tie_word_embeddings", default=True)
    width: Axis = "h"
    if c.given("embedding_size") and c.number("embedding_size") != sizes["h"]:
        width, sizes["embed"] = "embed", c.number("embedding_size")
    heads = {name: head for name, head in heads_for(c, tied, width).items() if name != "ForMultipleChoice"}
    which = task(c, tuple(heads), "ForMaskedLM")
    prefix = "" if which == "Model" else "deberta."
    relative = c.flag("relative_attention")
    layer = Layer(
        Disentangled(position_terms(c) if relative else ()), Matrices("", ("intermediate.dense", "output.dense")),
        ("attention.output.LayerNorm", "output.LayerNorm"), "post",
    )  # fmt: skip
    embedding = embedding_of(c, sizes, f"{prefix}embeddings.", width, "DebertaConfig")
    layers = blocks(c, layer, f"{prefix}encoder.layer.{{layer}}.")
    if relative:
        layers = [_positions(c, sizes, f"{prefix}encoder."), *layers]
    return encoder(c, "deberta", embedding, layers, heads[which], sizes, prefix="", tied=tied)


def _positions(c: Config, sizes: dict[str, int], prefix: str) -> Block:
    """The one table of relative positions, with as many rows on either side as max_relative_positions or positions."""
    reach = c.number("max_relative_positions", default=-1, least=-LARGEST_FIELD)
    if reach < 1:
        reach = c.number("max_position_embeddings", default=512, of="DebertaConfig")
    c.notes.append(f"products with relative positions are counted for sequences of at most {reach} tokens")
    sizes["distances"] = 2 * reach
    b = Draft("embedding", prefix)
    table = b.tensor("rel_embeddings.weight", ("distances", "h"), "position_embedding")
    b.op("lookup", (), "positions", ("distances", "h"), weights=[table])
    return b.block((0,))
