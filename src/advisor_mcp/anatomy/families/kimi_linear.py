"""Kimi Linear: three layers of Kimi Delta Attention to one of latent attention without positions, and many experts."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.deepseek_v3 import DERIVED as LATENT_DERIVED
from advisor_mcp.anatomy.families.qwen3_next import LAYER_KINDS
from advisor_mcp.anatomy.inventory import Architecture, Block, Span
from advisor_mcp.anatomy.parts import (
    Attention,
    Draft,
    Experts,
    Feed,
    Gated,
    Latent,
    Mixture,
    assemble,
    by_kind,
    embedding_block,
    head_block,
    pre_norm_layer,
)
from advisor_mcp.anatomy.recurrent_delta import DERIVED as DELTA_DERIVED
from advisor_mcp.anatomy.recurrent_delta import KimiDelta, delta_axes, state_dtype
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("kimi_linear",)
OF = "KimiLinearConfig"
FEED_KINDS = {"dense": "dense", "sparse": "moe"}
# fields of the models that grew out of this one, which change its tensors
NOT_DESCRIBED = (
    "attn_res_block_size", "mla_use_output_gate", "routed_expert_hidden_size", "latent_moe_use_norm", "use_full_rank_gate"
)  # fmt: skip
MOE = "block_sparse_moe."
EXPERTS = Experts(router=f"{MOE}gate", prefix=f"{MOE}experts.{{expert}}.", names=("w1", "w3", "w2"))


def describe(c: Config) -> Architecture:
    """A configuration of Kimi Linear: the checkpoint's own (linear_attn_config, layers from 1) or transformers'."""
    linear = c.part("linear_attn_config") or Config({}, "linear_attn_config.", c.notes)
    for name in NOT_DESCRIBED:
        if c.data.get(name) or linear.data.get(name):
            raise CannotAnswer(f"the configuration has {name}, a variant of Kimi Linear that is not described here")
    mixed, feeds = mixers(c, linear), _feeds(c)
    kinds = [f"{mixer}-{feed}" for mixer, feed in zip(mixed, feeds, strict=True)]
    q_rank = c.optional("q_lora_rank")
    attention: dict[str, Attention] = {
        "linear": KimiDelta(state_dtype(c)),
        "full": Latent(q_compressed=q_rank is not None, bias=c.flag("attention_bias")),
    }
    sizes = _axes(c, linear) | ({"q_rank": q_rank} if q_rank is not None else {})
    known = _feed_parts(c, sizes, set(feeds))

    def layer(b: Draft, kind: str) -> None:
        mixer, feed = kind.split("-")
        pre_norm_layer(b, attention[mixer], known[feed], Span())

    # the class ties nothing, whatever tie_word_embeddings says
    blocks = [embedding_block(), *by_kind(kinds, layer), head_block("model.embed_tokens.weight", tied=False)]
    beside = _router_biases([index for index, feed in enumerate(feeds) if feed == "moe"])
    return assemble(c, "kimi_linear", blocks, sizes, LATENT_DERIVED | DELTA_DERIVED, False, beside=beside)


def mixers(c: Config, linear: Config) -> list[str]:
    """The mixer of each layer: transformers' list, or the checkpoint's two lists, whose layers count from 1."""
    layers = c.layers()
    listed = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    if listed is not None:
        return listed
    full, delta = (linear.entries(name) for name in ("full_attn_layers", "kda_layers"))
    if full is None or delta is None:
        raise CannotAnswer(
            "the configuration has no linear_attn_config.full_attn_layers and kda_layers, which this model type needs",
            needs=["linear_attn_config.full_attn_layers"],
        )
    if any(not isinstance(index, int) or isinstance(index, bool) for index in full + delta) or sorted(
        full + delta
    ) != list(range(1, layers + 1)):
        raise UsageError(
            f"linear_attn_config in the configuration must name each of the layers 1 to {layers} once, as full or as kda"
        )
    whole = set(full)
    return ["full" if index + 1 in whole else "linear" for index in range(layers)]


def _feeds(c: Config) -> list[str]:
    """Experts in every layer from `first_k_dense_replace` on, or as transformers' list says."""
    layers = c.layers()
    listed = c.layer_kinds("mlp_layer_types", layers, FEED_KINDS)
    if listed is not None:
        return listed
    dense = c.number("first_k_dense_replace", default=1, of=OF, least=0)
    if (every := c.number("moe_layer_freq", default=1)) != 1:
        raise CannotAnswer(
            f"moe_layer_freq is {shown(every)}; Kimi Linear is described with experts in every later layer"
        )
    return ["dense" if index < dense else "moe" for index in range(layers)]


def _axes(c: Config, linear: Config) -> dict[str, int]:
    heads = linear.number("num_heads", default=c.number("linear_num_heads", default=32))
    width = linear.number("head_dim", default=c.number("linear_head_dim", default=128))
    kernel = linear.number("short_conv_kernel_size", default=c.number("linear_conv_kernel_dim", default=4))
    return delta_axes(c, heads, heads, width, width, kernel) | {
        "h": c.number("hidden_size"),
        "vocab": c.number("vocab_size"),
        "qh": c.number("num_attention_heads"),
        "kv_rank": c.number("kv_lora_rank", default=512, of=OF),
        "rope_dim": c.number("qk_rope_head_dim", default=64, of=OF),
        "nope_dim": c.number("qk_nope_head_dim", default=128, of=OF),
        "v_dim": c.number("v_head_dim", default=128, of=OF),
    }


def _feed_parts(c: Config, sizes: dict[str, int], kinds: set[str]) -> dict[str, Feed]:
    if "dense" in kinds:
        sizes["ffn"] = c.number("intermediate_size")
    if "moe" not in kinds:
        return {"dense": Gated()}
    experts = c.number("num_experts", "num_local_experts")
    used = c.number("num_experts_per_token", "num_experts_per_tok", default=8, of=OF)
    if used > experts:
        raise UsageError(
            f"the configuration contradicts itself: num_experts_per_token {used} exceeds its {experts} experts"
        )
    shared = c.number("num_shared_experts", "n_shared_experts", default=1, of=OF, least=0)
    sizes |= {"expert": experts, "choices": experts, "topk": used, "moe_ffn": c.number("moe_intermediate_size")}
    part = Gated(axis="shared_ffn", role="shared_expert") if shared else None
    if shared:
        sizes["shared_ffn"] = shared * sizes["moe_ffn"]
    return {"dense": Gated(), "moe": Mixture(EXPERTS, part, f"{MOE}shared_experts.")}


def _router_biases(layers: list[int]) -> tuple[Block, ...]:
    """The buffer that balances the experts, which the checkpoint stores and no gradient trains."""
    if not layers:
        return ()
    b = Draft("router-bias", "model.layers.{layer}.")
    b.tensor(f"{MOE}gate.e_score_correction_bias", ("choices",), "router")
    return (b.block(tuple(layers)),)
