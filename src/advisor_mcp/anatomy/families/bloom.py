"""BLOOM: ALiBi in place of positions, a LayerNorm after the embedding, one q-k-v matrix, biases everywhere."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, heads_of, used
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block, Span
from advisor_mcp.anatomy.parts import RESIDUAL, TOKENS, Draft, assemble, by_kind, head_block

MODEL_TYPES = ("bloom",)
ROOT = "transformer."
LAYER = Layer(
    Projected("self_attention.", ("", "", "", "dense"), "query_key_value"),
    Matrices(names=("dense_h_to_4h", "dense_4h_to_h")),
    ("input_layernorm", "post_attention_layernorm"),
)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' BloomConfig; its files call the width n_embed or hidden_size."""
    sizes = heads_of(c, ("n_embed", "hidden_size"), ("num_attention_heads", "n_head"))
    sizes |= {"ffn": 4 * sizes["h"], "vocab": c.number("vocab_size")}
    tied = c.flag("tie_word_embeddings", default=True)
    layers = c.layers("num_hidden_layers", "n_layer")
    blocks = [
        _embedding(),
        *by_kind(["full"] * layers, lambda b, _: LAYER.write(b, Span()), f"{ROOT}h.{{layer}}."),
        head_block(f"{ROOT}word_embeddings.weight", tied, f"{ROOT}ln_f", "layer"),
    ]
    return assemble(c, "bloom", blocks, sizes, used(sizes), tied)


def _embedding() -> Block:
    b = Draft("embedding", ROOT)
    b.value("ids", TOKENS, "int")
    table = [b.tensor("word_embeddings.weight", ("vocab", "h"), "token_embedding")]
    b.op("lookup", ("ids",), "e", RESIDUAL, weights=table)
    b.norm("word_embeddings_layernorm", "e", "x", "layer")
    return b.block((0,))
