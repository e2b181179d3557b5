"""DBRX: one fused q-k-v matrix, LayerNorm without bias, and fine-grained experts stacked into three matrices a layer."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.variants import Heads, Names, Order, StackedExperts, decoder
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("dbrx",)
ORDER = Order("norm_attn_norm.norm_1", "", "norm_attn_norm.norm_2", "", "layer_no_bias")
NAMES = Names("transformer.wte.weight", "transformer.blocks.{layer}.", "transformer.norm_f")
ATTENTION = Heads(
    fused="Wqkv", names=("q_proj", "k_proj", "v_proj", "out_proj"), prefix="norm_attn_norm.attn.",
)  # fmt: skip
MATRICES = ("ffn.experts.mlp.w1", "ffn.experts.mlp.v1", "ffn.experts.mlp.w2")
EXPERTS = StackedExperts(router="ffn.router.layer", matrices=MATRICES, down_transposed=True)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' DbrxConfig, whose class refuses tied embeddings."""
    if c.flag("tie_word_embeddings"):
        raise UsageError("tie_word_embeddings is true in the configuration, which DBRX does not support")
    h, heads = c.number("d_model", "hidden_size"), c.number("n_heads", "num_attention_heads")
    attention = c.part("attn_config") or Config({}, "attn_config.", c.notes)
    kv = attention.number("kv_n_heads", default=1, of="DbrxAttentionConfig")
    c.divides(heads, kv, "kv_n_heads does not divide n_heads")
    sizes = {"h": h, "qh": heads, "kvh": kv, "hd": c.divides(h, heads, "n_heads does not divide d_model")}
    sizes |= _experts(c) | {"vocab": c.number("vocab_size")}
    kinds = ["moe-full"] * c.layers("n_layers", "num_hidden_layers")
    return decoder(c, "dbrx", kinds, {"full": Span()}, ATTENTION, {"moe": EXPERTS}, sizes, order=ORDER, names=NAMES)


def _experts(c: Config) -> dict[str, int]:
    feed, of = c.part("ffn_config") or Config({}, "ffn_config.", c.notes), "DbrxFFNConfig"
    number = feed.number("moe_num_experts", default=4, of=of)
    used = feed.number("moe_top_k", default=1, of=of)
    if used > number:
        raise UsageError(f"the configuration contradicts itself: moe_top_k {used} exceeds its {number} experts")
    width = feed.number("ffn_hidden_size", default=3584, of=of)
    return {"expert": number, "choices": number, "topk": used, "moe_ffn": width}
