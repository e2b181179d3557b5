"""Kimi K3: Kimi Delta Attention and gated latent attention, residuals that weigh earlier blocks, experts in a latent width.

Shapes follow the published checkpoint's tensor listing; no class of transformers 5.23.0 describes this model.
"""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy import towers_plain as towers
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.kimi_linear import mixers
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block, Cache, Span, Terms
from advisor_mcp.anatomy.multimodal import NO_VISION, joined
from advisor_mcp.anatomy.parts import (
    RESIDUAL,
    TOKENS,
    Attention,
    Draft,
    Feed,
    Gated,
    Latent,
    assemble,
    attend,
    by_kind,
    embedding_block,
    head_block,
)
from advisor_mcp.anatomy.recurrent_delta import DERIVED as DELTA_DERIVED
from advisor_mcp.anatomy.recurrent_delta import KimiDelta, delta_axes, state_dtype
from advisor_mcp.anatomy.sparse import (
    LATENT_DERIVED,
    SHARED,
    Filled,
    dense_first,
    latent_axes,
    mixture_axes,
    router_biases,
)
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("kimi_k3",)
OF = "the published Kimi K3"
MOE = "block_sparse_moe."
TEXT = {
    "num_attention_heads": 96, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128,
    "v_head_dim": 128, "first_k_dense_replace": 1, "num_shared_experts": 2,
}  # fmt: skip
VISION = {
    "vt_hidden_size": 1024, "vt_intermediate_size": 4096, "vt_num_hidden_layers": 27, "vt_num_attention_heads": 12,
    "qkv_hidden_size": 1536, "patch_size": 14, "init_pos_emb_height": 64, "init_pos_emb_width": 64,
}  # fmt: skip
PREFIXES = {"model.": "language_model.model.", "lm_head": "language_model.lm_head"}


def describe(c: Config) -> Architecture:
    """A Kimi K3 configuration as published: a decoder of the type kimi_linear in text_config, a tower in vision_config."""
    text = c.part("text_config")
    if text is None:
        raise CannotAnswer("the configuration has no text_config, which this model type needs", needs=["text_config"])
    decoder = _decoder(c, Filled(text, OF, TEXT))
    vision = c.part("vision_config")
    if vision is None:
        return joined(c, "kimi_k3", decoder, [], {}, PREFIXES, [NO_VISION])
    blocks, sizes = _tower(Filled(vision, OF, VISION), decoder.sizes["h"])
    return joined(c, "kimi_k3", decoder, blocks, sizes, PREFIXES)


def _decoder(c: Config, f: Filled) -> Architecture:
    linear = f.part("linear_attn_config") or Config({}, "text_config.linear_attn_config.", f.notes)
    feeds = dense_first(f, f.number("first_k_dense_replace", least=0), f.number("moe_layer_freq", default=1))
    kinds = [f"{mixer}-{feed}" for mixer, feed in zip(mixers(f, linear), feeds, strict=True)]
    full_rank = "g" if linear.flag("use_full_rank_gate") else ""
    gated, latent_norm = f.flag("mla_use_output_gate"), f.flag("latent_moe_use_norm")
    sizes = _axes(f, linear)
    if "dense" in feeds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in feeds:
        sizes |= mixture_axes(
            f, "num_experts", "num_shared_experts", used=("num_experts_per_token", "num_experts_per_tok")
        )
    weighed = f.optional("attn_res_block_size") is not None
    attention: dict[str, Attention] = {
        "linear": KimiDelta(state_dtype(f), full_rank, ("delta_kd",)),
        "full": GatedLatent(Latent(q_compressed=True), gated),
    }
    feed: dict[str, Feed] = {"dense": Gated(), "moe": LatentExperts(latent_norm, "shared_ffn" in sizes)}

    def layer(b: Draft, kind: str) -> None:
        mixer, part = kind.split("-")
        _layer(b, attention[mixer], feed[part], weighed)

    tied = c.flag("tie_word_embeddings", default=f.flag("tie_word_embeddings"))
    tail = [_last_weighing()] if weighed else []
    blocks = [embedding_block(), *by_kind(kinds, layer), *tail, head_block("model.embed_tokens.weight", tied)]
    routed = tuple(index for index, part in enumerate(feeds) if part == "moe")
    beside = (router_biases(f"model.layers.{{layer}}.{MOE}gate.e_score_correction_bias", routed),) if routed else ()
    derived = LATENT_DERIVED | DELTA_DERIVED
    return assemble(c, "kimi_k3", blocks, sizes, derived, tied, beside=beside, not_described=_missing(f))


