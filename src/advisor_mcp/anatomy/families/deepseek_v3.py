"""DeepSeek V2, V3 and R1, Kimi K2, Moonlight, GLM-4.7-Flash: latent attention, dense layers, then routed and shared experts."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Gated, Latent
from advisor_mcp.anatomy.sparse import (
    LATENT_DERIVED,
    NOTHING,
    Beside,
    Filled,
    Layer,
    dense_first,
    latent_axes,
    listed_or_first,
    mixture,
    mixture_axes,
    prediction_layers,
    stack,
)

MODEL_TYPES = ("deepseek_v2", "deepseek_v3", "kimi_k2", "glm4_moe_lite")
DERIVED = LATENT_DERIVED
LATENT = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
# transformers 5.23.0; kimi_k2 is not a class of its own there, and is read as DeepSeek-V3
CLASSES: dict[str, tuple[str, dict[str, int]]] = {
    "deepseek_v2": (
        "DeepseekV2Config",
        LATENT | {"q_lora_rank": 1536, "first_k_dense_replace": 0, "n_routed_experts": 64, "n_shared_experts": 2},
    ),
    "deepseek_v3": (
        "DeepseekV3Config",
        LATENT
        | {"q_lora_rank": 1536, "first_k_dense_replace": 3, "n_routed_experts": 256, "n_shared_experts": 1}
        | {"num_experts_per_tok": 8, "moe_intermediate_size": 2048},
    ),
    "glm4_moe_lite": (
        "Glm4MoeLiteConfig",
        LATENT
        | {"qk_nope_head_dim": 192, "v_head_dim": 256, "q_lora_rank": 768, "n_routed_experts": 64}
        | {"n_shared_experts": 1, "num_experts_per_tok": 4, "moe_intermediate_size": 1536},
    ),
}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' DeepseekV2Config, DeepseekV3Config or Glm4MoeLiteConfig, or of Kimi K2's own."""
    family = c.text("model_type") or "deepseek_v3"
    of, defaults = CLASSES.get(family, CLASSES["deepseek_v3"])
    f = Filled(c, of, defaults)
    q_rank = f.unless_null("q_lora_rank")
    sizes = latent_axes(f, q_rank) | {"vocab": f.number("vocab_size")}
    kinds = _kinds(f, family)
    if "dense" in kinds:
        sizes["ffn"] = f.number("intermediate_size")
    attention = Latent(q_compressed=q_rank is not None, bias=f.flag("attention_bias"))
    table = {"dense": Layer(attention, Gated())}
    if "moe" in kinds:
        sizes |= mixture_axes(f)
        table["moe"] = Layer(attention, mixture(sizes))
    return stack(c, family, kinds, table, sizes, DERIVED, beside=_beside(f, family))


def _kinds(f: Filled, family: str) -> list[str]:
    if family == "glm4_moe_lite":
        return listed_or_first(f, f.number("first_k_dense_replace", default=1, least=0))
    return dense_first(f, f.number("first_k_dense_replace", least=0), f.number("moe_layer_freq", default=1))


def _beside(f: Filled, family: str) -> Beside:
    if family == "deepseek_v2":
        return NOTHING
    # DeepSeek's files hold the embedding and the head again in each prediction layer, GLM's do not always
    return Beside(layers=prediction_layers(f), repeats=family == "deepseek_v3")
