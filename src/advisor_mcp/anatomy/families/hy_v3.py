"""Tencent's Hunyuan: the dense and the mixture models of V1, and Hy3; queries and keys are normalised per head."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import GROUPED_DERIVED, Experts, Gated, Grouped, grouped_axes
from advisor_mcp.anatomy.sparse import (
    Beside,
    Filled,
    Layer,
    listed_or_first,
    mixture,
    mixture_axes,
    prediction_layers,
    same_for_all,
    stack,
)
from advisor_mcp.errors import CannotAnswer, UsageError

MODEL_TYPES = ("hy_v3", "hunyuan_v1_dense", "hunyuan_v1_moe")
NORMS = ("query_layernorm", "key_layernorm")
DEFAULTS = {
    "hy_v3": {
        "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "num_experts": 192, "num_experts_per_tok": 8,
        "num_shared_experts": 1, "moe_intermediate_size": 1536,
    },
    "hunyuan_v1_dense": {"num_attention_heads": 32},
    "hunyuan_v1_moe": {"num_attention_heads": 32},
}  # fmt: skip
OF = {"hy_v3": "HYV3Config", "hunyuan_v1_dense": "HunYuanDenseV1Config", "hunyuan_v1_moe": "HunYuanMoEV1Config"}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' HYV3Config, HunYuanDenseV1Config or HunYuanMoEV1Config (5.23.0)."""
    family = c.text("model_type") or "hy_v3"
    f = Filled(c, OF[family], DEFAULTS[family])
    sizes = grouped_axes(f, head_dim=DEFAULTS[family].get("head_dim")) | {"vocab": f.number("vocab_size")}
    return _third(c, f, sizes) if family == "hy_v3" else _first(c, f, family, sizes)


def _third(c: Config, f: Filled, sizes: dict[str, int]) -> Architecture:
    bias, mlp_bias = f.flag("attention_bias"), f.flag("mlp_bias")
    attention = Grouped(bias, bias, bias, qk_norm=True)
    kinds = listed_or_first(f, f.number("first_k_dense_replace", default=1, least=0))
    table = {"dense": Layer(attention, Gated(bias=mlp_bias))}
    if "dense" in kinds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in kinds:
        sizes |= mixture_axes(f, "num_experts", "num_shared_experts")
        table["moe"] = Layer(attention, mixture(sizes, Experts("mlp.router.gate"), "mlp.shared_mlp.", mlp_bias))
    beside = Beside("mlp.expert_bias", prediction_layers(f))
    return stack(c, "hy_v3", kinds, table, sizes, GROUPED_DERIVED, beside=beside)


def _first(c: Config, f: Filled, family: str, sizes: dict[str, int]) -> Architecture:
    if not f.flag("use_qk_norm", default=True) or f.flag("use_cla") or f.flag("use_mla"):
        raise CannotAnswer("Hunyuan V1 is described with use_qk_norm, without use_cla and without use_mla")
    bias = f.flag("attention_bias")
    attention = Grouped(bias, bias, bias, qk_norm=True, norms=NORMS)
    kind = "moe" if family == "hunyuan_v1_moe" else "dense"
    if kind == "moe":
        sizes |= _experts(f)
        feed = mixture(sizes, Experts("mlp.gate.wg"), "mlp.shared_mlp.")
        table = {kind: Layer(attention, feed)}
    else:
        sizes["ffn"] = f.number("intermediate_size")
        table = {kind: Layer(attention, Gated())}
    return stack(c, family, [kind] * f.layers(), table, sizes, GROUPED_DERIVED)


def _experts(f: Filled) -> dict[str, int]:
    """The published files give lists with an entry for every layer, and their own name for the width of an expert."""
    number = same_for_all(f, "num_experts", "num_local_experts", default=1)
    used = same_for_all(f, "moe_topk", "num_experts_per_tok", default=1)
    if used > number:
        raise UsageError(f"the configuration contradicts itself: moe_topk {used} exceeds its {number} experts")
    whole = f.number("intermediate_size")
    width = same_for_all(f, "moe_intermediate_size", default=whole)
    shared = same_for_all(f, "num_shared_expert", "num_shared_experts", default=1)
    sizes = {"expert": number, "choices": number, "topk": used, "moe_ffn": width}
    return sizes | ({"shared_ffn": shared * whole} if shared else {})
