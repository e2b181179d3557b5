"""Xiaomi's MiMo-7B: Qwen2's layer with biased q, k and v, and prediction layers beside the model."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import GROUPED_DERIVED, Gated, Grouped, grouped_axes
from advisor_mcp.anatomy.sparse import Ahead, Beside, Layer, prediction_layers, stack
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = ("mimo",)
AHEAD = Ahead("model.mtp_layers.{layer}.", "token_layernorm", "hidden_layernorm", "input_proj", "final_layernorm")


def describe(c: Config) -> Architecture:
    """A MiMoConfig, whose class comes with the checkpoint: transformers' Qwen2Config and num_nextn_predict_layers."""
    if c.flag("use_sliding_window"):
        raise CannotAnswer("MiMo is described without use_sliding_window")
    bias = c.flag("attention_bias", default=True)
    sizes = grouped_axes(c) | {"ffn": c.number("intermediate_size"), "vocab": c.number("vocab_size")}
    table = {"dense": Layer(Grouped(q_bias=bias, kv_bias=bias), Gated())}
    beside = Beside(None, prediction_layers(c), ahead=AHEAD)
    return stack(c, "mimo", ["dense"] * c.layers(), table, sizes, GROUPED_DERIVED, beside=beside)
