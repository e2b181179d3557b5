"""DeepSeek V3.2 and GLM-5: DeepSeek-V3 whose latent attention reads the positions that a small indexer picks."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.deepseek_v3 import LATENT
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import Gated, Latent
from advisor_mcp.anatomy.sparse import (
    INDEX_DERIVED,
    LATENT_DERIVED,
    Beside,
    Filled,
    Indexed,
    Layer,
    index_axes,
    latent_axes,
    listed_or_first,
    mixture,
    mixture_axes,
    prediction_layers,
    stack,
    suffixed,
)
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("deepseek_v32", "glm_moe_dsa")
SHARES = "shared-index"  # the mark of a layer that takes what the indexer of an earlier layer picked
COMMON = {
    "num_experts_per_tok": 8, "n_shared_experts": 1, "n_routed_experts": 256, "moe_intermediate_size": 2048,
    "first_k_dense_replace": 3,
}  # fmt: skip
CLASSES: dict[str, tuple[str, dict[str, int]]] = {
    "deepseek_v32": (
        "DeepseekV32Config",
        COMMON | LATENT | {"q_lora_rank": 1536, "index_topk": 2048, "index_head_dim": 128, "index_n_heads": 64},
    ),
    "glm_moe_dsa": (
        "GlmMoeDsaConfig",
        COMMON
        | LATENT
        | {"qk_nope_head_dim": 192, "v_head_dim": 256, "q_lora_rank": 2048}
        | {"index_topk": 2048, "index_head_dim": 128, "index_n_heads": 32},
    ),
}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' DeepseekV32Config or GlmMoeDsaConfig (5.23.0)."""
    family = c.text("model_type") or "deepseek_v32"
    f = Filled(c, *CLASSES[family])
    sizes = latent_axes(f, f.number("q_lora_rank")) | index_axes(f) | {"vocab": f.number("vocab_size")}
    feeds = listed_or_first(f, f.number("first_k_dense_replace", least=0))
    own = indexers(f) if family == "glm_moe_dsa" else [True] * len(feeds)
    kinds = suffixed(feeds, ["" if holds else SHARES for holds in own])
    if "dense" in feeds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in feeds:
        sizes |= mixture_axes(f)
    latent = Latent(q_compressed=True, bias=f.flag("attention_bias"))
    picked = Span(window=sizes["index_topk"])
    table = {
        kind: Layer(
            Indexed(latent, own=not kind.endswith(SHARES)),
            Gated() if kind.startswith("dense") else mixture(sizes),
            picked,
        )
        for kind in dict.fromkeys([*kinds, kinds[-1].removesuffix(f"-{SHARES}")])
    }
    # a prediction layer reads no other layer's indexer, so it holds one
    beside = Beside(
        layers=prediction_layers(f), kind=kinds[-1].removesuffix(f"-{SHARES}"), repeats=family == "deepseek_v32"
    )
    derived = LATENT_DERIVED | INDEX_DERIVED
    return stack(c, family, kinds, table, sizes, derived, beside=beside, spans=[Span()])


def indexers(c: Config) -> list[bool]:
    """Which layers hold an indexer: listed, or by a pattern of F and S, or every `index_topk_freq`-th."""
    layers = c.layers()
    pattern = c.data.get("index_topk_pattern") if c.entries("indexer_types") is None else None
    if isinstance(pattern, str):
        marks = {"F": "full", "S": "shared"}
        if len(pattern) != layers or not set(pattern) <= set(marks):
            raise UsageError(f"index_topk_pattern in the configuration must be one F or S for each of {layers} layers")
        return [mark == "F" for mark in pattern]
    name = "index_topk_pattern" if pattern is not None else "indexer_types"
    listed = c.layer_kinds(name, layers, {"full": "full", "shared": "shared"})
    if listed is not None:
        return [kind == "full" for kind in listed]
    every = max(c.number("index_topk_freq", default=1, least=0), 1)
    offset = c.number("index_skip_topk_offset", default=2, least=0)
    return [max(index - offset + 1, 0) % every == 0 for index in range(layers)]
