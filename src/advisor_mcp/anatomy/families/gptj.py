"""GPT-J and CodeGen: attention and MLP side by side after one LayerNorm, rotary positions, no biases in attention."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, decoder, four_times, heads_of
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.gpt2 import HEADS, HIDDEN, LAYERS
from advisor_mcp.anatomy.inventory import Architecture

MODEL_TYPES = ("gptj", "codegen")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' GPTJConfig or CodeGenConfig; the head has a bias, tied or not."""
    family = c.text("model_type") or "gptj"
    sizes = four_times(c, heads_of(c, HIDDEN, HEADS), "n_inner") | {"vocab": c.number("vocab_size")}
    fused = "qkv_proj" if family == "codegen" else ""
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    attention = Projected("attn.", names, fused, bias=False, o_bias=False, rope=True)
    layer = Layer(attention, Matrices(names=("fc_in", "fc_out")), ("ln_1",), "parallel")
    tied = c.flag("tie_word_embeddings")
    return decoder(c, family, layer, sizes, c.layers(*LAYERS), tied=tied, head_bias=True)
