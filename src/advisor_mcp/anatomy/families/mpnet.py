"""MPNet: RoBERTa's encoder without token types, and one table of biases by distance for all layers."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import Embedding, encoder, only_encoder, task
from advisor_mcp.anatomy.families.bert import axes, blocks, embedded, roberta_heads
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.parts import Draft

MODEL_TYPES = ("mpnet",)
LAYER = Layer(
    Projected("attention.attn.", ("q", "k", "v", "o")),
    Matrices("", ("intermediate.dense", "output.dense")),
    ("attention.LayerNorm", "output.LayerNorm"),
    "post",
)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MPNetConfig."""
    only_encoder(c)
    sizes = heads_of(c) | axes(c, "MPNetConfig")
    del sizes["types"]
    sizes["buckets"] = c.number("relative_attention_num_buckets", default=32, of="MPNetConfig")
    tied = c.flag("tie_word_embeddings", default=True)
    heads = roberta_heads("mpnet.", tied)
    which = task(c, tuple(heads), "ForMaskedLM")
    prefix = "" if which == "Model" else "mpnet."
    layers = [_distances(f"{prefix}encoder."), *blocks(c, LAYER, f"{prefix}encoder.layer.{{layer}}.")]
    return encoder(c, "mpnet", _embedding(f"{prefix}embeddings."), layers, heads[which], sizes, prefix="", tied=tied)


def _embedding(prefix: str) -> Embedding:
    both = embedded(prefix)
    return Embedding(both.tables[:2], both.norm)


def _distances(prefix: str) -> Block:
    b = Draft("embedding", prefix)
    table = b.tensor("relative_attention_bias.weight", ("buckets", "qh"), "position_embedding")
    b.op("lookup", (), "biases", ("qh", "s", "s"), weights=[table])
    return b.block((0,))
