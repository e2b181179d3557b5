"""Jina Embeddings 3: XLM-RoBERTa's encoder with rotary positions in place of a table."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import Embedding, encoder, only_encoder, task
from advisor_mcp.anatomy.families.bert import axes, blocks, embedded, roberta_heads
from advisor_mcp.anatomy.inventory import Architecture

MODEL_TYPES = ("jina_embeddings_v3",)
LAYER = Layer(Projected(rope=True), Matrices(), ("post_attention_layernorm", "post_mlp_layernorm"), "post")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' JinaEmbeddingsV3Config."""
    only_encoder(c)
    head_dim = c.optional("head_dim")
    sizes = heads_of(c, head_dim=head_dim) | axes(c, "JinaEmbeddingsV3Config", types=1)
    del sizes["positions"]
    tied = c.flag("tie_word_embeddings", default=True)
    heads = roberta_heads("roberta.", tied)
    which = task(c, tuple(name for name in heads if name != "ForMultipleChoice"), "ForMaskedLM")
    prefix = "" if which == "Model" else "roberta."
    tables = embedded(f"{prefix}embeddings.")
    embedding = Embedding((tables.tables[0], tables.tables[2]), tables.norm)
    layers = blocks(c, LAYER, f"{prefix}layers.{{layer}}.")
    return encoder(c, "jina_embeddings_v3", embedding, layers, heads[which], sizes, prefix="", tied=tied)
