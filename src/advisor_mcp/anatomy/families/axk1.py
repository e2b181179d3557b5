"""SKT's A.X K1: DeepSeek-V3 with a norm after the experts, and queries that are always compressed."""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.deepseek_v3 import LATENT
from advisor_mcp.anatomy.inventory import Architecture, Block, Tensor
from advisor_mcp.anatomy.parts import Gated, Latent
from advisor_mcp.anatomy.sparse import (
    LATENT_DERIVED,
    MLP_KINDS,
    Filled,
    Layer,
    dense_first,
    latent_axes,
    mixture,
    mixture_axes,
    prediction_layers,
    stack,
)
from advisor_mcp.anatomy.variants import Order

MODEL_TYPES = ("axk1",)
DEFAULTS = LATENT | {
    "q_lora_rank": 1536, "num_attention_heads": 64, "n_routed_experts": 192, "n_shared_experts": 1,
    "num_experts_per_tok": 8, "moe_intermediate_size": 2048,
}  # fmt: skip
NORM = "post_mlp_layernorm"
ORDER = Order(after_feed=NORM)
PREDICTION = "the prediction layers (num_nextn_predict_layers) that the checkpoint may hold beside the model"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' AXK1Config (5.23.0)."""
    f = Filled(c, "AXK1Config", DEFAULTS)
    sizes = latent_axes(f, f.number("q_lora_rank")) | {"vocab": f.number("vocab_size")}
    kinds = feeds(f)
    attention = Latent(q_compressed=True, bias=f.flag("attention_bias"))
    table = {"dense": Layer(attention, Gated())}
    if "dense" in kinds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in kinds:
        sizes |= mixture_axes(f)
        table["moe"] = Layer(attention, mixture(sizes), order=ORDER)
    missing = (PREDICTION,) if prediction_layers(f) else ()
    found = stack(f, "axk1", kinds, table, sizes, LATENT_DERIVED, not_described=missing)
    return replace(found, beside=_unused(kinds))


def feeds(f: Filled) -> list[str]:
    """The layers' feed-forward kinds: listed, or one dense layer and then experts, unless older fields say otherwise."""
    listed = f.layer_kinds("mlp_layer_types", f.layers(), MLP_KINDS)
    first = f.number("first_k_dense_replace", default=1, least=0)
    return listed or dense_first(f, first, f.number("moe_layer_freq", default=1))


def _unused(kinds: list[str]) -> tuple[Block, ...]:
    """The released files hold the norm for dense layers too, which do not use it."""
    dense = tuple(index for index, kind in enumerate(kinds) if kind == "dense")
    norm = Tensor(f"model.layers.{{layer}}.{NORM}.weight", ("h",), "norm")
    return (Block("unused norms", dense, (norm,)),) if dense else ()