def _missing(f: Filled) -> tuple[str, ...]:
    found = f.number("num_nextn_predict_layers", default=0, least=0)
    return (f"{found} prediction layer(s) that the checkpoint holds beside the model are not counted",) if found else ()


def _axes(f: Filled, linear: Config) -> dict[str, int]:
    heads, width = linear.number("num_heads"), linear.number("head_dim")
    kernel = linear.number("short_conv_kernel_size", default=4)
    sizes = latent_axes(f, f.number("q_lora_rank")) | {"vocab": f.number("vocab_size")}
    sizes["moe_h"] = f.number("routed_expert_hidden_size", default=sizes["h"])
    return sizes | delta_axes(f, heads, heads, width, width, kernel)


@dataclass(frozen=True, slots=True)
class GatedLatent:
    """Latent attention whose output a projection to its full width gates."""

    latent: Latent
    gated: bool

    def write(self, b: Draft, source: str, span: Span, prefix: str = "self_attn.") -> None:
        """Add the projections, the attention, its cache, the gate and the output product."""
        if not self.gated:
            self.latent.write(b, source, span, prefix)
            return
        self.latent.project(b, source, prefix)
        b.linear(f"{prefix}g_proj", source, "og", ("v", "h"), "attention")
        attend(b, span, key_dim="qk_dim", value_dim="v_dim", reads=("qr", "kva", "kvb"))
        b.caches.append(Cache("latent", entry=((1, ("latent",)),)))
        b.op("gate", ("att", "og"), "gated", (*b.tokens, "v"))
        b.linear(f"{prefix}o_proj", "gated", "o", ("h", "v"), "attention", self.latent.bias)


@dataclass(frozen=True, slots=True)
class LatentExperts:
    """Experts that work in the width `moe_h`, between a product into it and one out of it, beside shared experts."""

    norm: bool
    shared: bool

    def write(self, b: Draft, source: str) -> None:
        """Add the router, the products into and out of the latent width, the experts and the shared experts."""
        role, rows, copies = "routed_experts", (*TOKENS, "topk"), ("expert",)
        b.linear(f"{MOE}gate", source, "scores", ("choices", "h"), "router")
        b.op("top_k", ("scores",), "routes", rows)
        b.linear(f"{MOE}routed_expert_down_proj", source, "narrow", ("moe_h", "h"), "other")
        each = f"{MOE}experts.{{expert}}."
        b.linear(f"{each}w1", "narrow", "expert_gate", ("moe_ffn", "moe_h"), role, tokens=rows, copies=copies)
        b.linear(f"{each}w3", "narrow", "expert_up", ("moe_ffn", "moe_h"), role, tokens=rows, copies=copies)
        b.op("gate", ("expert_gate", "expert_up"), "expert_act", (*rows, "moe_ffn"))
        b.linear(f"{each}w2", "expert_act", "expert_out", ("moe_h", "moe_ffn"), role, tokens=rows, copies=copies)
        b.op("combine", ("expert_out", "routes"), "sum", (*TOKENS, "moe_h"))
        if self.norm:
            b.norm(f"{MOE}routed_expert_norm", "sum", "sumn", axis="moe_h")
        b.linear(f"{MOE}routed_expert_up_proj", "sumn" if self.norm else "sum", "routed", ("h", "moe_h"), "other")
        if self.shared:
            SHARED.write(b, source, "shared", f"{MOE}shared_experts.")
        b.op("add", ("routed", "shared") if self.shared else ("routed",), "y", RESIDUAL)


def _layer(b: Draft, attention: Attention, feed: Feed, weighed: bool) -> None:
    """Two updates; where `weighed`, each reads the earlier blocks of layers, weighed by a score of their own norm."""
    if weighed:
        weigh(b, "self_attention_res", "x", "xw", "attention")
    b.norm("input_layernorm", "xw" if weighed else "x", "a")
    attention.write(b, "a", Span())
    b.add("x", "o", "r")
    if weighed:
        weigh(b, "mlp_res", "r", "rw", "mlp")
    b.norm("post_attention_layernorm", "rw" if weighed else "r", "m")
    feed.write(b, "m")
    b.add("r", "y", "out")


