"""Mistral and Ministral: Llama's block, with a sliding window over every layer where the configuration sets one."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.llama import dense
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated, Grouped

MODEL_TYPES = ("mistral", "ministral3")
DEFAULT_WINDOW = 4096  # MistralConfig of transformers 5.23.0; "null" in a file means none


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MistralConfig or Ministral3Config."""
    family = c.text("model_type") or "mistral"
    window = c.optional("sliding_window")
    if family == "mistral" and "sliding_window" not in c.data:
        window = c.number("sliding_window", default=DEFAULT_WINDOW, of="MistralConfig")
    return dense(c, family, Grouped(), Gated(), window=window)
