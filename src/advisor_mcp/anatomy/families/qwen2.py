"""Qwen 1.5, 2, 2.5 and 3, dense: Llama's layer with biased q, k, v (2) or with normalised queries and keys (3)."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.llama import dense
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated, Grouped

MODEL_TYPES = ("qwen2", "qwen3")
LAYER_KINDS = {"full_attention": "full", "sliding_attention": "sliding"}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Qwen2Config or Qwen3Config."""
    family = c.text("model_type") or "qwen2"
    window, sliding = windows(c)
    return dense(c, family, attention(c, family), Gated(), window, sliding, head_dim=128 if family == "qwen3" else None)


def attention(c: Config, family: str) -> Grouped:
    """Qwen2 biases q, k and v; Qwen3 biases all four where `attention_bias` says so, and normalises q and k per head."""
    if family.startswith("qwen3"):
        bias = c.flag("attention_bias")
        return Grouped(q_bias=bias, kv_bias=bias, o_bias=bias, qk_norm=True)
    bias = c.flag("qkv_bias", default=True)
    return Grouped(q_bias=bias, kv_bias=bias)


def windows(c: Config) -> tuple[int | None, list[bool]]:
    """The window and which layers have it: those from max_window_layers on, and only with use_sliding_window."""
    layers = c.layers()
    if not c.flag("use_sliding_window"):
        return None, [False] * layers
    window = c.number("sliding_window", default=4096, of="the Qwen configuration classes")
    kinds = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    if kinds is None:
        first = c.number("max_window_layers", default=28, of="the Qwen configuration classes", least=0)
        return window, [layer >= first for layer in range(layers)]
    return window, [kind == "sliding" for kind in kinds]
