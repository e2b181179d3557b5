"""MiniCPM 3: latent attention in a dense decoder, tied."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.deepseek_v3 import DERIVED
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import Gated, Latent
from advisor_mcp.anatomy.variants import decoder, unless_null

MODEL_TYPES = ("minicpm3",)
CLASS = "MiniCPM3Config"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MiniCPM3Config: values as wide as hidden_size / heads unless the file says so."""
    q_rank = c.optional("q_lora_rank")
    if (default := unless_null(c, "q_lora_rank", 768)) is not None:
        q_rank = c.number("q_lora_rank", default=default, of=CLASS)
    h, heads = c.number("hidden_size"), c.number("num_attention_heads")
    value = c.optional("v_head_dim") or c.divides(h, heads, "the heads do not divide hidden_size")
    sizes = {
        "h": h, "qh": heads, "v_dim": value,
        "kv_rank": c.number("kv_lora_rank", default=256, of=CLASS),
        "rope_dim": c.number("qk_rope_head_dim", default=32, of=CLASS),
        "nope_dim": c.number("qk_nope_head_dim", default=64, of=CLASS),
        "ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size"),
    }  # fmt: skip
    if q_rank is not None:
        sizes["q_rank"] = q_rank
    attention = Latent(q_compressed=q_rank is not None, bias=c.flag("attention_bias"))
    feeds, spans = {"dense": Gated(bias=c.flag("mlp_bias"))}, {"full": Span()}
    tied = c.flag("tie_word_embeddings", default=True)
    kinds = ["dense-full"] * c.layers()
    return decoder(c, "minicpm3", kinds, spans, attention, feeds, sizes, tied=tied, derived=DERIVED)
