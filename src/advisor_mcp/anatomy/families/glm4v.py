"""GLM-4.1V, 4.5V and 4.6V: a GLM-4 decoder, dense or with experts, behind a tower that joins patches by a convolution."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.glm4 import describe as glm4
from advisor_mcp.anatomy.families.glm4_moe import describe as glm4_moe
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, filled, joined, with_fields
from advisor_mcp.anatomy.nested import text_part, vision_part
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.projectors import tied_either
from advisor_mcp.anatomy.towers import PATCHES, convolve
from advisor_mcp.errors import CannotAnswer, shown

MODEL_TYPES = ("glm4v", "glm4v_moe", "glm46v")
DENSE = {
    "vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40, "num_attention_heads": 32,
    "num_key_value_heads": 2,
}  # fmt: skip
EXPERTS = {
    "vocab_size": 151424, "hidden_size": 4096, "intermediate_size": 10944, "num_hidden_layers": 46, "num_attention_heads": 96,
    "num_key_value_heads": 8, "attention_bias": True, "moe_intermediate_size": 1408, "num_experts_per_tok": 8,
    "n_shared_experts": 1, "n_routed_experts": 128, "first_k_dense_replace": 1,
}  # fmt: skip
VISION = {
    "depth": 24, "hidden_size": 1536, "num_heads": 12, "image_size": 336, "patch_size": 14, "spatial_merge_size": 2,
    "temporal_patch_size": 2, "out_hidden_size": 4096, "intermediate_size": 13696,
}  # fmt: skip
ALIASES = {"depth": "num_hidden_layers", "num_heads": "num_attention_heads"}
ROOT = "model.visual."
MERGED: Axes = ("images", "vision.merged_patches")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Glm4vConfig, Glm4vMoeConfig or Glm46VConfig (whose decoder is of either kind)."""
    family = c.text("model_type") or "glm4v"
    text = text_part(c)
    tied = c.flag("tie_word_embeddings") if family == "glm46v" else tied_either(c, text)
    inner = _decoder(text, family, tied)
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        absent = {field: value for field, value in VISION.items() if ALIASES.get(field) not in vision.data}
        towers = _tower(filled(vision, "Glm4vVisionConfig", absent), sizes)
    return joined(c, family, inner, towers, sizes, LANGUAGE_MODEL, missing)


def _decoder(text: Config, family: str, tied: bool) -> Architecture:
    kind = text.text("model_type") or f"{'glm4v_moe' if family == 'glm4v_moe' else 'glm4v'}_text"
    if family != "glm46v":
        kind = f"{family}_text"
    if kind == "glm4v_moe_text":
        text = filled(text, "Glm4vMoeTextConfig", EXPERTS)
        return glm4_moe(with_fields(text, model_type="glm4_moe", use_qk_norm=False, tie_word_embeddings=tied))
    if kind != "glm4v_text":
        raise CannotAnswer(
            f"text_config names the model type {shown(kind)}; described here are glm4v_text and glm4v_moe_text"
        )
    text = filled(text, "Glm4vTextConfig", DENSE)
    h, heads = text.number("hidden_size"), text.number("num_attention_heads")
    head = text.divides(h, heads, "the heads do not divide hidden_size")  # this class knows no head_dim
    return glm4(with_fields(text, model_type="glm4", attention_bias=True, head_dim=head, tie_word_embeddings=tied))


def _tower(c: Config, sizes: dict[str, int]) -> list[Block]:
    """RMSNorm and gated MLPs whose width is the decoder's; 2 x 2 patches joined by a convolution, then one more gated MLP."""
    _sizes(c, sizes)
    side, merge, frames = c.number("patch_size"), c.number("spatial_merge_size"), c.number("temporal_patch_size")
    first, last = Draft("vision-embedding", ROOT, PATCHES), Draft("vision-merger", ROOT, MERGED)
    pixels: Axes = ("vision.h", c.number("in_channels", default=3), frames, side, side)
    convolve(first, "patch_embed.proj", "pixels", "p", pixels, "vision", PATCHES, bias=True)
    first.norm("post_conv_layernorm", "p", "pn", "rms", "vision.h", "vision")
    table = first.tensor("embeddings.position_embedding.weight", ("vision.patches", "vision.h"), "vision")
    first.op("lookup", ("pn",), "x", (*PATCHES, "vision.h"), weights=[table])
    last.norm("post_layernorm", "x", "n", "rms", "vision.h", "vision", (*PATCHES, "vision.h"))
    square: Axes = ("vision.out", "vision.h", merge, merge)
    convolve(last, "downsample", "n", "d", square, "vision", MERGED, bias=True)
    _merge(last)
    layers = _layer(c.flag("attention_bias"), c.layers("depth", "num_hidden_layers"))
    return [first.block((0,), "vision"), layers, last.block((0,), "vision")]


def _sizes(c: Config, sizes: dict[str, int]) -> None:
    width, heads = c.number("hidden_size"), c.number("num_heads", "num_attention_heads")
    sizes |= {
        "vision.h": width, "vision.qkv": 3 * width, "vision.out": c.number("out_hidden_size"),
        "vision.ffn": c.number("intermediate_size"), "vision.hd": c.divides(width, heads, "the vision heads do not divide its width"),
        "vision.patches": (c.number("image_size") // c.number("patch_size")) ** 2,
    }  # fmt: skip


def _layer(bias: bool, layers: int) -> Block:
    b = Draft("vision-layer", f"{ROOT}blocks.{{layer}}.", PATCHES)
    b.value("x", (*PATCHES, "vision.h"))
    b.norm("norm1", "x", "a", "rms", "vision.h", "vision")
    b.linear("attn.qkv", "a", "qkv", ("vision.qkv", "vision.h"), "vision", bias)
    b.op("attention", ("qkv",), "att", (*PATCHES, "vision.h"), ((4, (*PATCHES, "vision.patches", "vision.h")),))
    b.linear("attn.proj", "att", "o", ("vision.h", "vision.h"), "vision")
    b.add("x", "o", "r")
    b.norm("norm2", "r", "m", "rms", "vision.h", "vision")
    _gated(b, "mlp.", "m", "vision.h", "vision.out")
    b.add("r", "y", "out")
    return b.block(tuple(range(layers)), "vision")


def _merge(b: Draft) -> None:
    b.linear("merger.proj", "d", "p", ("vision.out", "vision.out"), "vision")
    b.norm("merger.post_projection_norm", "p", "pn", "layer", "vision.out", "vision")
    _gated(b, "merger.", "pn", "vision.out", "vision.ffn")


def _gated(b: Draft, prefix: str, source: str, width: str, between: str) -> None:
    for name in ("gate", "up"):
        b.linear(f"{prefix}{name}_proj", source, name, (between, width), "vision")
    b.op("gate", ("gate", "up"), "act", (*b.tokens, between))
    b.linear(f"{prefix}down_proj", "act", "y", (width, between), "vision")
