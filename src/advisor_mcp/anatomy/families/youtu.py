"""Youtu-LLM: DeepSeek's latent attention in a small dense decoder whose head is the embedding."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.deepseek_v3 import LATENT
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated, Latent
from advisor_mcp.anatomy.sparse import LATENT_DERIVED, Filled, Layer, latent_axes, stack

MODEL_TYPES = ("youtu",)
DEFAULTS = LATENT | {"q_lora_rank": 1536, "num_attention_heads": 16}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' YoutuConfig (5.23.0)."""
    f = Filled(c, "YoutuConfig", DEFAULTS)
    q_rank = f.unless_null("q_lora_rank")
    sizes = latent_axes(f, q_rank) | {"vocab": f.number("vocab_size"), "ffn": f.number("intermediate_size")}
    attention = Latent(q_compressed=q_rank is not None, bias=f.flag("attention_bias"))
    table = {"dense": Layer(attention, Gated())}
    tied = f.flag("tie_word_embeddings", default=True)
    return stack(f, "youtu", ["dense"] * f.layers(), table, sizes, LATENT_DERIVED, tied=tied)
