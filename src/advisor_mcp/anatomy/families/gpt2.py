"""GPT-2: learned positions, LayerNorm, one q-k-v matrix stored (in, out), a GELU MLP of two matrices, biases everywhere."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import (
    Layer,
    Matrices,
    Names,
    Projected,
    decoder,
    four_times,
    heads_of,
    without_cross_attention,
)
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture

MODEL_TYPES = ("gpt2", "gpt_bigcode")
HIDDEN, HEADS, LAYERS = ("hidden_size", "n_embd"), ("num_attention_heads", "n_head"), ("num_hidden_layers", "n_layer")
POSITIONS = ("max_position_embeddings", "n_positions")
NAMES = Names(positions="transformer.wpe.weight")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' GPT2Config, or of GPTBigCodeConfig (StarCoder 1), whose heads may share one K and V."""
    family = c.text("model_type") or "gpt2"
    bigcode = family == "gpt_bigcode"
    without_cross_attention(c)
    shared = bigcode and c.flag("multi_query", default=True)
    of = "GPTBigCodeConfig" if bigcode else "GPT2Config"
    sizes = four_times(c, heads_of(c, HIDDEN, HEADS, 1 if shared else None), "n_inner")
    sizes |= {"vocab": c.number("vocab_size"), "positions": c.number(*POSITIONS, default=1024, of=of)}
    layer = Layer(
        Projected("attn.", ("", "", "", "c_proj"), fused="c_attn", transposed=not bigcode),
        Matrices(names=("c_fc", "c_proj"), transposed=not bigcode),
        ("ln_1", "ln_2"),
    )
    tied = c.flag("tie_word_embeddings", default=True)
    return decoder(c, family, layer, sizes, c.layers(*LAYERS), names=NAMES, tied=tied)
