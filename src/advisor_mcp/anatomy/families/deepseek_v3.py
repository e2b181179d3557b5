"""DeepSeek V2, V3 and R1: multi-head latent attention, dense layers first, then routed and shared experts."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span, Terms
from advisor_mcp.anatomy.parts import (
    Draft,
    Experts,
    Feed,
    Gated,
    Latent,
    Mixture,
    assemble,
    by_kind,
    embedding_block,
    expert_axes,
    head_block,
    pre_norm_layer,
)

MODEL_TYPES = ("deepseek_v2", "deepseek_v3")
DERIVED: dict[str, Terms] = {
    "qk_dim": ((1, ("nope_dim",)), (1, ("rope_dim",))),
    "q": ((1, ("qh", "nope_dim")), (1, ("qh", "rope_dim"))),
    "latent": ((1, ("kv_rank",)), (1, ("rope_dim",))),
    "kv_up": ((1, ("qh", "nope_dim")), (1, ("qh", "v_dim"))),
    "v": ((1, ("qh", "v_dim")),),
}


def describe(c: Config) -> Architecture:
    """A configuration of transformers' DeepseekV2Config or DeepseekV3Config.

    Multi-token-prediction layers and the router's bias buffer, which checkpoints hold beside the model, are not counted.
    """
    family = c.text("model_type") or "deepseek_v3"
    layers, q_rank = c.layers(), c.optional("q_lora_rank")
    dense = min(c.number("first_k_dense_replace", default=3 if family == "deepseek_v3" else 0, least=0), layers)
    every = c.number("moe_layer_freq", default=1)
    kinds = ["moe" if index >= dense and index % every == 0 else "dense" for index in range(layers)]
    sizes = latent_axes(c, q_rank) | {"vocab": c.number("vocab_size")}
    feeds: dict[str, Feed] = {"dense": Gated()}
    if "moe" in kinds:
        sizes |= expert_axes(c, "n_routed_experts")
        shared = c.number("n_shared_experts", default=0, least=0)
        feeds["moe"] = Mixture(Experts(), Gated(axis="shared_ffn", role="shared_expert") if shared else None)
        if shared:
            sizes["shared_ffn"] = shared * sizes["moe_ffn"]
    if "dense" in kinds:
        sizes["ffn"] = c.number("intermediate_size")
    attention = Latent(q_compressed=q_rank is not None, bias=c.flag("attention_bias"))

    def layer(b: Draft, kind: str) -> None:
        pre_norm_layer(b, attention, feeds[kind], Span())

    tied = c.flag("tie_word_embeddings")
    blocks = [embedding_block(), *by_kind(kinds, layer), head_block("model.embed_tokens.weight", tied)]
    return assemble(c, family, blocks, sizes, DERIVED, tied, not_described=_beside(c))


def latent_axes(c: Config, q_rank: int | None) -> dict[str, int]:
    """The axes of latent attention."""
    sizes = {
        "h": c.number("hidden_size"),
        "qh": c.number("num_attention_heads"),
        "kv_rank": c.number("kv_lora_rank"),
        "rope_dim": c.number("qk_rope_head_dim"),
        "nope_dim": c.number("qk_nope_head_dim"),
        "v_dim": c.number("v_head_dim"),
    }
    return sizes | ({"q_rank": q_rank} if q_rank is not None else {})


def _beside(c: Config) -> tuple[str, ...]:
    found = c.number("num_nextn_predict_layers", default=0, least=0)
    return (
        (f"{found} multi-token-prediction layer(s), stored in the checkpoint beside the model, are not counted",)
        if found
        else ()
    )
