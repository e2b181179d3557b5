"""Llama 4: chunked and full attention, one shared and many stacked routed experts in every or every second layer, a tower."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block, Span
from advisor_mcp.anatomy.multimodal import filled, joined
from advisor_mcp.anatomy.nested import INSIDE, text_part, tie, vision_part
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    Draft,
    Experts,
    Feed,
    Gated,
    Grouped,
    Mixture,
    assemble,
    by_kind,
    embedding_block,
    expert_axes,
    grouped_axes,
    head_block,
    pre_norm_layer,
)
from advisor_mcp.anatomy.towers import PATCHES, TOKENS, Layer, vit_axes
from advisor_mcp.anatomy.variants import GatedFeed
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("llama4", "llama4_text")
LAYER_KINDS = {"full_attention": "full", "chunked_attention": "chunked"}
DEFAULTS = {
    "vocab_size": 202_048, "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16_384,
    "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "num_experts_per_tok": 1,
    "num_local_experts": 16, "interleave_moe_layer_step": 1, "attention_chunk_size": 8192, "no_rope_layer_interval": 4,
}  # fmt: skip
MIXTURE = Mixture(
    Experts(router="feed_forward.router", prefix="feed_forward.experts.", layout="stacked"),
    Gated(axis="shared_ffn", role="shared_expert"),
    "feed_forward.shared_expert.",
)
DENSE = GatedFeed(prefix="feed_forward.")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Llama4Config (text and vision) or Llama4TextConfig."""
    if c.text("model_type") == "llama4_text":
        c.number("hidden_size")
        return _decoder(filled(c, "Llama4TextConfig", DEFAULTS), "llama4_text", c.flag("tie_word_embeddings"))
    text = text_part(c)
    inner = _decoder(filled(text, "Llama4TextConfig", DEFAULTS), "llama4", tie(c, text, default=False))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers = _tower(vision, inner.sizes["h"], sizes) if vision else []
    return joined(c, "llama4", inner, towers, sizes, INSIDE, missing)


def _decoder(c: Config, family: str, tied: bool) -> Architecture:
    layers, bias = c.layers(), c.flag("attention_bias")
    moe, reach = _moe(c, layers), _reach(c, layers)
    spans = {"full": Span(), "chunked": Span(chunk=c.optional("attention_chunk_size"))}
    attention = Grouped(q_bias=bias, kv_bias=bias, o_bias=bias)
    feeds: dict[str, Feed] = {"moe": MIXTURE, "dense": DENSE}
    sizes = grouped_axes(c) | {"vocab": c.number("vocab_size")}
    if any(moe):
        sizes |= expert_axes(c, "num_local_experts", width="intermediate_size")
        sizes["shared_ffn"] = sizes["moe_ffn"]
    if not all(moe):
        sizes["ffn"] = c.number("intermediate_size_mlp")

    def layer(b: Draft, kind: str) -> None:
        seen, feed = kind.split("-")
        pre_norm_layer(b, attention, feeds[feed], spans[seen])

    kinds = [f"{seen}-{'moe' if routed else 'dense'}" for seen, routed in zip(reach, moe, strict=True)]
    derived = GROUPED_DERIVED | ({"gate_up": ((2, ("moe_ffn",)),)} if any(moe) else {})
    blocks = [embedding_block(), *by_kind(kinds, layer), head_block("model.embed_tokens.weight", tied)]
    return assemble(c, family, blocks, sizes, derived, tied, [spans[kind] for kind in dict.fromkeys(reach)])


def _moe(c: Config, layers: int) -> list[bool]:
    listed = c.numbers("moe_layers")
    if listed is None:
        step = c.number("interleave_moe_layer_step")
        return [index % step == step - 1 for index in range(layers)]
    return [index in set(listed) for index in range(layers)]


def _reach(c: Config, layers: int) -> list[str]:
    """Layers without rotary positions see everything, the others the chunk they stand in."""
    listed = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    if listed is not None:
        return listed
    rotary = c.numbers("no_rope_layers")  # 1 where a layer has rotary positions, despite the name
    if not rotary:
        every = c.number("no_rope_layer_interval")
        rotary = [int((index + 1) % every != 0) for index in range(layers)]
    if len(rotary) != layers:
        raise UsageError(f"{c.prefix}no_rope_layers in the configuration has {len(rotary)} entries for {layers} layers")
    return ["chunked" if entry else "full" for entry in rotary]


VISION = {
    "hidden_size": 768, "intermediate_size": 5632, "num_hidden_layers": 34, "num_attention_heads": 16, "image_size": 448,
    "patch_size": 14, "vision_output_dim": 7680, "projector_input_dim": 4096, "projector_output_dim": 4096,
}  # fmt: skip
LAYER = Layer(
    ("input_layernorm", "", "post_attention_layernorm", ""), ("q_proj", "k_proj", "v_proj", "o_proj"),
)  # fmt: skip


def _tower(c: Config, text_width: int, sizes: dict[str, int]) -> list[Block]:
    """A class token, learned and rotary positions; four patches side by side become one that two matrices project."""
    c = filled(c, "Llama4VisionConfig", VISION)
    _, channels, patch, _ = vit_axes(c, sizes)
    sizes["vision.pixels"] = int(channels) * int(patch) ** 2
    for axis, field in (
        ("joined", "projector_input_dim"),
        ("adapted", "projector_output_dim"),
        ("out", "vision_output_dim"),
    ):
        sizes[f"vision.{axis}"] = c.number(field)
    first = Draft("vision-embedding", "vision_model.", PATCHES)
    first.linear("patch_embedding.linear", "pixels", "patches", ("vision.h", "vision.pixels"), "vision")
    first.tensor("class_embedding", ("vision.h",), "vision")
    first.tensor("positional_embedding_vlm", ("vision.tokens", "vision.h"), "vision")
    first.norm("layernorm_pre", "patches", "x", "layer", "vision.h", "vision", (*TOKENS, "vision.h"))
    last = Draft("vision-projector", "", ("images", "vision.shuffled"))
    last.norm("vision_model.layernorm_post", "x", "n", "layer", "vision.h", "vision", (*TOKENS, "vision.h"))
    last.linear("vision_model.vision_adapter.mlp.fc1", "n", "p1", ("vision.joined", "vision.ffn"), "vision")
    last.linear("vision_model.vision_adapter.mlp.fc2", "p1", "p2", ("vision.adapted", "vision.adapted"), "vision")
    last.linear("multi_modal_projector.linear_1", "p2", "soft", (text_width, "vision.out"), "vision")
    layers = LAYER.block("vision-layer", "vision_model.model.layers.{layer}.", c.layers(), TOKENS)
    return [first.block((0,), "vision"), layers, last.block((0,), "vision")]