def weigh(b: Draft, name: str, source: str, out: str, role: str) -> None:
    """Add the norm and the score by which the sums of earlier blocks are weighed."""
    b.norm(f"{name}_norm", source, f"{out}n")
    b.linear(f"{name}_proj", f"{out}n", f"{out}s", (1, "h"), role)
    b.op("combine", (source, f"{out}s"), out, RESIDUAL)


def _last_weighing() -> Block:
    b = Draft("output-weighing", "model.")
    b.value("x", RESIDUAL)
    weigh(b, "output_attn_res", "x", "xw", "attention")
    return b.block((0,))


def _tower(v: Filled, text_width: int) -> tuple[list[Block], dict[str, int]]:
    """MoonViT with RMSNorm and without biases; its attention may be wider than its residual stream."""
    width, wide = v.number("vt_hidden_size"), v.number("qkv_hidden_size")
    v.divides(wide, v.number("vt_num_attention_heads"), "the vision heads do not divide qkv_hidden_size")
    if any(v.flag(name) for name in ("attn_bias", "linear_bias", "patch_embed_proj_bias")):
        raise CannotAnswer("Kimi K3's vision tower is described without biases")
    sizes = {
        "vision.h": width,
        "vision.inner": wide,
        "vision.qkv": 3 * wide,
        "vision.ffn": v.number("vt_intermediate_size"),
        "vision.merged": width * _merged(v),
    }
    side = v.number("patch_size")
    first = Draft("vision-embedding", "vision_tower.patch_embed.", towers.PATCHES)
    towers.patches(first, "proj", (3, side, side), bias=False)
    towers.positions(first, "pos_emb.weight", (v.number("init_pos_emb_height"), v.number("init_pos_emb_width")))
    depth = towers.depth_of(v, "vt_num_hidden_layers")
    return [first.block((0,), "vision"), _tower_layers(depth), _projector(text_width)], sizes


def _tower_layers(depth: int) -> Block:
    b = Draft("vision-layer", "vision_tower.encoder.blocks.{layer}.", towers.PATCHES)
    b.value("x", (*towers.PATCHES, "vision.h"))
    b.norm("norm0", "x", "a", "rms", "vision.h", "vision")
    b.linear("wqkv", "a", "qkv", ("vision.qkv", "vision.h"), "vision")
    pairs: Terms = ((4, (*towers.PATCHES, "vision.patches", "vision.inner")),)
    b.op("attention", ("qkv",), "att", (*towers.PATCHES, "vision.inner"), pairs)
    b.linear("wo", "att", "o", ("vision.h", "vision.inner"), "vision")
    b.add("x", "o", "r")
    b.norm("norm1", "r", "m", "rms", "vision.h", "vision")
    b.linear("mlp.fc0", "m", "up", ("vision.ffn", "vision.h"), "vision")
    b.op("activation", ("up",), "act", (*towers.PATCHES, "vision.ffn"))
    b.linear("mlp.fc1", "act", "y", ("vision.h", "vision.ffn"), "vision")
    b.add("r", "y", "out")
    return b.block(tuple(range(depth)), "vision")


def _projector(text_width: int) -> Block:
    last = Draft("vision-projector", "", towers.MERGED)
    merged: Axes = (*towers.MERGED, "vision.merged")
    last.value("out", (*towers.PATCHES, "vision.h"))
    last.norm("vision_tower.encoder.final_layernorm", "out", "n", "rms", "vision.h", "vision", merged)
    last.linear("mm_projector.proj.0", "n", "p0", ("vision.merged", "vision.merged"), "vision")
    last.linear("mm_projector.proj.2", "p0", "p2", (text_width, "vision.merged"), "vision")
    last.norm("mm_projector.post_norm", "p2", "p3", "rms", text_width, "vision")
    return last.block((0,), "vision")


def _merged(v: Config) -> int:
    found = v.entries("merge_kernel_size") or [2, 2]
    if len(found) != 2 or any(not isinstance(side, int) or isinstance(side, bool) or side < 1 for side in found):
        raise UsageError(
            f"{v.prefix}merge_kernel_size in the configuration must list two whole numbers, not {shown(found)}"
        )
    return int(found[0]) * int(found[1])
