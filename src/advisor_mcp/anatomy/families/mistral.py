"""Mistral and Ministral: Llama's block, with a sliding window over the layers that the configuration names."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.llama import dense
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.multimodal import filled
from advisor_mcp.anatomy.parts import Gated, Grouped

MODEL_TYPES = ("mistral", "ministral", "ministral3")
CLASSES = {"mistral": "MistralConfig", "ministral": "MinistralConfig", "ministral3": "Ministral3Config"}
LAYER_KINDS = {"full_attention": "full", "sliding_attention": "sliding"}
DEFAULT_WINDOW = 4096  # of the first two in transformers 5.23.0, whose files say null for none; the third has none


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MistralConfig, MinistralConfig or Ministral3Config."""
    family = c.text("model_type") or "mistral"
    of = CLASSES[family]
    c = filled(c, of, {"num_key_value_heads": 8} | ({"head_dim": 128} if family == "ministral3" else {}))
    window = c.optional("sliding_window")
    if family != "ministral3" and "sliding_window" not in c.data:
        window = c.number("sliding_window", default=DEFAULT_WINDOW, of=of)
    listed = c.layer_kinds("layer_types", c.layers(), LAYER_KINDS)
    sliding = None if listed is None else [window is not None and kind == "sliding" for kind in listed]
    return dense(c, family, Grouped(), Gated(), window=window, sliding=sliding)
