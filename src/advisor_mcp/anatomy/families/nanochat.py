"""nanochat: norms without weights everywhere (queries and keys too), one more after the embedding, and a plain MLP."""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.parts import RESIDUAL, TOKENS, Draft, Plain
from advisor_mcp.anatomy.variants import Heads, Order, axes_of, dense, with_ffn

MODEL_TYPES = ("nanochat",)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' NanoChatConfig (5.23.0)."""
    bias = c.flag("attention_bias")
    attention = Heads(q_bias=bias, kv_bias=bias, o_bias=bias, qk_norm="bare")
    feed = Plain(names=("fc1", "fc2"), bias=False)
    sizes, tied = with_ffn(c, axes_of(c)), c.flag("tie_word_embeddings")
    found = dense(c, "nanochat", attention, feed, sizes, order=Order(kind="none"), tied=tied)
    return replace(found, blocks=(normed_embedding("model.norm"), *found.blocks[1:]))


def normed_embedding(norm: str) -> Block:
    """Token embeddings, and the norm without weights that follows them."""
    b = Draft("embedding")
    b.value("ids", TOKENS, "int")
    table = b.tensor("model.embed_tokens.weight", ("vocab", "h"), "token_embedding")
    b.op("lookup", ("ids",), "e", RESIDUAL, weights=[table])
    b.norm(norm, "e", "x", "none")
    return b.block((0,))
