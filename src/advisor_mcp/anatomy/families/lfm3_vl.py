"""LFM3-VL: an LFM3 decoder behind a tower that is mostly short convolutions over space, with attention at a few places."""

from __future__ import annotations

from dataclasses import replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Block
from advisor_mcp.anatomy.multimodal import LANGUAGE_MODEL, filled, joined
from advisor_mcp.anatomy.nested import decoder, vision_part
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.projectors import Projector
from advisor_mcp.anatomy.towers import PATCHES, Layer

MODEL_TYPES = ("lfm3_vl",)
VISION = {
    "hidden_size": 1024, "intermediate_size": 2560, "num_hidden_layers": 14, "num_attention_heads": 16,
    "num_key_value_heads": 8, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3,
    "conv_kernel_size": 3,
}  # fmt: skip
KINDS = {"conv": "conv", "full_attention": "attention"}
ROOT = "model.vision_tower."
ATTENTION = Layer(
    ("operator_norm", "", "ffn_norm", ""), norm="rms", feed=("feed_forward.w1", "feed_forward.w3", "feed_forward.w2"),
    bias=(False, False, False, False), feed_bias=(False, False, False), qk_norm="vision.hd",
)  # fmt: skip


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Lfm3VlConfig; the head is tied unless the top level denies it."""
    inner = decoder(c, "lfm3", c.flag("tie_word_embeddings", default=True))
    vision, missing = vision_part(c)
    sizes: dict[str, int] = {}
    towers: list[Block] = []
    if vision is not None:
        vision = filled(vision, "Lfm3VlVisionConfig", VISION)
        towers = [*_tower(vision, sizes), _projector(c, vision, sizes, inner.sizes["h"])]
    return joined(c, "lfm3_vl", inner, towers, sizes, LANGUAGE_MODEL, missing)


def _tower(c: Config, sizes: dict[str, int]) -> list[Block]:
    h, heads, kv_heads = c.number("hidden_size"), c.number("num_attention_heads"), c.number("num_key_value_heads")
    hd = c.divides(h, heads, "the vision heads do not divide its hidden_size")
    c.divides(heads, kv_heads, "the vision KV heads do not divide its heads")
    pixels = c.number("in_channels") * c.number("temporal_patch_size") * c.number("patch_size") ** 2
    sizes |= {"vision.h": h, "vision.q": h, "vision.kv": kv_heads * hd, "vision.hd": hd, "vision.pixels": pixels}
    sizes |= {"vision.ffn": c.number("intermediate_size"), "vision.b_c_x": 3 * h}
    first = Draft("vision-embedding", ROOT, PATCHES)
    first.linear("patch_embed", "pixels", "x", ("vision.h", "vision.pixels"), "vision")
    last = Draft("vision-norm", ROOT, PATCHES)
    last.norm("embedding_norm", "x", "n", "rms", "vision.h", "vision")
    kinds = _kinds(c)
    near = tuple(index for index, kind in enumerate(kinds) if kind == "conv")
    far = tuple(index for index, kind in enumerate(kinds) if kind == "attention")
    layers = [_convolution(near, c.number("conv_kernel_size"))] if near else []
    attention = ATTENTION.block("vision-attention", f"{ROOT}layers.{{layer}}.", len(far))
    layers += [replace(attention, layers=far)] if far else []
    return [first.block((0,), "vision"), *layers, last.block((0,), "vision")]


def _kinds(c: Config) -> list[str]:
    """Listed, or attention in every second layer from the third on."""
    layers = c.layers()
    found = ["conv" if index < 2 or index % 2 else "attention" for index in range(layers)]
    return c.layer_kinds("layer_types", layers, KINDS) or found


def _convolution(layers: tuple[int, ...], side: int) -> Block:
    """A convolution of each channel over neighbouring patches, gated before and after; then a gated MLP."""
    b = Draft("vision-conv", f"{ROOT}layers.{{layer}}.", PATCHES)
    wide: Axes = (*PATCHES, "vision.h")
    b.value("x", wide)
    b.norm("operator_norm", "x", "a", "rms", "vision.h", "vision")
    b.linear("conv.in_proj", "a", "b_c_x", ("vision.b_c_x", "vision.h"), "vision")
    b.op("gate", ("b_c_x",), "bx", wide)
    kernel = b.tensor("conv.spatial_conv.weight", ("vision.h", 1, side, side), "vision")
    b.op("convolution", ("bx",), "xc", wide, ((2, (*wide, side, side)),), [kernel])
    b.op("gate", ("xc", "b_c_x"), "cx", wide)
    b.linear("conv.out_proj", "cx", "o", ("vision.h", "vision.h"), "vision")
    b.add("x", "o", "r")
    b.norm("ffn_norm", "r", "m", "rms", "vision.h", "vision")
    for name, out in (("w1", "gate"), ("w3", "up")):
        b.linear(f"feed_forward.{name}", "m", out, ("vision.ffn", "vision.h"), "vision")
    b.op("gate", ("gate", "up"), "act", (*PATCHES, "vision.ffn"))
    b.linear("feed_forward.w2", "act", "y", ("vision.h", "vision.ffn"), "vision")
    b.add("r", "y", "out")
    return b.block(layers, "vision")


def _projector(c: Config, vision: Config, sizes: dict[str, int], width: int) -> Block:
    bias = c.flag("projector_bias", default=True)
    projector = Projector("model.multi_modal_projector.", bias=bias, norm="layer_norm", norm_axis="vision.h")
    between = c.number("projector_hidden_size", default=4096, of="Lfm3VlConfig")
    return projector.block(sizes, sizes["vision.h"] * vision.number("spatial_merge_size") ** 2, between, width)
