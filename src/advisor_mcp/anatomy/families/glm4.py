"""GLM-4 (the Transformers releases of 9B and 32B): biased q, k, v, gate and up in one matrix, and in GLM-4-0414 four norms."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Terms
from advisor_mcp.anatomy.parts import GROUPED_DERIVED, Grouped, grouped_axes
from advisor_mcp.anatomy.sparse import Filled, Joined, Layer, stack
from advisor_mcp.anatomy.variants import PRE_NORM, Order

MODEL_TYPES = ("glm", "glm4")
DEFAULTS = {"num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128}
DERIVED: dict[str, Terms] = GROUPED_DERIVED | {"gate_up": ((2, ("ffn",)),)}
FOUR_NORMS = Order(after_attention="post_self_attn_layernorm", after_feed="post_mlp_layernorm")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' GlmConfig or Glm4Config (5.23.0)."""
    family = c.text("model_type") or "glm4"
    f = Filled(c, "Glm4Config" if family == "glm4" else "GlmConfig", DEFAULTS)
    sizes = grouped_axes(f, head_dim=DEFAULTS["head_dim"]) | {
        "ffn": f.number("intermediate_size"),
        "vocab": f.number("vocab_size"),
    }
    bias = f.flag("attention_bias", default=True)
    table = {"dense": Layer(Grouped(q_bias=bias, kv_bias=bias), Joined())}
    order = FOUR_NORMS if family == "glm4" else PRE_NORM
    return stack(c, family, ["dense"] * f.layers(), table, sizes, DERIVED, order=order)
