"""ByteDance's Seed-OSS: Llama's layer with biased q, k and v and a bias of its own choice on the output."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import GROUPED_DERIVED, Gated, Grouped, grouped_axes
from advisor_mcp.anatomy.sparse import Filled, Layer, stack

MODEL_TYPES = ("seed_oss",)
DEFAULTS = {"num_attention_heads": 80, "num_key_value_heads": 8, "head_dim": 128}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' SeedOssConfig (5.23.0)."""
    f = Filled(c, "SeedOssConfig", DEFAULTS)
    bias = f.flag("attention_bias", default=True)
    attention = Grouped(q_bias=bias, kv_bias=bias, o_bias=f.flag("attention_out_bias"))
    sizes = grouped_axes(f, head_dim=DEFAULTS["head_dim"]) | {
        "ffn": f.number("intermediate_size"),
        "vocab": f.number("vocab_size"),
    }
    table = {"dense": Layer(attention, Gated(bias=f.flag("mlp_bias")))}
    return stack(c, "seed_oss", ["dense"] * f.layers(), table, sizes, GROUPED_DERIVED)
