"""ChatGLM2, ChatGLM3 and GLM-4-9B in their own format: q, k and v in one matrix, multi-query groups, gate and up joined."""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block, Tensor, Terms
from advisor_mcp.anatomy.sparse import FUSED_DERIVED, Fused, Joined, Layer, stack
from advisor_mcp.anatomy.variants import Names
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = ("chatglm",)
OF = "ChatGLMConfig"
NAMES = Names(
    "transformer.embedding.word_embeddings.weight",
    "transformer.encoder.layers.{layer}.",
    "transformer.encoder.final_layernorm",
    "transformer.output_layer",
)
DERIVED: dict[str, Terms] = FUSED_DERIVED | {"gate_up": ((2, ("ffn",)),)}


def describe(c: Config) -> Architecture:
    """A ChatGLMConfig of the second or third generation, or of GLM-4-9B: published by THUDM, not in transformers.

    The first ChatGLM-6B (two-dimensional positions, GeLU, no multi-query groups) has other fields and is refused.
    """
    if c.given("inner_hidden_size", "position_encoding_2d"):
        raise CannotAnswer(
            "the first generation of ChatGLM is not described; the second, the third and GLM-4-9B are",
            needs=["a configuration of ChatGLM2 or later"],
        )
    if not c.flag("rmsnorm", default=True) or not c.flag("post_layer_norm", default=True):
        raise CannotAnswer(
            "ChatGLM is described with RMSNorm (rmsnorm) and a norm after the last layer (post_layer_norm)"
        )
    heads = c.number("num_attention_heads", default=32, of=OF)
    grouped = c.number("multi_query_group_num", default=1, of=OF) if c.flag("multi_query_attention") else heads
    c.divides(heads, grouped, "multi_query_group_num does not divide num_attention_heads")
    sizes = {
        "h": c.number("hidden_size"),
        "qh": heads,
        "kvh": grouped,
        "hd": c.number("kv_channels", default=128, of=OF),
        "ffn": c.number("ffn_hidden_size"),
        "vocab": c.number("padded_vocab_size", "vocab_size"),
    }
    bias = c.flag("add_bias_linear")
    feed = Joined("dense_h_to_4h", "dense_4h_to_h", bias)
    table = {"dense": Layer(Fused("self_attention.", bias or c.flag("add_qkv_bias"), bias), feed)}
    layers = c.layers("num_layers", "num_hidden_layers")
    described = stack(c, "chatglm", ["dense"] * layers, table, sizes, DERIVED, names=NAMES)
    # half of each head is rotated, by one stored frequency per pair
    frequencies = Tensor("transformer.rotary_pos_emb.inv_freq", (sizes["hd"] // 4,), "other")
    return replace(described, beside=(Block("rotary frequencies", (0,), (frequencies,)),))
