"""GLM-4.5 to 4.7, dots.llm1, Solar Open and DeepSeekMoE: grouped-query attention, dense layers, then experts with shared ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import GROUPED_DERIVED, Gated, Grouped, grouped_axes
from advisor_mcp.anatomy.sparse import (
    Beside,
    Filled,
    Layer,
    dense_first,
    mixture,
    mixture_axes,
    prediction_layers,
    stack,
    suffixed,
)

MODEL_TYPES = ("glm4_moe", "dots1", "solar_open", "deepseek")
REPEATED = (
    "the prediction layer is counted without the embedding and the head, which the checkpoints of GLM-4.5 and 4.7 repeat in it "
    "and that of GLM-4.6 does not"
)
SPAN_KINDS = {"full_attention": "", "sliding_attention": "sliding"}


@dataclass(frozen=True, slots=True)
class Release:
    """A model type: its class and defaults, its attention, whether layers may be dense, and its router's bias."""

    of: str
    defaults: dict[str, int]
    attention: Callable[[Config], Grouped]
    dense: bool = True
    router_bias: str | None = "mlp.gate.e_score_correction_bias"


def _glm(c: Config) -> Grouped:
    bias = c.flag("attention_bias")
    return Grouped(q_bias=bias, kv_bias=bias, qk_norm=c.flag("use_qk_norm"))


def _dots(c: Config) -> Grouped:
    bias = c.flag("attention_bias")
    return Grouped(q_bias=bias, kv_bias=bias, o_bias=bias, qk_norm=True)


def _solar(c: Config) -> Grouped:
    bias = c.flag("attention_bias")
    return Grouped(q_bias=bias, kv_bias=bias)


def _deepseek(c: Config) -> Grouped:
    bias = c.flag("attention_bias")
    return Grouped(q_bias=bias, kv_bias=bias, o_bias=bias)


# transformers 5.23.0; DeepSeekMoE is not a class there (arXiv:2401.06066 and the fields of its configuration)
RELEASES = {
    "glm4_moe": Release(
        "Glm4MoeConfig",
        {"num_attention_heads": 96, "num_key_value_heads": 8, "moe_intermediate_size": 1408, "num_experts_per_tok": 8}
        | {"n_shared_experts": 1, "n_routed_experts": 128, "first_k_dense_replace": 1},
        _glm,
    ),
    "dots1": Release(
        "Dots1Config",
        {"moe_intermediate_size": 1408, "first_k_dense_replace": 0, "sliding_window": 4096, "max_window_layers": 62},
        _dots,
    ),
    "solar_open": Release(
        "SolarOpenConfig",
        {"num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "moe_intermediate_size": 1280}
        | {"num_experts_per_tok": 8, "n_shared_experts": 1, "n_routed_experts": 128},
        _solar,
        dense=False,
    ),
    "deepseek": Release("DeepseekConfig", {"first_k_dense_replace": 0}, _deepseek, router_bias=None),
}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Glm4MoeConfig, Dots1Config or SolarOpenConfig, or of DeepSeekMoE's own."""
    family = c.text("model_type") or "glm4_moe"
    release = RELEASES[family]
    f = Filled(c, release.of, release.defaults)
    sizes = grouped_axes(f, head_dim=release.defaults.get("head_dim")) | {"vocab": f.number("vocab_size")}
    feeds, spans = _feeds(f, release), _spans(f, family)
    kinds = suffixed(feeds, spans)
    if "dense" in feeds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in feeds:
        sizes |= mixture_axes(f)
    attention = release.attention(f)
    window = Span(window=f.unless_null("sliding_window")) if "sliding" in spans else Span()
    table = {
        kind: Layer(
            attention,
            Gated() if kind.startswith("dense") else mixture(sizes),
            window if kind.endswith("sliding") else Span(),
        )
        for kind in dict.fromkeys(kinds)
    }
    beside = Beside(release.router_bias, prediction_layers(f))
    if family == "glm4_moe" and beside.layers:
        c.notes.append(REPEATED)
    return stack(c, family, kinds, table, sizes, GROUPED_DERIVED, beside=beside)


def _feeds(f: Filled, release: Release) -> list[str]:
    if not release.dense:  # every layer of Solar Open has experts
        return ["moe"] * f.layers()
    return dense_first(f, f.number("first_k_dense_replace", least=0), f.number("moe_layer_freq", default=1))


def _spans(f: Filled, family: str) -> list[str]:
    """dots.llm1 may have a window in the layers from max_window_layers on."""
    layers = f.layers()
    if family != "dots1":
        return [""] * layers
    listed = f.layer_kinds("layer_types", layers, SPAN_KINDS)
    if listed is not None or f.unless_null("sliding_window") is None:
        return listed or [""] * layers
    first = f.number("max_window_layers", least=0)
    return ["sliding" if index >= first else "" for index in range(layers)]
