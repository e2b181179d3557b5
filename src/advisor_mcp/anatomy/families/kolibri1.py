"""Kolibri 1: four norms a layer, every fifth layer sees everything and the others a window, experts in every layer."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import grouped_axes
from advisor_mcp.anatomy.sparse import Beside, Filled, Layer, Varied, mixture, mixture_axes, stack, varied_derived
from advisor_mcp.anatomy.variants import Order, every, spans_of
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("kolibri1",)
OF = "Kolibri1Config"
DEFAULTS = {
    "num_attention_heads": 48, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 384, "num_experts_per_tok": 6,
    "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
}  # fmt: skip
ORDER = Order("input_layernorm", "post_attn_norm", "post_attention_layernorm", "post_ffn_norm")
EVERY = 5


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Kolibri1Config (5.23.0); tensor names are those of the published checkpoint."""
    f = Filled(c, OF, DEFAULTS)
    sizes = grouped_axes(f, OF, kv_heads=4, head_dim=128) | {"vocab": f.number("vocab_size")}
    sizes |= mixture_axes(f, "num_experts", None)
    sizes["shared_ffn"] = f.number("shared_expert_intermediate_size")
    spans, reach = spans_of(f, 513, OF), every(f, EVERY)
    if "sliding" in reach and spans["sliding"].window is None:
        raise UsageError("sliding_window in the configuration is null, but some of its layers see a window")
    attention, feed = Varied(qk_norm="head"), mixture(sizes)
    table = {f"moe-{kind}": Layer(attention, feed, spans[kind]) for kind in spans}
    beside = Beside("moe.router.expert_bias")
    kinds = [f"moe-{kind}" for kind in reach]
    return stack(f, "kolibri1", kinds, table, sizes, varied_derived(), order=ORDER, beside=beside)
